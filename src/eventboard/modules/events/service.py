"""The events module: what members and moderators do with events."""

from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from eventboard.modules.events import idempotency, lifecycle, listing, store
from eventboard.modules.events.contract import (
    Action,
    CreateEvent,
    Event,
    EventCommand,
    EventPage,
    FindEvent,
    FindEvents,
    FindKey,
    History,
    HistoryEntry,
    IfMatch,
    KeyReport,
    Status,
    UpdateEvent,
    Written,
)
from eventboard.modules.events.idempotency import Work
from eventboard.modules.events.times import in_utc
from eventboard.platform import context
from eventboard.platform.database import Connection, Database, Statement
from eventboard.platform.errors import Code, FieldError, ServiceError
from eventboard.platform.identity import Principal, Verify
from eventboard.platform.ids import uuid7

DEFAULT_TIME_ZONE = "UTC"


class Change(Struct, frozen=True):
    """What a decision comes to: the event as it shall be."""

    title: str
    description: str
    location: str | None
    start_date: datetime
    end_date: datetime
    time_zone: str
    status: Status
    rejection_reason: str | None


class EventsService:
    def __init__(self, database: Database, verify: Verify) -> None:
        self._database = database
        self._verify = verify

    async def create(self, command: CreateEvent) -> Written:
        caller = await self._verify(command.actor)
        content = _checked(asdict(command.draft))
        if command.draft.time_zone == DEFAULT_TIME_ZONE:
            # With an idempotency key it is the same request as one that leaves the default out.
            command = replace(command, draft=replace(command.draft, time_zone=None))

        async def work(connection: Connection) -> Event:
            (row,) = await connection.all(
                store.CREATE, event_id=uuid7(), status=lifecycle.FIRST, **content, **_entry(caller, Action.CREATE)
            )
            return Event(*row)

        return await self._once(caller, Action.CREATE, command, work)

    async def find_one(self, query: FindEvent) -> Event:
        caller = await self._verify(query.actor)
        row = await self._database.row(
            caller.organization_id,
            caller.user_id,
            store.FIND,
            organization_id=caller.organization_id,
            event_id=query.event_id,
        )
        return _shown(caller, row)

    async def find_all(self, query: FindEvents) -> EventPage:
        caller = await self._verify(query.actor)
        rows_of = partial(self._database.rows, caller.organization_id, caller.user_id)
        return await listing.find(rows_of, caller, query.query)

    async def update(self, command: UpdateEvent) -> Written:
        caller = await self._verify(command.actor)
        given = _checked({name: value for name, value in asdict(command.patch).items() if value is not UNSET})

        def decide(event: Event) -> Change | None:
            if not lifecycle.may_edit(caller, event.created_by_id, event.status):
                raise ServiceError(Code.FORBIDDEN, f"You may not edit this event while it is {event.status}.")
            _match(command.if_match, event)
            before = _content(event)
            after = replace(before, **given)
            _checked({"start_date": after.start_date, "end_date": after.end_date})
            return None if after == before else after

        return await self._change(caller, command, decide, Action.UPDATE)

    async def delete(self, command: EventCommand) -> Written:
        caller = await self._verify(command.actor)

        async def work(connection: Connection) -> None:
            while True:
                event = await _visible(connection, caller, command.event_id)
                if not lifecycle.may_delete(caller, event.created_by_id, event.status):
                    raise ServiceError(Code.FORBIDDEN, f"You may not delete this event while it is {event.status}.")
                _match(command.if_match, event)
                if await _guarded(connection, store.DELETE, caller, event, Action.DELETE):
                    return

        return await self._once(caller, Action.DELETE, command, work)

    async def submit(self, command: EventCommand) -> Written:
        return await self._command(command, Action.SUBMIT)

    async def approve(self, command: EventCommand) -> Written:
        return await self._command(command, Action.APPROVE)

    async def reject(self, command: EventCommand) -> Written:
        return await self._command(command, Action.REJECT)

    async def withdraw(self, command: EventCommand) -> Written:
        return await self._command(command, Action.WITHDRAW)

    async def cancel(self, command: EventCommand) -> Written:
        return await self._command(command, Action.CANCEL)

    async def history(self, query: FindEvent) -> History:
        caller = await self._verify(query.actor)
        async with self._database.reading(caller.organization_id, caller.user_id) as connection:
            rows = await connection.all(store.HISTORY, organization_id=caller.organization_id, event_id=query.event_id)
        entries = [HistoryEntry(*row[:-1]) for row in rows]
        if entries:
            author_id, status = rows[0]["author_id"], entries[-1].status
            # A deleted event has no status, and shows to nobody what its status would have shown.
            if lifecycle.may_read_history(caller, author_id, status or Status.DRAFT):
                return History(data=entries)
            if status is not None and lifecycle.sees(caller, author_id, status):
                raise ServiceError(Code.FORBIDDEN, "Its author and the moderators read an event's history.")
        raise _not_found()

    async def find_key(self, query: FindKey) -> KeyReport:
        return await idempotency.report(self._database, await self._verify(query.actor), query)

    async def _command(self, command: EventCommand, action: Action) -> Written:
        caller = await self._verify(command.actor)
        transition = lifecycle.TRANSITIONS[action]

        def decide(event: Event) -> Change:
            if not lifecycle.may_command(caller, event.created_by_id, action):
                raise ServiceError(Code.FORBIDDEN, f"You may not {action} this event.")
            _match(command.if_match, event)
            if event.status not in transition.sources:
                raise ServiceError(Code.WRONG_STATE, f"The event is {event.status}; you can't {action} it.")
            rejected = transition.target is Status.REJECTED
            return _content(event, status=transition.target, rejection_reason=command.reason if rejected else None)

        return await self._change(caller, command, decide, action, command.reason)

    async def _change(
        self,
        caller: Principal,
        command: UpdateEvent | EventCommand,
        decide: Callable[[Event], Change | None],
        action: Action,
        reason: str | None = None,
    ) -> Written:
        """Judges the event as it is, then writes only if it still is so; where another was faster, judges anew."""

        async def work(connection: Connection) -> Event:
            while True:
                event = await _visible(connection, caller, command.event_id)
                change = decide(event)
                if change is None:
                    return event
                new = {f"new_{name}": value for name, value in asdict(change).items()}
                if row := await _guarded(connection, store.CHANGE, caller, event, action, reason, **new):
                    return Event(*row)

        return await self._once(caller, action, command, work)

    async def _once(
        self, caller: Principal, action: Action, command: CreateEvent | UpdateEvent | EventCommand, work: Work
    ) -> Written:
        """Every write goes through here, and is thereby idempotent where it carries a key."""

        may = lifecycle.role_may(caller.role, action)
        forbidden = None if may else ServiceError(Code.FORBIDDEN, f"You may not {action} events.")
        return await idempotency.once(self._database, caller, f"events.{action}", command, forbidden, work)


async def _guarded(
    connection: Connection,
    statement: Statement,
    caller: Principal,
    event: Event,
    action: Action,
    reason: str | None = None,
    **values: Any,
) -> Any | None:
    """None where the event is no longer the version that was judged."""
    return await connection.one(
        statement, event_id=event.id, version=event.version, **values, **_entry(caller, action, reason)
    )


async def _visible(connection: Connection, caller: Principal, event_id: UUID) -> Event:
    return _shown(caller, await connection.one(store.FIND, organization_id=caller.organization_id, event_id=event_id))


def _shown(caller: Principal, row: Any | None) -> Event:
    """The event, for those who see it; raises `not-found` for everybody else, as if it didn't exist."""
    if row is not None:
        event = Event(*row)
        if lifecycle.sees(caller, event.created_by_id, Status(event.status)):
            return event
    raise _not_found()


def _not_found() -> ServiceError:
    return ServiceError(Code.NOT_FOUND, "There is no such event.")


def _entry(caller: Principal, action: Action, reason: str | None = None) -> dict[str, Any]:
    """What every change says of itself in the history."""
    return {
        "organization_id": caller.organization_id,
        "actor_id": caller.user_id,
        "actor_name": caller.name,
        "action": action,
        "reason": reason,
        "correlation_id": context.current().correlation_id,
    }


def _match(condition: IfMatch | None, event: Event) -> None:
    if condition is not None and not condition.any and event.version not in condition.versions:
        raise ServiceError(Code.VERSION_CHANGED, f"The event is at version {event.version} now.")


def _content(event: Event, **other: Any) -> Change:
    return Change(**{name: getattr(event, name) for name in Change.__struct_fields__} | other)


# Names that the database's files have beside its zones: of no place, or of whatever machine asks.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_ZONES


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The given fields, times in UTC. Holds the rules that no type can say, and names all that are broken at once."""
    checked, errors = dict(given), []
    for name, pointer in (("start_date", "/startDate"), ("end_date", "/endDate")):
        try:
            if name in given:
                checked[name] = in_utc(given[name])
        except ValueError as error:
            errors.append(FieldError(pointer, str(error)))
    if "time_zone" in given:
        checked["time_zone"] = given["time_zone"] or DEFAULT_TIME_ZONE
        if checked["time_zone"] not in _time_zones():
            errors.append(FieldError("/timeZone", "It must be a name of the IANA time zone database."))
    if "start_date" in given and "end_date" in given and given["end_date"] <= given["start_date"]:
        errors.append(FieldError("/endDate", "It must be after startDate."))
    if errors:
        raise ServiceError(Code.INVALID_REQUEST, "The event breaks a rule.", tuple(errors))
    return checked
