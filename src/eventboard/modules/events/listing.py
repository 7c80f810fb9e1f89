"""The list of events: filters, order, pages by number and by cursor.

A list is the merge of a few parts: one for each status in which everybody's events show, and one for the caller's own
in the others. An index holds each part in the list's order, so a page costs what it shows, whoever asks and however
much there is that they don't see.

A cursor is a keyset: the order's value and the id of the last event that was shown. The next page begins after them,
whatever was added or removed meanwhile, and the index finds the place at once however deep it is.
"""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from sqlalchemy import (
    BigInteger,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)

from eventboard.modules.events.contract import (
    Event,
    EventPage,
    EventQuery,
    PageMeta,
    SortBy,
    SortOrder,
    Status,
)
from eventboard.modules.events.lifecycle import EVERY, SEES
from eventboard.modules.events.models import SEARCHED, EventRow, TallyRow
from eventboard.modules.events.store import COLUMNS
from eventboard.modules.events.times import in_utc
from eventboard.platform.contract import Moment
from eventboard.platform.database import Statement
from eventboard.platform.errors import Code, FieldError, ServiceError, invalid
from eventboard.platform.identity import Principal
from eventboard.platform.text import LINE

# `total` is counted no further, and no page number reaches beyond it.
HORIZON = 10_000
# In the statement's text, so that PostgreSQL knows it when it plans for any values.
_MOST_COUNTED: Any = literal_column(str(HORIZON + 1))

_ORDERS: dict[SortBy, str] = {
    SortBy.START_DATE: "start_date",
    SortBy.CREATED_AT: "created_at",
    SortBy.TITLE: "title",
    SortBy.STATUS: "status",
}

# What the index for texts finds, with all that a list filters and sorts by: see the migration that made the function.
# What it found is only read, never looked up: how many there are PostgreSQL can't know, and it has chosen ways that
# take the square of that.
_FOUND = (
    text("SELECT * FROM events.search_rows(:search)")
    .columns(
        *[
            EventRow.__table__.c[name]
            for name in ("organization_id", "id", "title", "start_date", "created_at", "status", "created_by_id")
        ]
    )
    .cte("found")
)

# The index finds a text by its trigrams: where there is none, it would look through itself from end to end.
_TRIGRAM = re.compile(r"[^\W_]{3}")

Text = Annotated[str, Meta(pattern=LINE)]
Value = TypeVar("Value")
RowsOf = Callable[..., Awaitable[list[Any]]]


class Place(Struct, Generic[Value], frozen=True, array_like=True):
    """What a cursor holds: whose list it goes on with, the page it begins, and what it begins after."""

    fingerprint: bytes
    page: Annotated[int, Meta(ge=2, le=2**31)]
    value: Value
    id: UUID


class Shape(Struct, frozen=True):
    """What makes one statement differ from another; the values are its parameters.

    `shared`: the states in which everybody's events are listed; `own`: those in which only the caller's own are.
    `most`: how many rows are read where none is skipped, so that PostgreSQL plans for them; None is a parameter, for
    which a plan for any values would be one for a tenth of all rows.
    """

    shared: tuple[Status, ...]
    own: tuple[Status, ...]
    sort_by: SortBy
    descending: bool
    search: bool
    by_trigrams: bool
    start_date_from: bool
    start_date_to: bool
    cursor: bool
    most: int | None


async def find(rows_of: RowsOf, caller: Principal, query: EventQuery) -> EventPage:
    """`rows_of` runs a statement as the caller."""
    _check_times(query)
    place = _read_cursor(query)
    number = place.page if place else query.page or 1
    if place is None and number * query.limit > HORIZON:
        raise invalid("/page", f"page x limit goes to {HORIZON}; follow nextCursor beyond.")
    wanted = EVERY if query.status is None else {query.status}
    shared = wanted & SEES[caller.role].others
    skip = 0 if place else (number - 1) * query.limit
    # One more than is shown tells whether there is a next page.
    most = query.limit + 1
    shape = Shape(
        shared=tuple(sorted(shared)),
        own=tuple(sorted(wanted - shared)),
        sort_by=query.sort_by,
        descending=query.sort_order is SortOrder.DESC,
        search=query.search is not None,
        by_trigrams=_TRIGRAM.search(query.search or "") is not None,
        start_date_from=query.start_date_from is not None,
        start_date_to=query.start_date_to is not None,
        cursor=place is not None,
        most=None if skip else most,
    )
    values = {
        "organization_id": caller.organization_id,
        "user_id": caller.user_id,
        "search": pattern_of(query.search or ""),
        "start_date_from": query.start_date_from,
        "start_date_to": query.start_date_to,
        "after_value": place.value if place else None,
        "after_id": place.id if place else None,
        "most": most,
        "skip": skip,
        "reach": skip + most,
    }
    rows = await rows_of(_page(shape), **values)
    total: int = (rows or await rows_of(_count(shape), **values))[0]["total"]
    shown = [Event(*row[:-1]) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    counted = min(total, HORIZON)
    return EventPage(
        data=shown,
        meta=PageMeta(
            page=number,
            limit=query.limit,
            total=counted,
            total_pages=-(-counted // query.limit),
            has_previous=number > 1,
            has_next=more,
            next_cursor=_write_cursor(query, number + 1, shown[-1]) if more else None,
            total_is_lower_bound=total > HORIZON,
        ),
    )


@lru_cache(maxsize=4096)  # more than anybody uses
def _page(shape: Shape) -> Statement:
    source = _source(shape)
    order = source[_ORDERS[shape.sort_by]]
    here = tuple_(order, source.id)
    there = tuple_(bindparam("after_value", type_=order.type), bindparam("after_id", type_=source.id.type))
    after: Any = here < there if shape.descending else here > there
    parts: list[Any] = []
    for part in _parts(shape):
        rows = select(order.label("place"), source.id).where(*part.conditions)
        if shape.cursor:
            # No index serves the second form: what isn't read in order isn't looked for in an order's index.
            rows = rows.where(after if part.ordered else after.is_(true()))
        if part.ordered:
            rows = rows.order_by(*_directions(shape, order, source.id)).limit(_rows(shape, "reach"))
        parts.append(rows)
    merged = union_all(*parts).subquery("merged")
    chosen = select(merged).order_by(*_directions(shape, merged.c.place, merged.c.id)).limit(_rows(shape, "most"))
    seen = (chosen if shape.most else chosen.offset(bindparam("skip"))).subquery("seen")
    # What is skipped is read in the indexes alone. The limit keeps PostgreSQL from joining in another way than by key.
    this = (EventRow.organization_id == bindparam("organization_id"), EventRow.id == seen.c.id)
    event = select(*COLUMNS).where(*this).limit(literal_column("1")).lateral("event")
    return Statement(
        select(*event.c, _counted(shape).scalar_subquery().label("total"))
        .select_from(seen.join(event, true()))
        .order_by(*_directions(shape, seen.c.place, seen.c.id)),
        planned_anew=_filtered(shape) or shape.most is None,
    )


@lru_cache(maxsize=4096)
def _count(shape: Shape) -> Statement:
    return Statement(_counted(shape), planned_anew=_filtered(shape))


def _counted(shape: Shape) -> Any:
    """Everybody's events of a status are tallied; what a filter leaves, and the caller's own, are counted."""
    if _filtered(shape):
        return _walked(_parts(shape))
    tallied = select(func.coalesce(func.sum(TallyRow.events), literal_column("0"))).where(
        TallyRow.organization_id == bindparam("organization_id"),
        TallyRow.status.in_([_literal(status) for status in shape.shared]),
    )
    terms = [cast(tallied.scalar_subquery(), BigInteger)] if shape.shared else []
    if shape.own:
        terms.append(_walked(_parts(replace(shape, shared=()))).scalar_subquery())
    return select(sum(terms[1:], start=terms[0]).label("total"))


def _filtered(shape: Shape) -> bool:
    """By what isn't in the statement's text: how much that leaves depends on the values."""
    return shape.search or shape.start_date_from or shape.start_date_to


def _walked(given: "list[Part]") -> Any:
    parts: list[Any] = [select(literal_column("1")).where(*part.conditions) for part in given]
    return select(func.count().label("total")).select_from(union_all(*parts).limit(_MOST_COUNTED).subquery("matching"))


def _source(shape: Shape) -> Any:
    """The columns of what a list is made from."""
    return _FOUND.c if shape.by_trigrams else EventRow.__table__.c


def _directions(shape: Shape, *columns: Any) -> list[Any]:
    return [column.desc() for column in columns] if shape.descending else list(columns)


class Part(Struct, frozen=True):
    """`ordered`: an index may hold it in the list's order, so that only its beginning is read."""

    conditions: list[Any]
    ordered: bool


def _parts(shape: Shape) -> list[Part]:
    """No event is in two of them."""
    source = _source(shape)
    conditions: list[Any] = [source.organization_id == bindparam("organization_id")]
    if shape.search and not shape.by_trigrams:
        # Fewer than three letters in a row find no trigram.
        conditions.append(text(f"{SEARCHED} ILIKE :search"))
    if shape.start_date_from:
        conditions.append(source.start_date >= bindparam("start_date_from"))
    if shape.start_date_to:
        conditions.append(source.start_date <= bindparam("start_date_to"))
    parts = [Part([source.status == _literal(status)], ordered=True) for status in shape.shared]
    if shape.own:
        unfinished = source.status.in_([_literal(status) for status in shape.own])
        # One index for all orders: they are few, and read whole. Asked for in another order than the index has, they
        # could be looked for among everybody's.
        by_start_date = shape.sort_by is SortBy.START_DATE
        parts.append(Part([source.created_by_id == bindparam("user_id"), unfinished], ordered=by_start_date))
    if shape.by_trigrams:
        # Read once, whatever the status.
        parts = [Part([or_(*(and_(*part.conditions) for part in parts))], ordered=True)]
    return [Part([*conditions, *part.conditions], part.ordered) for part in parts]


def _rows(shape: Shape, name: str) -> Any:
    return literal_column(str(shape.most)) if shape.most else bindparam(name)


def _literal(status: Status) -> Any:
    return literal_column(f"'{status.value}'")


def pattern_of(search: str) -> str:
    """An ILIKE pattern that finds the text itself: its wildcards are escaped."""
    escaped = search.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _fingerprint(query: EventQuery) -> bytes:
    """Of the filters and the order: a cursor goes on with the list it came from."""
    plain = replace(query, page=None, limit=10, cursor=None)
    return hashlib.sha256(msgspec.msgpack.encode(plain)).digest()[:8]


def _write_cursor(query: EventQuery, page: int, last: Event) -> str:
    value = getattr(last, _ORDERS[query.sort_by])
    place = Place(_fingerprint(query), page, value, last.id)
    return urlsafe_b64encode(msgspec.msgpack.encode(place)).rstrip(b"=").decode()


def _check_times(query: EventQuery) -> None:
    errors = []
    for pointer, moment in (("/startDateFrom", query.start_date_from), ("/startDateTo", query.start_date_to)):
        try:
            if moment is not None:
                in_utc(moment)
        except ValueError as error:
            errors.append(FieldError(pointer, str(error)))
    if errors:
        raise ServiceError(Code.INVALID_REQUEST, "The query breaks a rule.", tuple(errors))


def _read_cursor(query: EventQuery) -> Place[Any] | None:
    if query.cursor is None:
        return None
    if query.page is not None:
        raise ServiceError(Code.INVALID_CURSOR, "Give page or cursor, not both.")
    by_time = query.sort_by in (SortBy.START_DATE, SortBy.CREATED_AT)
    try:
        raw = urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4))
        place: Place[Any] = msgspec.msgpack.decode(raw, type=Place[Moment] if by_time else Place[Text])
        if by_time:
            in_utc(place.value)
    except (ValueError, msgspec.MsgspecError):
        raise ServiceError(Code.INVALID_CURSOR, "This is no cursor of this list.") from None
    if place.fingerprint != _fingerprint(query):
        raise ServiceError(Code.INVALID_CURSOR, "This cursor belongs to a list with other filters or another order.")
    return place
