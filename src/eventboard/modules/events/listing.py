"""The list of events: filters, order, pages by number and by cursor.

A cursor is a keyset: the sort value and the id of the last event of a page. The next page begins after them, whatever
has been added or removed meanwhile, and an index finds the position at once however deep it is.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from eventboard.core import cursors
from eventboard.core.contract import Moment
from eventboard.core.errors import FieldError, invalid
from eventboard.identity.access_tokens import Principal
from eventboard.modules.events.contract import Event, EventPage, EventQuery, PageMeta, SortBy, SortOrder
from eventboard.modules.events.lifecycle import ALL, SEES
from eventboard.modules.events.listing_statements import (
    COUNT_LIMIT,
    SORT_COLUMNS,
    Variant,
    count_statement,
    has_trigram,
    like_patterns,
    page_statement,
)
from eventboard.modules.events.validation import in_utc

# Rows that a statement reads, in its text. With one statement for each limit, each would have to be compiled, and
# prepared by PostgreSQL.
PAGE_SIZES = (11, 26, 51, 101)

# Any title there may be: earlier versions accepted characters that LINE doesn't.
Text = Annotated[str, Meta(pattern=r"^[^\x00]*$")]
Value = TypeVar("Value")
RowsOf = Callable[..., Awaitable[list[Any]]]


class CursorPosition(Struct, Generic[Value], frozen=True, array_like=True):
    """The list (its fingerprint), the number of the page that begins here, and the last event of the page before."""

    fingerprint: bytes
    page: Annotated[int, Meta(ge=2, le=2**31)]
    value: Value
    id: UUID


async def find(rows_of: RowsOf, caller: Principal, query: EventQuery) -> EventPage:
    """`rows_of` executes a statement as the caller."""
    _check_times(query)
    position = _decode_cursor(query)
    page = position.page if position else query.page or 1
    if position is None and page * query.limit > COUNT_LIMIT:
        rule = (
            f"page times limit must be {COUNT_LIMIT} or less. Go on from there with cursor, the nextCursor of a page."
        )
        raise invalid(FieldError("/page", rule))
    statuses = ALL if query.status is None else {query.status}
    everyones = statuses & SEES[caller.role].others
    offset = 0 if position else (page - 1) * query.limit
    # One row more than the page shows whether there is a next page.
    rows_read = min(size for size in PAGE_SIZES if size > query.limit)
    patterns = like_patterns(query.search or "")
    variant = Variant(
        everyones=tuple(sorted(everyones)),
        own=tuple(sorted(statuses - everyones)),
        sort_by=query.sort_by,
        descending=query.sort_order is SortOrder.DESC,
        search=query.search is not None,
        several_patterns=len(patterns) > 1,
        by_trigrams=has_trigram(query.search or ""),
        start_date_from=query.start_date_from is not None,
        start_date_to=query.start_date_to is not None,
        cursor=position is not None,
        rows_read=None if offset else rows_read,
    )
    values = {
        "organization_id": caller.organization_id,
        "user_id": caller.user_id,
        "search": patterns[0],
        "searches": patterns,
        "start_date_from": query.start_date_from,
        "start_date_to": query.start_date_to,
        "after_value": position.value if position else None,
        "after_id": position.id if position else None,
        "rows_read": rows_read,
        "offset": offset,
        "branch_rows": offset + rows_read,
    }
    rows = await rows_of(page_statement(variant), **values)
    count: int = (rows or await rows_of(count_statement(variant), **values))[0]["total"]
    events = [Event(*row[:-1]) for row in rows[: query.limit]]
    has_next = len(rows) > query.limit
    total = min(count, COUNT_LIMIT)
    return EventPage(
        data=events,
        meta=PageMeta(
            page=page,
            limit=query.limit,
            total=total,
            total_pages=-(-total // query.limit),
            has_previous=page > 1,
            has_next=has_next,
            next_cursor=_encode_cursor(query, page + 1, events[-1]) if has_next else None,
            total_is_lower_bound=count > COUNT_LIMIT,
        ),
    )


def _check_times(query: EventQuery) -> None:
    errors = []
    for pointer, moment in (("/startDateFrom", query.start_date_from), ("/startDateTo", query.start_date_to)):
        try:
            if moment is not None:
                in_utc(moment, allow_infinity=True)
        except ValueError as error:
            errors.append(FieldError(pointer, str(error)))
    begin, end = query.start_date_from, query.start_date_to
    if begin is not None and end is not None and begin > end:
        errors.append(FieldError("/startDateTo", "It must not be before startDateFrom."))
    if errors:
        raise invalid(*errors)


def _fingerprint(query: EventQuery) -> bytes:
    """Of the filters and the order: a cursor can only be used with the list that it is from."""
    filters = replace(query, page=None, limit=10, cursor=None)
    return hashlib.sha256(msgspec.msgpack.encode(filters)).digest()[:8]


def _encode_cursor(query: EventQuery, page: int, last: Event) -> str:
    value = getattr(last, SORT_COLUMNS[query.sort_by])
    return cursors.encode(CursorPosition(_fingerprint(query), page, value, last.id))


def _decode_cursor(query: EventQuery) -> CursorPosition[Any] | None:
    if query.cursor is None:
        return None
    if query.page is not None:
        raise cursors.invalid("A cursor and a page can't go together: leave out page.")
    by_time = query.sort_by in (SortBy.START_DATE, SortBy.CREATED_AT)
    try:
        type_: Any = CursorPosition[Moment] if by_time else CursorPosition[Text]
        position: CursorPosition[Any] = cursors.decode(query.cursor, type_)
        if by_time:
            in_utc(position.value)
    except ValueError:
        raise cursors.not_of("this list") from None
    if position.fingerprint != _fingerprint(query):
        raise cursors.not_of("a list with these filters and this order")
    return position
