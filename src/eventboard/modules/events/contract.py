"""What the events module does for others. `actor` is always the caller's access token."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from eventboard.platform.contract import Budget, IdempotencyKey, Moment, operation
from eventboard.platform.errors import Code, KeyStatus
from eventboard.platform.text import LINE, LINES


class Status(StrEnum):
    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


class Action(StrEnum):
    """What history tells of."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"


class SortBy(StrEnum):
    START_DATE = "startDate"
    CREATED_AT = "createdAt"
    TITLE = "title"
    STATUS = "status"


class SortOrder(StrEnum):
    ASC = "asc"
    DESC = "desc"


Title = Annotated[str, Meta(min_length=3, max_length=200, pattern=LINE)]
Description = Annotated[str, Meta(min_length=10, max_length=5000, pattern=LINES)]
Location = Annotated[str, Meta(max_length=200, pattern=LINE)]
# The longest IANA name has 32 characters; which ones exist, the service knows.
TimeZone = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)")]
Reason = Annotated[str, Meta(min_length=10, max_length=500, pattern=LINES)]
# Deeper pages are reached by cursor: an offset costs the database every row before it.
Page = Annotated[int, Meta(ge=1, le=10_000)]
Limit = Annotated[int, Meta(ge=1, le=100)]
Search = Annotated[str, Meta(min_length=1, max_length=200, pattern=LINE)]
Cursor = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]


class EventDraft(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a member writes. An offset is needed in times; None is the default of an optional field."""

    title: Title
    description: Description
    location: Location | None = None
    start_date: Moment
    end_date: Moment
    time_zone: TimeZone | None = None


class EventPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A merge patch (RFC 7396): what is unset stays, None clears an optional field."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    location: Location | UnsetType | None = UNSET
    start_date: Moment | UnsetType = UNSET
    end_date: Moment | UnsetType = UNSET
    time_zone: TimeZone | UnsetType | None = UNSET


class EventQuery(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`cursor` goes on where an earlier list with the same filters and order ended; it excludes `page`."""

    page: Page | None = None
    limit: Limit = 10
    sort_by: SortBy = SortBy.START_DATE
    sort_order: SortOrder = SortOrder.ASC
    status: Status | None = None
    search: Search | None = None
    start_date_from: Moment | None = None
    start_date_to: Moment | None = None
    cursor: Cursor | None = None


class IfMatch(Struct, frozen=True):
    """The versions that a caller is content with; `any` accepts whichever there is."""

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
    """`reason` is for a rejection, which needs one, and for a cancellation, which may have one."""

    actor: str
    event_id: UUID
    reason: Reason | None = None
    if_match: IfMatch | None = None
    idempotency_key: IdempotencyKey | None = None


class FindEvent(Struct, frozen=True, kw_only=True):
    actor: str
    event_id: UUID


class FindEvents(Struct, frozen=True, kw_only=True):
    actor: str
    query: EventQuery


class Event(Struct, frozen=True, kw_only=False, rename="camel"):
    """`version` counts its changes from 1."""

    id: UUID
    title: str
    description: str
    location: str | None
    start_date: Moment
    end_date: Moment
    time_zone: str
    status: Status
    rejection_reason: str | None
    organization_id: UUID
    created_by_id: UUID
    created_by_name: str
    created_at: Moment
    updated_at: Moment
    version: int


class PageMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """`total` is exact up to 10,000; beyond, it is 10,000 and `total_is_lower_bound` says so."""

    page: int
    limit: int
    total: int
    total_pages: int
    has_previous: bool
    has_next: bool
    next_cursor: str | None
    total_is_lower_bound: bool


class EventPage(Struct, frozen=True, kw_only=True):
    data: Sequence[Event]
    meta: PageMeta


class HistoryEntry(Struct, frozen=True, rename="camel"):
    """`status` and `version` are those the action led to; a deletion leads to no status."""

    action: Action
    status: Status | None
    version: int
    actor_id: UUID
    actor_name: str
    reason: str | None
    at: Moment
    correlation_id: str


class History(Struct, frozen=True, kw_only=True):
    data: Sequence[HistoryEntry]


class Written(Struct, frozen=True, omit_defaults=True):
    """`event` is None once it is deleted. `key_status` is set where the client gave an idempotency key."""

    event: Event | None
    key_status: KeyStatus | None = None


class FindKey(Struct, frozen=True, kw_only=True):
    """`key` is one that the caller gave as an idempotency key."""

    actor: str
    key: str


class KeyState(StrEnum):
    UNKNOWN = "unknown"
    RUNNING = "running"
    DONE = "done"


class KeyReport(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of a key. `code` is that of a stored refusal; the rest is there when it is done."""

    state: KeyState
    operation: str | None = None
    code: Code | None = None
    at: Moment | None = None
    resource: UUID | None = None
    correlation_id: str | None = None


class Events(Protocol):
    """Every write takes an idempotency key, which is why every write is repeatable: the HTTP adapter makes a key for
    one that came without."""

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
    async def history(self, query: FindEvent) -> History: ...

    @operation("events.findKey", budget=Budget.READ, repeatable=True)
    async def find_key(self, query: FindKey) -> KeyReport: ...
