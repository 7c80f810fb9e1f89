"""The events module: what members and moderators do with events.

Every command runs the same way, in one transaction. It loads the event, checks that it may be changed (lifecycle.py),
and writes it and its history entry in one statement. The statement has no effect if the event is no longer the version
that was loaded. Then another request was faster, and the command loads and checks the event again. This time it is
locked, so that this happens only once.
"""

from functools import partial
from typing import Any
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import asdict, replace

from eventboard.core import request_context
from eventboard.core.ids import uuid7
from eventboard.db.database import Connection, Database, Statement
from eventboard.identity.access_tokens import Principal, Verify
from eventboard.modules.events import history, lifecycle, listing, repository, validation
from eventboard.modules.events.contract import (
    Action,
    CreateEvent,
    Event,
    EventCommand,
    EventPage,
    FindEvent,
    FindEvents,
    FindHistory,
    FindKey,
    History,
    KeyReport,
    Status,
    UpdateEvent,
    Written,
)
from eventboard.modules.events.idempotency import Idempotency
from eventboard.modules.events.listing_limiter import ListingLimiter
from eventboard.modules.events.quotas import Quotas

# What members can do over and over. A quota never stops a moderator's decision or the end of an event: each of them
# follows one of these.
CHARGED = frozenset({Action.UPDATE, Action.SUBMIT, Action.WITHDRAW})


class EventsService:
    def __init__(self, database: Database, verify: Verify, limiter: ListingLimiter, quotas: Quotas) -> None:
        self._database = database
        self._verify = verify
        self._limiter = limiter
        self._quotas = quotas
        self._idempotency = Idempotency(database, quotas)
        # Loaded here, so that the first request doesn't wait for it.
        validation.time_zones()

    async def create(self, command: CreateEvent) -> Written:
        caller = await self._verify(command.actor)
        content = validation.validated(asdict(command.draft))
        if command.draft.time_zone == validation.DEFAULT_TIME_ZONE:
            # For its idempotency key, this is the same request as one that leaves the default out.
            command = replace(command, draft=replace(command.draft, time_zone=None))
        async with self._idempotency.scope(caller, Action.CREATE, command) as scope:
            if scope.replayed is not None:
                return scope.replayed
            await self._quotas.charge_event(scope.connection, caller, content)
            (row,) = await scope.connection.all(
                repository.CREATE,
                event_id=uuid7(),
                status=lifecycle.INITIAL,
                **content,
                **_entry(caller, Action.CREATE),
            )
            return await scope.store(Event(*row))

    async def find_one(self, query: FindEvent) -> Event:
        caller = await self._verify(query.actor)
        row = await self._database.row(
            caller.organization_id,
            caller.user_id,
            repository.FIND,
            organization_id=caller.organization_id,
            event_id=query.event_id,
        )
        return _visible(caller, row)

    async def find_all(self, query: FindEvents) -> EventPage:
        caller = await self._verify(query.actor)
        async with self._limiter.slot(caller, search=query.query.search is not None) as seconds:
            rows_of = partial(self._database.rows, caller.organization_id, caller.user_id, within=seconds)
            return await listing.find(rows_of, caller, query.query)

    async def update(self, command: UpdateEvent) -> Written:
        caller = await self._verify(command.actor)
        patch = validation.validated(
            {name: value for name, value in asdict(command.patch).items() if value is not UNSET}
        )
        async with self._idempotency.scope(caller, Action.UPDATE, command) as scope:
            if scope.replayed is not None:
                return scope.replayed
            find = repository.FIND
            while True:
                event = await _load(scope.connection, find, caller, command.event_id)
                lifecycle.check_edit(caller, event, command.if_match)
                content = _content(event) | validation.validated(patch, stored=_content(event))
                if content == _content(event):
                    return await scope.store(event, changed=False)
                await self._quotas.charge_change(scope.connection, caller, event, content)
                row = await _change(scope.connection, caller, event, content, Action.UPDATE)
                if row is not None:
                    return await scope.store(Event(*row))
                find = repository.FIND_LOCKED

    async def delete(self, command: EventCommand) -> Written:
        caller = await self._verify(command.actor)
        async with self._idempotency.scope(caller, Action.DELETE, command) as scope:
            if scope.replayed is not None:
                return scope.replayed
            find = repository.FIND
            while True:
                event = await _load(scope.connection, find, caller, command.event_id)
                lifecycle.check_delete(caller, event, command.if_match)
                row = await scope.connection.one(
                    repository.DELETE, event_id=event.id, version=event.version, **_entry(caller, Action.DELETE)
                )
                if row is not None:
                    self._quotas.invalidate_bytes(caller.organization_id)
                    return await scope.store(None)
                find = repository.FIND_LOCKED

    async def submit(self, command: EventCommand) -> Written:
        return await self._transition(Action.SUBMIT, command)

    async def approve(self, command: EventCommand) -> Written:
        return await self._transition(Action.APPROVE, command)

    async def reject(self, command: EventCommand) -> Written:
        return await self._transition(Action.REJECT, command)

    async def withdraw(self, command: EventCommand) -> Written:
        return await self._transition(Action.WITHDRAW, command)

    async def cancel(self, command: EventCommand) -> Written:
        return await self._transition(Action.CANCEL, command)

    async def _transition(self, action: Action, command: EventCommand) -> Written:
        """A command that leads an event from one status to another."""
        caller = await self._verify(command.actor)
        target = lifecycle.TRANSITIONS[action].target
        rejection_reason = command.reason if target is Status.REJECTED else None
        async with self._idempotency.scope(caller, action, command) as scope:
            if scope.replayed is not None:
                return scope.replayed
            find = repository.FIND
            while True:
                event = await _load(scope.connection, find, caller, command.event_id)
                lifecycle.check_transition(caller, event, action, command.if_match)
                content = _content(event) | {"status": target, "rejection_reason": rejection_reason}
                if action in CHARGED:
                    await self._quotas.charge_change(scope.connection, caller, event, content)
                row = await _change(scope.connection, caller, event, content, action, command.reason)
                if row is not None:
                    return await scope.store(Event(*row))
                find = repository.FIND_LOCKED

    async def history(self, query: FindHistory) -> History:
        return await history.find(self._database, await self._verify(query.actor), query)

    async def find_key(self, query: FindKey) -> KeyReport:
        return await self._idempotency.report(await self._verify(query.actor), query)


async def _load(connection: Connection, find: Statement, caller: Principal, event_id: UUID) -> Event:
    return _visible(caller, await connection.one(find, organization_id=caller.organization_id, event_id=event_id))


def _visible(caller: Principal, row: Any | None) -> Event:
    """Raises `not-found` for an event that the caller may not see, as if it didn't exist."""
    if row is not None:
        event = Event(*row)
        if lifecycle.may_see(caller, event.created_by_id, event.status):
            return event
    raise lifecycle.not_found()


def _content(event: Event) -> dict[str, Any]:
    """The fields that a change can change."""
    return {name: getattr(event, name) for name in repository.CHANGEABLE}


async def _change(
    connection: Connection,
    caller: Principal,
    event: Event,
    content: dict[str, Any],
    action: Action,
    reason: str | None = None,
) -> Any | None:
    """The changed event's row; None if the event is no longer the version that was loaded."""
    return await connection.one(
        repository.CHANGE,
        event_id=event.id,
        version=event.version,
        **{f"new_{name}": value for name, value in content.items()},
        **_entry(caller, action, reason),
    )


def _entry(caller: Principal, action: Action, reason: str | None = None) -> dict[str, Any]:
    """What a change's history entry says about it."""
    return {
        "organization_id": caller.organization_id,
        "actor_id": caller.user_id,
        "actor_name": caller.name,
        "action": action,
        "reason": reason,
        "correlation_id": request_context.current().correlation_id,
    }
