"""Idempotency keys: a write that carries one takes effect once, however often it is sent.

One transaction holds everything: the lock on the key, the lookup, the change with its history entry, and the stored
outcome. A crash leaves all of it or none. PostgreSQL releases the lock with the transaction, so no key is ever stuck.
The lock is acquired in a statement before the lookup, so that the lookup sees what the lock's last holder committed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from math import inf
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.contract import KEY_FIELD, IdempotencyKey
from eventboard.core.errors import Code, FieldError, KeyStatus, ServiceError
from eventboard.db.database import Connection, Database, LockedError
from eventboard.identity.access_tokens import Principal
from eventboard.modules.events import lifecycle, repository
from eventboard.modules.events.contract import (
    Action,
    CreateEvent,
    Event,
    EventCommand,
    FindKey,
    KeyReport,
    KeyState,
    UpdateEvent,
    Written,
)
from eventboard.modules.events.quotas import Quotas
from eventboard.observability.tracing import FIRST, IDEMPOTENCY, RECORD, step

# Seconds for which the outcome of a client's request is stored.
LIFETIME = 24 * 60 * 60
# Rejections that the event's state decided. Others may turn out otherwise next time, and are not stored.
STORED_REJECTIONS = frozenset({Code.WRONG_STATE, Code.NOT_FOUND, Code.VERSION_CHANGED})
# Seconds between two lookups of a request that waits for the first one with its key; they double up to the longest.
SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.2
# Seconds before the end of its budget at which such a request gives up, so that a response still reaches the client.
GIVE_UP_BEFORE = 0.5
RETRY_AFTER = 1

# Bytes up to which the outcome of a change that changed nothing is stored with its key. A larger one is stored once for
# all keys with this outcome. Otherwise each key of an empty PATCH would store the whole event.
MAX_INLINE = 1024
# The parts of a `Request`, as clients know them.
_PARTS = (("operation", "operation"), ("target", "event"), ("payload", "body or If-Match"))
# The key of a shared outcome contains its hash. It has a space, which no client's and no adapter's key has.
SHARED_KEY = "body {}"
SHARED_LIFETIME = 2 * LIFETIME


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What is stored: the event as it was returned (None once deleted), or the rejection.

    `body` is the key of a shared outcome. `code` and `detail` are then for an older version, which doesn't know the
    field and may run at the same time. `version` is that of a `version-changed`.
    """

    event: Event | None = None
    code: Code | None = None
    detail: str = ""
    errors: tuple[FieldError, ...] = ()
    body: str | None = None
    version: int | None = None


class Request(Struct, frozen=True):
    """What two requests with the same key must have in common. It is in three parts, so that an error can name one."""

    operation: str
    target: UUID | None
    payload: bytes

    @classmethod
    def of(cls, operation: str, command: Any) -> "Request":
        """Actor, key and target are not in the payload. Neither are defaults, so that a field that is added to the
        contract doesn't break the retries of requests from before.
        """
        target = getattr(command, "event_id", None)
        fields = msgspec.to_builtins(command, builtin_types=(datetime, UUID))
        payload = {name: value for name, value in fields.items() if name not in ("actor", "event_id", KEY_FIELD)}
        text = msgspec.msgpack.encode(payload, order="deterministic")
        return cls(operation, target, hashlib.sha256(text).digest())


class Record(Struct, frozen=True):
    """A user's idempotency key, and the request that carries it."""

    caller: Principal
    key: IdempotencyKey
    request: Request

    @property
    def from_client(self) -> bool:
        """An adapter creates a key for its own retries, of which the client must not notice anything."""
        return self.key.lifetime is None

    async def find(self, connection: Connection) -> Outcome | None:
        """The stored outcome, if there is one. Raises `idempotency-key-reused` for that of a different request."""
        with step(IDEMPOTENCY):
            row = await connection.one(repository.FIND_KEY, **_columns(self.caller, self.key.value))
            if row is None:
                return None
            if differs := [what for name, what in _PARTS if row[name] != getattr(self.request, name)]:
                raise ServiceError(
                    Code.IDEMPOTENCY_KEY_REUSED,
                    f"This idempotency key was used for a request with another {', '.join(differs)}."
                    " Use a new key for a new request.",
                )
            outcome = msgspec.msgpack.decode(row["outcome"], type=Outcome)
            if outcome.body is not None:
                shared = await connection.one(repository.FIND_KEY, **_columns(self.caller, outcome.body))
                if shared is not None:
                    outcome = msgspec.msgpack.decode(shared["outcome"], type=Outcome)
            return outcome

    async def store(self, connection: Connection, outcome: Outcome, *, shared: bool = False) -> None:
        """`shared`: many keys may have this outcome."""
        encoded = msgspec.msgpack.encode(outcome)
        correlation_id = request_context.current().correlation_id
        with step(RECORD):
            if shared and len(encoded) > MAX_INLINE:
                body = SHARED_KEY.format(hashlib.sha256(encoded).hexdigest())
                await connection.run(
                    repository.STORE_SHARED_OUTCOME,
                    **_columns(self.caller, body),
                    outcome=encoded,
                    lifetime=SHARED_LIFETIME,
                    least=LIFETIME,
                    operation=self.request.operation,
                    correlation_id=correlation_id,
                )
                detail = "The outcome of this key can't be read while the service is being upgraded."
                encoded = msgspec.msgpack.encode(Outcome(code=Code.UNAVAILABLE, detail=detail, body=body))
            stored = await connection.one(
                repository.STORE_KEY,
                **_columns(self.caller, self.key.value),
                operation=self.request.operation,
                target=self.request.target,
                payload=self.request.payload,
                outcome=encoded,
                correlation_id=correlation_id,
                lifetime=self.key.lifetime or LIFETIME,
            )
        if stored is None:
            # The lock rules this out. If it happens all the same, the primary key prevents the write.
            raise ServiceError(
                Code.UNAVAILABLE, "The idempotency key's record can't be kept now.", retry_after=RETRY_AFTER
            )


class Scope:
    """The transaction of one command. `replayed` is the stored result of an earlier request with the same key; if it is
    set, there is nothing left to do.
    """

    def __init__(
        self, connection: Connection, record: Record | None = None, *, replayed: Written | None = None
    ) -> None:
        self.connection = connection
        self.replayed = replayed
        self.stored = False
        self._record = record

    async def store(self, event: Event | None, *, changed: bool = True) -> Written:
        """Stores the event as the command's outcome, if the command has a key, and returns the command's result."""
        self.stored = True
        if self._record is None:
            return Written(event)
        shared = self._record.from_client and not changed
        await self._record.store(self.connection, Outcome(event=event), shared=shared)
        return Written(event, KeyStatus.EXECUTED if self._record.from_client else None)


class Idempotency:
    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    @asynccontextmanager
    async def scope(
        self, caller: Principal, action: Action, command: CreateEvent | UpdateEvent | EventCommand
    ) -> AsyncIterator[Scope]:
        """One transaction, in which a command runs, or is replayed. It commits at the end of the block.

        If the block raises one of STORED_REJECTIONS, that is the outcome, and committed with the key: a command has to
        decide before it writes. Any other error rolls back everything, and the key can be used again. Where the
        caller's role doesn't allow the action, nothing is stored and nothing is replayed.
        """
        key = command.idempotency_key
        if key is None:
            # A new event is one statement, which is a transaction by itself.
            begin = self._database.reading if action is Action.CREATE else self._database.transaction
            async with begin(caller.organization_id, caller.user_id) as connection:
                yield Scope(connection)
            return
        record = Record(caller, key, Request.of(f"events.{action}", command))
        role_allows = lifecycle.role_may(caller.role, action)
        rejection = None
        async with AsyncExitStack() as stack:
            connection, outcome = await self._lock_or_find(stack, record)
            if outcome is not None:
                if not role_allows:
                    raise ServiceError(Code.FORBIDDEN, f"You may not {action} events in your role, {caller.role}.")
                yield Scope(connection, replayed=_replay(outcome, record))
                return
            if record.from_client:
                await self._quotas.charge_key(connection, caller)
            scope = Scope(connection, record)
            try:
                yield scope
                if not scope.stored:
                    raise RuntimeError(f"The command {action} has stored no outcome under its key.")
            except ServiceError as error:
                if not role_allows or error.code not in STORED_REJECTIONS:
                    raise
                rejected = Outcome(code=error.code, detail=error.detail, errors=error.errors, version=error.version)
                await record.store(connection, rejected)
                rejection = error
        if rejection is not None:
            # Only now that it is committed.
            rejection.key_status = KeyStatus.EXECUTED if record.from_client else None
            raise rejection

    async def _lock_or_find(self, stack: AsyncExitStack, record: Record) -> tuple[Connection, Outcome | None]:
        """Opens a transaction that holds the key's lock. Waits while another request holds it, until that has stored an
        outcome or rolled back.
        """
        caller, wait = record.caller, SHORTEST_WAIT
        lock = _lock_number(caller, record.key.value)
        while True:
            transaction = self._database.transaction(caller.organization_id, caller.user_id, lock=lock)
            try:
                connection = await stack.enter_async_context(transaction)
            except LockedError:
                await _wait_for_first(record, wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                return connection, await record.find(connection)
            # A stored outcome is final, so it is read without the lock, for which all waiting requests would queue.
            reading = self._database.reading(caller.organization_id, caller.user_id)
            connection = await stack.enter_async_context(reading)
            outcome = await record.find(connection)
            if outcome is not None:
                return connection, outcome
            await stack.aclose()

    async def report(self, caller: Principal, query: FindKey) -> KeyReport:
        """What became of a key."""
        lock = _lock_number(caller, query.key)
        async with self._database.reading(caller.organization_id, caller.user_id) as connection:
            # In this order, a request that ends between the two statements is reported as done, and never as unknown.
            (running,) = await connection.all(repository.LOCKED, high=lock >> 32 & 0xFFFFFFFF, low=lock & 0xFFFFFFFF)
            row = await connection.one(repository.FIND_KEY, **_columns(caller, query.key))
        if row is None:
            return KeyReport(state=KeyState.RUNNING if running[0] else KeyState.UNKNOWN)
        outcome = msgspec.msgpack.decode(row["outcome"], type=Outcome)
        return KeyReport(
            state=KeyState.DONE,
            operation=row["operation"],
            code=None if outcome.body else outcome.code,
            at=row["created_at"],
            resource=outcome.event.id if outcome.event else row["target"],
            correlation_id=row["correlation_id"],
        )


async def _wait_for_first(record: Record, seconds: float) -> None:
    """Waits without a connection, as the request that holds the key's lock may need one.

    A client that sent no key must not learn that there is one. Its request waits until its budget ends, and the client
    doesn't know then whether the write happened.
    """
    left = request_context.remaining() if record.from_client else None
    left = inf if left is None else left - GIVE_UP_BEFORE
    if left <= 0:
        raise ServiceError(
            Code.REQUEST_IN_PROGRESS,
            "The first request with this idempotency key is still running.",
            retry_after=RETRY_AFTER,
        ) from None
    with step(FIRST):
        await asyncio.sleep(min(seconds, left))


def _replay(outcome: Outcome, record: Record) -> Written:
    """Raises the outcome if it is a rejection."""
    status = KeyStatus.REPLAYED if record.from_client else None
    if outcome.code is not None:
        raise ServiceError(outcome.code, outcome.detail, outcome.errors, key_status=status, version=outcome.version)
    return Written(outcome.event, status)


def _columns(caller: Principal, key: str) -> dict[str, Any]:
    """The primary key of a key's record."""
    return {"organization_id": caller.organization_id, "user_id": caller.user_id, "key": key}


def _lock_number(caller: Principal, key: str) -> int:
    """64 bits. Two keys with the same number by chance wait for each other, which does no harm."""
    text = caller.organization_id.bytes + caller.user_id.bytes + key.encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
