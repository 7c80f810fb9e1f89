"""The contract of the events module. `actor` is the caller's access token."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Protocol
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from eventboard.core.contract import Budget, IdempotencyKey, Moment, about, operation
from eventboard.core.cursors import Cursor
from eventboard.core.errors import Code, KeyStatus
from eventboard.core.text import LINE, LINES, NORMALIZED, SHOWN

# The same for an event that the caller may not see, and for an id that is none.
NO_SUCH_EVENT = "There is no such event, or you may not see it. Check the id, which is a UUID."


class Status(StrEnum):
    """Where an event is in its life."""

    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


class Action(StrEnum):
    """What a history entry records."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"


class SortBy(StrEnum):
    """What a list of events can be ordered by."""

    START_DATE = "startDate"
    CREATED_AT = "createdAt"
    TITLE = "title"
    STATUS = "status"


class SortOrder(StrEnum):
    """Ascending or descending."""

    ASC = "asc"
    DESC = "desc"


TIME_ZONE_RULE = "It must be a name of the IANA time zone database, such as Europe/Berlin."
Title = Annotated[str, Meta(min_length=3, max_length=200, pattern=LINE, extra=SHOWN)]
Description = Annotated[str, Meta(min_length=10, max_length=5000, pattern=LINES, extra=SHOWN)]
Location = Annotated[str, Meta(max_length=200, pattern=LINE, extra={**SHOWN, "empty_is_null": True})]
# The longest IANA name has 32 characters. validation.py checks whether the zone exists.
TimeZone = Annotated[
    str,
    Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)", extra={"rule": TIME_ZONE_RULE}),
]
# Without an offset it is local time in the event's time zone. New clients send one: `date-time` has it.
EventTime = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"}, extra={"time": True})]
# A date alone is the start of that day, or its end, in UTC.
TimeFrom = Annotated[datetime, Meta(tz=True, extra={"time": True, "at": "00:00:00"})]
TimeTo = Annotated[datetime, Meta(tz=True, extra={"time": True, "at": "23:59:59.999999"})]
Reason = Annotated[str, Meta(min_length=10, max_length=500, pattern=LINES, extra=SHOWN)]
# Deeper pages are reached by cursor. With an offset, the database would read every row before it.
Page = Annotated[int, Meta(ge=1, le=10_000)]
Limit = Annotated[int, Meta(ge=1, le=100)]
Search = Annotated[str, Meta(min_length=1, max_length=200, pattern=LINE, extra={**NORMALIZED, "empty_is_null": True})]


# Fields that several structs have.
_TITLE = about("What the event is called; one line.")
_DESCRIPTION = about("What it is about; it may have several lines.")
_LOCATION = about("Where it is; null if that isn't known yet.")
_TIME_ZONE = about("The IANA time zone it is in; UTC by default.")
_STARTS = about("When it starts. Without an offset it is local time in `timeZone`.")
_ENDS = about("When it ends: after `startDate`. Without an offset it is local time in `timeZone`.")


class EventDraft(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A new event. An optional field that is null has its default."""

    title: Annotated[Title, _TITLE]
    description: Annotated[Description, _DESCRIPTION]
    location: Annotated[Location | None, _LOCATION] = None
    start_date: Annotated[EventTime, _STARTS]
    end_date: Annotated[EventTime, _ENDS]
    time_zone: Annotated[TimeZone | None, _TIME_ZONE] = None


class EventPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A merge patch (RFC 7396): a field that is left out stays as it is, and null clears an optional one."""

    title: Annotated[Title | UnsetType, _TITLE] = UNSET
    description: Annotated[Description | UnsetType, _DESCRIPTION] = UNSET
    location: Annotated[Location | UnsetType | None, _LOCATION] = UNSET
    start_date: Annotated[EventTime | UnsetType, _STARTS] = UNSET
    end_date: Annotated[EventTime | UnsetType, _ENDS] = UNSET
    time_zone: Annotated[TimeZone | UnsetType | None, _TIME_ZONE] = UNSET


class EventQuery(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`cursor` is from an earlier page of a list with the same filters and order. It excludes `page`."""

    page: Annotated[Page | None, about("Which page, from 1: up to 10,000 events. Not together with `cursor`.")] = None
    limit: Annotated[Limit, about("How many events a page has, at most.")] = 10
    sort_by: Annotated[SortBy, about("What events are sorted by, and then by id.")] = SortBy.START_DATE
    sort_order: Annotated[SortOrder, about("Ascending or descending.")] = SortOrder.ASC
    status: Annotated[Status | None, about("Only events in this state.")] = None
    search: Annotated[Search | None, about("Only events whose title or description contains it, ignoring case.")] = None
    start_date_from: Annotated[
        TimeFrom | None, about("Only events that start then or later. A date alone is the start of that day in UTC.")
    ] = None
    start_date_to: Annotated[
        TimeTo | None, about("Only events that start then or earlier. A date alone is the end of that day in UTC.")
    ] = None
    cursor: Annotated[Cursor | None, about("The `nextCursor` of a page with the same filters and order.")] = None


class HistoryQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`cursor` is from the page before."""

    limit: Annotated[Limit, about("How many entries a page has, at most.")] = 100
    cursor: Annotated[Cursor | None, about("The `nextCursor` of the page before, to continue after it.")] = None


class IfMatch(Struct, frozen=True):
    """The versions that the caller accepts; `any` accepts all of them."""

    versions: tuple[int, ...] = ()
    any: bool = False


class CreateEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    actor: str
    draft: EventDraft
    idempotency_key: IdempotencyKey | None = None


class UpdateEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    actor: str
    event_id: UUID
    patch: EventPatch
    if_match: IfMatch | None = None
    idempotency_key: IdempotencyKey | None = None


class EventCommand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`reason` is required for a rejection, and optional for a cancellation."""

    actor: str
    event_id: UUID
    reason: Reason | None = None
    if_match: IfMatch | None = None
    idempotency_key: IdempotencyKey | None = None


class FindEvent(Struct, frozen=True, kw_only=True):
    actor: str
    event_id: UUID


class FindHistory(Struct, frozen=True, kw_only=True):
    """An older gateway sends no `query`."""

    actor: str
    event_id: UUID
    query: HistoryQuery | None = None


class FindEvents(Struct, frozen=True, kw_only=True):
    actor: str
    query: EventQuery


class Event(Struct, frozen=True, kw_only=False, rename="camel"):
    """An event of an organization."""

    id: Annotated[UUID, about("The event's id.")]
    title: Annotated[str, _TITLE]
    description: Annotated[str, _DESCRIPTION]
    location: Annotated[str | None, _LOCATION]
    start_date: Annotated[Moment, about("When it starts, in UTC.")]
    end_date: Annotated[Moment, about("When it ends, in UTC.")]
    time_zone: Annotated[str, about("The IANA time zone it is in.")]
    status: Annotated[Status, about("Where it is in its life.")]
    rejection_reason: Annotated[str | None, about("Why it is REJECTED; null in every other state.")]
    organization_id: Annotated[UUID, about("The organization it belongs to.")]
    created_by_id: Annotated[UUID, about("The id of its author.")]
    created_by_name: Annotated[str, about("The name that its author had then.")]
    created_at: Annotated[Moment, about("When it was drafted.")]
    updated_at: Annotated[Moment, about("When it was last changed.")]
    version: Annotated[int, about("1 at first, and one more with every change. Its `ETag` is this number in quotes.")]


class PageMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a page is in its list."""

    page: Annotated[int, about("The number of this page.")]
    limit: Annotated[int, about("How many events a page has, at most.")]
    total: Annotated[int, about("How many events the list has: exact up to 10,000.")]
    total_pages: Annotated[int, about("How many pages `total` makes.")]
    has_previous: Annotated[bool, about("Whether there is a page before this one.")]
    has_next: Annotated[bool, about("Whether there is another page.")]
    next_cursor: Annotated[str | None, about("The `cursor` of the next page; null on the last one.")]
    total_is_lower_bound: Annotated[bool, about("Whether there are more than `total`, which is 10,000 then.")]


class EventPage(Struct, frozen=True, kw_only=True):
    """One page of a list of events."""

    data: Annotated[Sequence[Event], about("The events, in the order that was asked for.")]
    meta: Annotated[PageMeta, about("Where this page is in the list.")]


class HistoryEntry(Struct, frozen=True, rename="camel"):
    """What somebody did to an event."""

    action: Annotated[Action, about("What was done.")]
    status: Annotated[Status | None, about("The state after it; null after a deletion.")]
    version: Annotated[int, about("The version after it.")]
    actor_id: Annotated[UUID, about("The id of who did it.")]
    actor_name: Annotated[str, about("The name that they had then.")]
    reason: Annotated[str | None, about("The reason that was given, if any.")]
    at: Annotated[Moment, about("When it was done.")]
    correlation_id: Annotated[str, about("The correlation id of the request.")]


class ListMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a page is in a history."""

    limit: Annotated[int, about("How many entries a page has, at most.")] = 100
    has_next: Annotated[bool, about("Whether there is another page.")] = False
    next_cursor: Annotated[str | None, about("The `cursor` of the next page; null on the last one.")] = None


# An older service sends all entries, and no `meta`.
class History(Struct, frozen=True, kw_only=True):
    """One page of an event's history."""

    data: Annotated[Sequence[HistoryEntry], about("The entries, the oldest first.")]
    meta: Annotated[ListMeta, about("Where this page is in the history.")] = ListMeta()


class Written(Struct, frozen=True, omit_defaults=True):
    """`event` is None after a deletion. `key_status` is set if the client sent an idempotency key."""

    event: Event | None
    key_status: KeyStatus | None = None


class FindKey(Struct, frozen=True, kw_only=True):
    """`key` is an idempotency key of the caller."""

    actor: str
    key: str


class KeyState(StrEnum):
    """Whether the request that an idempotency key was sent with is known, and has ended."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    DONE = "done"


class KeyReport(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of a key. `code` is set if the stored outcome is an error; the other fields once `state` is done."""

    state: KeyState
    operation: str | None = None
    code: Code | None = None
    at: Moment | None = None
    resource: UUID | None = None
    correlation_id: str | None = None


class Events(Protocol):
    """Every write is repeatable, as it takes an idempotency key. The HTTP adapter creates one for a command without."""

    @operation("events.create", budget=Budget.WRITE, repeatable=True)
    async def create(self, command: CreateEvent) -> Written: ...

    @operation("events.findAll", budget=Budget.LIST, repeatable=True)
    async def find_all(self, query: FindEvents) -> EventPage: ...

    @operation("events.findOne", budget=Budget.READ, repeatable=True)
    async def find_one(self, query: FindEvent) -> Event: ...

    @operation("events.update", budget=Budget.WRITE, repeatable=True)
    async def update(self, command: UpdateEvent) -> Written: ...

    @operation("events.delete", budget=Budget.WRITE, repeatable=True)
    async def delete(self, command: EventCommand) -> Written: ...

    @operation("events.submit", budget=Budget.WRITE, repeatable=True)
    async def submit(self, command: EventCommand) -> Written: ...

    @operation("events.approve", budget=Budget.WRITE, repeatable=True)
    async def approve(self, command: EventCommand) -> Written: ...

    @operation("events.reject", budget=Budget.WRITE, repeatable=True)
    async def reject(self, command: EventCommand) -> Written: ...

    @operation("events.withdraw", budget=Budget.WRITE, repeatable=True)
    async def withdraw(self, command: EventCommand) -> Written: ...

    @operation("events.cancel", budget=Budget.WRITE, repeatable=True)
    async def cancel(self, command: EventCommand) -> Written: ...

    @operation("events.history", budget=Budget.READ, repeatable=True)
    async def history(self, query: FindHistory) -> History: ...

    @operation("events.findKey", budget=Budget.READ, repeatable=True)
    async def find_key(self, query: FindKey) -> KeyReport: ...
