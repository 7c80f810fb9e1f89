"""The statements of the list of events.

A page is merged (UNION ALL) from a few branches: one for each status in which a member sees everyone's events, and one
for the member's own events in the other statuses. An index holds each branch in the list's order. So a page costs what
it shows, however many events there are that the member doesn't see.
"""

import re
from functools import lru_cache
from typing import Any

from msgspec import Struct
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

from eventboard.db.database import Statement
from eventboard.modules.events.contract import SortBy, Status
from eventboard.modules.events.models import SEARCHED, EventRow, TallyRow
from eventboard.modules.events.repository import COLUMNS

# A statement takes 20 KiB, and 6 ms to compile. There are some thousands, of which clients use a few dozen.
CACHE_SIZE = 256
# `total` is counted up to this number, and no page number reaches beyond it.
COUNT_LIMIT = 10_000
# In the statement's text, so that PostgreSQL knows it when it makes a generic plan.
_COUNT_LIMIT_AND_ONE: Any = literal_column(str(COUNT_LIMIT + 1))

SORT_COLUMNS: dict[SortBy, str] = {
    SortBy.START_DATE: "start_date",
    SortBy.CREATED_AT: "created_at",
    SortBy.TITLE: "title",
    SortBy.STATUS: "status",
}

# The events that the trigram index finds, with all columns that a list filters and sorts by; explained in the migration
# that created the function. They are read from the CTE and not joined again: PostgreSQL can't know how many there are,
# and has chosen plans of quadratic cost.
_FOUND, _FOUND_BY_SEVERAL = (
    text(statement)
    .columns(
        *[
            EventRow.__table__.c[name]
            for name in ("organization_id", "id", "title", "start_date", "created_at", "status", "created_by_id")
        ]
    )
    .cte("found")
    for statement in (
        "SELECT * FROM events.search_rows(:search)",
        "SELECT DISTINCT found.* FROM unnest(CAST(:searches AS text[])) AS pattern"
        " CROSS JOIN LATERAL events.search_rows(pattern) AS found",
    )
)

_SIGMA, _FINAL_SIGMA = "\N{GREEK SMALL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"
_ANY_SIGMA = re.compile(f"[{_SIGMA}{_FINAL_SIGMA}{_SIGMA.upper()}]")
_WORD_END_SIGMA = re.compile(rf"{_SIGMA}(?!\w)")
_TRIGRAM = re.compile(r"[^\W_]{3}")


class Variant(Struct, frozen=True):
    """Everything that the text of a list's statement depends on. The rest is in its parameters.

    `everyones` are the statuses in which everyone's events are listed, and `own` those in which only the caller's are.
    `rows_read` is known to PostgreSQL when it plans. It is None for a page with an offset, where the number of rows is
    a parameter, and the plan is made for its value: a generic plan would be one for a tenth of all rows.
    """

    everyones: tuple[Status, ...]
    own: tuple[Status, ...]
    sort_by: SortBy
    descending: bool
    search: bool
    several_patterns: bool
    by_trigrams: bool
    start_date_from: bool
    start_date_to: bool
    cursor: bool
    rows_read: int | None

    @property
    def filtered(self) -> bool:
        """By parameters: how many rows match depends on their values."""
        return self.search or self.start_date_from or self.start_date_to

    @property
    def source(self) -> Any:
        """The columns of the table, or of what the search has found."""
        if self.by_trigrams:
            return (_FOUND_BY_SEVERAL if self.several_patterns else _FOUND).c
        return EventRow.__table__.c

    def directions(self, *columns: Any) -> list[Any]:
        return [column.desc() for column in columns] if self.descending else list(columns)

    def limit(self, parameter: str) -> Any:
        return bindparam(parameter) if self.rows_read is None else literal_column(str(self.rows_read))


class _Branch(Struct, frozen=True):
    """`ordered`: an index may hold it in the list's order, so that only its beginning is read."""

    conditions: list[Any]
    ordered: bool


@lru_cache(CACHE_SIZE)
def page_statement(variant: Variant) -> Statement:
    """The events of a page, each with the total."""
    merged = union_all(*(_branch_rows(variant, branch) for branch in _branches(variant))).subquery("merged")
    page = (
        select(merged).order_by(*variant.directions(merged.c.sort_value, merged.c.id)).limit(variant.limit("rows_read"))
    )
    if variant.rows_read is None:
        page = page.offset(bindparam("offset"))
    keys = page.subquery("page")
    # Rows before the offset are read from indexes only. The inner limit makes PostgreSQL join by primary key.
    is_this = (EventRow.organization_id == bindparam("organization_id"), EventRow.id == keys.c.id)
    event = select(*COLUMNS).where(*is_this).limit(literal_column("1")).lateral("event")
    return Statement(
        select(*event.c, _total(variant).scalar_subquery().label("total"))
        .select_from(keys.join(event, true()))
        .order_by(*variant.directions(keys.c.sort_value, keys.c.id)),
        custom_plan=variant.filtered or variant.rows_read is None,
    )


@lru_cache(CACHE_SIZE)
def count_statement(variant: Variant) -> Statement:
    """The total alone, for a page without events."""
    return Statement(_total(variant), custom_plan=variant.filtered)


def _branches(variant: Variant) -> list[_Branch]:
    """No event is in two of them."""
    source = variant.source
    filters: list[Any] = [source.organization_id == bindparam("organization_id")]
    if variant.search and not variant.by_trigrams:
        pattern = "ANY (CAST(:searches AS text[]))" if variant.several_patterns else ":search"
        filters.append(text(f"{SEARCHED} ILIKE {pattern}"))
    if variant.start_date_from:
        filters.append(source.start_date >= bindparam("start_date_from"))
    if variant.start_date_to:
        filters.append(source.start_date <= bindparam("start_date_to"))
    branches = [_Branch([source.status == _literal(status)], ordered=True) for status in variant.everyones]
    if variant.own:
        own = [
            source.created_by_id == bindparam("user_id"),
            source.status.in_([_literal(status) for status in variant.own]),
        ]
        # There is one index for all orders, as these are few events. In another order than the index's they are read
        # whole: asked to sort them, PostgreSQL might look for them among everyone's.
        branches.append(_Branch(own, ordered=variant.sort_by is SortBy.START_DATE))
    if variant.by_trigrams:
        # One branch for all statuses, so that what was found is read once.
        branches = [_Branch([or_(*(and_(*branch.conditions) for branch in branches))], ordered=True)]
    return [_Branch([*filters, *branch.conditions], branch.ordered) for branch in branches]


def _branch_rows(variant: Variant, branch: _Branch) -> Any:
    source = variant.source
    sort_column = source[SORT_COLUMNS[variant.sort_by]]
    rows = select(sort_column.label("sort_value"), source.id).where(*branch.conditions)
    if variant.cursor:
        row = tuple_(sort_column, source.id)
        last = tuple_(bindparam("after_value", type_=sort_column.type), bindparam("after_id", type_=source.id.type))
        after = row < last if variant.descending else row > last
        # No index serves `IS true`: a branch that isn't read in order must not use an index for the order.
        rows = rows.where(after if branch.ordered else after.is_(true()))
    if branch.ordered:
        rows = rows.order_by(*variant.directions(sort_column, source.id)).limit(variant.limit("branch_rows"))
    return rows


def _total(variant: Variant) -> Any:
    """Everyone's events of a status are tallied. Filtered events, and the caller's own, are counted."""
    if variant.filtered:
        return _count(_branches(variant))
    tallied = select(func.coalesce(func.sum(TallyRow.events), literal_column("0"))).where(
        TallyRow.organization_id == bindparam("organization_id"),
        TallyRow.status.in_([_literal(status) for status in variant.everyones]),
    )
    terms = [cast(tallied.scalar_subquery(), BigInteger)] if variant.everyones else []
    if variant.own:
        terms.append(_count(_branches(replace(variant, everyones=()))).scalar_subquery())
    return select(sum(terms[1:], start=terms[0]).label("total"))


def _count(branches: list[_Branch]) -> Any:
    rows: list[Any] = [select(literal_column("1")).where(*branch.conditions) for branch in branches]
    matching = union_all(*rows).limit(_COUNT_LIMIT_AND_ONE).subquery("matching")
    return select(func.count().label("total")).select_from(matching)


def _literal(status: Status) -> Any:
    return literal_column(f"'{status.value}'")


def has_trigram(search: str) -> bool:
    """Whether the trigram index can find the text. Otherwise the whole index would be read."""
    return _TRIGRAM.search(search) is not None


def like_patterns(search: str) -> list[str]:
    """ILIKE patterns of the texts to search for. They are several where ILIKE distinguishes letters that are the same.

    Greek's sigma has a form of its own at the end of a word. Whether a capital one is lowered to that form depends on
    the database's collation, and the last word of a search may go on in the text.
    """
    if not _ANY_SIGMA.search(search):
        return [like_pattern(search)]
    medial = _ANY_SIGMA.sub(_SIGMA, search)
    final = _WORD_END_SIGMA.sub(_FINAL_SIGMA, medial)
    inner = final.removesuffix(_FINAL_SIGMA) + _SIGMA if final.endswith(_FINAL_SIGMA) else final
    return list(dict.fromkeys(map(like_pattern, (medial, final, inner))))


def like_pattern(search: str) -> str:
    """Finds the text itself: its wildcards are escaped."""
    escaped = search.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
