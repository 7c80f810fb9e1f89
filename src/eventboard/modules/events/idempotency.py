"""Exactly once: a write that carries an idempotency key happens once, however often it is sent.

One transaction holds it all: the lock on the key, the look-up, the work with its history, the stored outcome. A crash
leaves all of it or nothing; the lock goes with the transaction, so no key is ever stuck. The lock comes before the
look-up, in a statement of its own: the look-up's snapshot then sees what the lock's last holder committed.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from math import inf
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from eventboard.modules.events import store
from eventboard.modules.events.contract import Event, FindKey, KeyReport, KeyState, Written
from eventboard.platform import context
from eventboard.platform.contract import KEY_FIELD, IdempotencyKey
from eventboard.platform.database import Connection, Database, LockedError
from eventboard.platform.errors import Code, FieldError, KeyStatus, ServiceError
from eventboard.platform.identity import Principal
from eventboard.platform.tracing import FIRST, IDEMPOTENCY, Span

# Seconds that the outcome of a client's request is kept: promised.
LIFETIME = 24 * 60 * 60
# Refusals that the event's state decided. Others may be decided otherwise next time, and are not kept.
STORED_REFUSALS = frozenset({Code.WRONG_STATE, Code.NOT_FOUND, Code.VERSION_CHANGED})
# Seconds: a request that waits for the first one with its key looks again after this, doubled up to the longest.
FIRST_LOOK, LONGEST_LOOK = 0.01, 0.2
# Seconds before the end of its budget at which it gives up, so that an answer still reaches the client.
GIVES_UP = 0.5
RETRY_AFTER = 1

Work = Callable[[Connection], Awaitable[Event | None]]


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What is stored: the event as it was answered (None once deleted), or the refusal."""

    event: Event | None = None
    code: Code | None = None
    detail: str = ""
    errors: tuple[FieldError, ...] = ()

    def written(self, status: KeyStatus | None) -> Written:
        """Raises the refusal, if it is one."""
        if self.code is not None:
            raise ServiceError(self.code, self.detail, self.errors, key_status=status)
        return Written(self.event, status)


class Request(Struct, frozen=True):
    """What makes a request the same as another with the same key; the two hashes let a refusal say which differs."""

    operation: str
    target: UUID | None
    payload: bytes

    @classmethod
    def of(cls, operation: str, command: Any) -> "Request":
        """Actor, key and target are not payload. Defaults are left out: a new optional field breaks no retry."""
        target = getattr(command, "event_id", None)
        fields = msgspec.to_builtins(command, builtin_types=(datetime, UUID))
        payload = {name: value for name, value in fields.items() if name not in ("actor", "event_id", KEY_FIELD)}
        text = msgspec.msgpack.encode(payload, order="deterministic")
        return cls(operation, target, hashlib.sha256(text).digest())


async def once(
    database: Database, caller: Principal, operation: str, command: Any, forbidden: ServiceError | None, work: Work
) -> Written:
    """Does `work` in a transaction and stores its outcome, or answers with the outcome that is stored already.

    A refusal that the state decided is an outcome: `work` decides before it writes, so that nothing but the key's
    record is committed with it. Whatever else `work` raises rolls everything back, and the key may be used again.
    `forbidden` is what a caller is told whose role doesn't allow the operation as such: for them nothing is stored, and
    nothing that is stored is told.
    """
    key: IdempotencyKey | None = command.idempotency_key
    if key is None:
        # What it writes is one statement, guarded by the version that was judged: a transaction of its own.
        async with database.reading(caller.organization_id, caller.user_id) as connection:
            return Written(await work(connection))
    request = Request.of(operation, command)
    lock = _lock_of(caller, key.value)
    told = key.lifetime is None  # of a key that an adapter made, the client knows nothing
    look_for = store.KEY_IS_KNOWN.inlined(**_scope(caller, key.value))
    look, found = FIRST_LOOK, None
    while found is None:
        try:
            async with database.transaction(
                caller.organization_id, caller.user_id, lock=lock, look_for=look_for
            ) as connection:
                if connection.found:
                    found = await connection.one(store.FIND_KEY, **_scope(caller, key.value))
                if found is None:
                    outcome = await _outcome(work, connection, keep=forbidden is None)
                    connection.last = _storing(caller, key, request, outcome, expired=connection.found)
            if found is None:
                # Told after the commit, and not before.
                return outcome.written(KeyStatus.EXECUTED if told else None)
        except asyncpg.UniqueViolationError as error:
            # Can't be while the lock holds; the primary key is the last judge, and without a record there is no write.
            if error.constraint_name != store.KEYS:
                raise
            raise ServiceError(
                Code.UNAVAILABLE, "The idempotency key's record can't be kept now.", retry_after=RETRY_AFTER
            ) from None
        except LockedError:
            # Waits without a connection: whoever holds the key may need one.
            left = _patience(told)
            if left <= 0:
                raise ServiceError(
                    Code.REQUEST_IN_PROGRESS,
                    "The first request with this idempotency key is still running.",
                    retry_after=RETRY_AFTER,
                ) from None
            with Span(FIRST):
                await asyncio.sleep(min(look, left))
            look = min(2 * look, LONGEST_LOOK)
            # What is stored is final, and read without the lock, for which all who wait would have to queue.
            with Span(IDEMPOTENCY):
                async with database.reading(caller.organization_id, caller.user_id) as connection:
                    found = await connection.one(store.FIND_KEY, **_scope(caller, key.value))
    _compare(found, request)
    if forbidden is not None:
        raise forbidden
    return msgspec.msgpack.decode(found["outcome"], type=Outcome).written(KeyStatus.REPLAYED if told else None)


def _patience(told: bool) -> float:
    """Seconds that a request may wait for the first one with its key.

    A client that sent no key isn't told that one is in use: it waits until its budget ends, and doesn't know then
    whether the write happened.
    """
    left = context.remaining()
    return inf if left is None or not told else left - GIVES_UP


async def report(database: Database, caller: Principal, query: FindKey) -> KeyReport:
    async with database.reading(caller.organization_id, caller.user_id) as connection:
        # In this order: what ends in between is found done, and never unknown.
        lock = _lock_of(caller, query.key)
        (running,) = await connection.all(store.LOCKED, high=lock >> 32 & 0xFFFFFFFF, low=lock & 0xFFFFFFFF)
        found = await connection.one(store.REPORT_KEY, **_scope(caller, query.key))
    if found is None:
        return KeyReport(state=KeyState.RUNNING if running[0] else KeyState.UNKNOWN)
    outcome = msgspec.msgpack.decode(found["outcome"], type=Outcome)
    return KeyReport(
        state=KeyState.DONE,
        operation=found["operation"],
        code=outcome.code,
        at=found["created_at"],
        resource=outcome.event.id if outcome.event else found["target"],
        correlation_id=found["correlation_id"],
    )


async def _outcome(work: Work, connection: Connection, *, keep: bool) -> Outcome:
    try:
        return Outcome(event=await work(connection))
    except ServiceError as error:
        if not keep or error.code not in STORED_REFUSALS:
            raise
        return Outcome(code=error.code, detail=error.detail, errors=error.errors)


def _storing(caller: Principal, key: IdempotencyKey, request: Request, outcome: Outcome, *, expired: bool) -> str:
    """The statements that keep the outcome, in place of one that has `expired`."""
    scope = _scope(caller, key.value)
    stored = store.STORE_KEY.inlined(
        **scope,
        operation=request.operation,
        target=request.target,
        payload=request.payload,
        outcome=msgspec.msgpack.encode(outcome),
        correlation_id=context.current().correlation_id,
        lifetime=key.lifetime or LIFETIME,
    )
    return f"{store.REMOVE_EXPIRED_KEY.inlined(**scope)}; {stored}" if expired else stored


def _compare(found: Any, request: Request) -> None:
    differs = [name for name in ("operation", "target", "payload") if found[name] != getattr(request, name)]
    if differs:
        raise ServiceError(
            Code.IDEMPOTENCY_KEY_REUSED,
            f"This idempotency key was used for a request with another {', '.join(differs)}.",
        )


def _scope(caller: Principal, key: str) -> dict[str, Any]:
    return {"organization_id": caller.organization_id, "user_id": caller.user_id, "key": key}


def _lock_of(caller: Principal, key: str) -> int:
    """64 bits: two keys that share a lock by chance wait for each other, and nothing worse."""
    text = caller.organization_id.bytes + caller.user_id.bytes + key.encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
