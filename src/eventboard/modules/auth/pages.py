"""Pages by cursor: of members, invitations and sessions.

A cursor names the last row that was shown, and the next page begins after it, whatever was added or removed meanwhile.
It holds times and ids, no names: it is part of a URL.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from advanced_alchemy.filters import StatementFilter, StatementTypeT
from msgspec import Struct
from sqlalchemy import tuple_

from eventboard.core import cursors
from eventboard.core.contract import Moment
from eventboard.core.errors import ServiceError
from eventboard.modules.auth.contract import CursorMeta, PageQuery

Row = TypeVar("Row")

# Rows for an older gateway, whose clients can't ask for a second page: some 3 MB.
WITHOUT_PAGES = 10_000


class Position(Struct, frozen=True, array_like=True):
    """What a cursor holds: which list of whom it continues, and the row that it begins after."""

    fingerprint: bytes
    id: UUID
    at: Moment | None = None


class AfterRow(StatementFilter):
    """Keyset pagination: rows in the order of `columns`, from the one after `values` on."""

    def __init__(self, columns: Sequence[Any], values: Sequence[Any] | None, limit: Any, *, descending: bool) -> None:
        self._columns = columns
        self._values = values
        self._limit = limit
        self._descending = descending

    def append_to_statement(
        self, statement: StatementTypeT, model: type[Any], *args: Any, **kwargs: Any
    ) -> StatementTypeT:
        ordered: Any = statement
        if self._values is not None:
            row, after = tuple_(*self._columns), tuple_(*self._values)
            ordered = ordered.where(row < after if self._descending else row > after)
        order = [column.desc() if self._descending else column for column in self._columns]
        rows: StatementTypeT = ordered.order_by(*order).limit(self._limit)
        return rows


class CursorPages:
    """One list. `columns` order it, the last of them an id; `timed`: a cursor holds a time beside the id."""

    def __init__(self, name: str, *columns: Any, descending: bool = False, timed: bool = False) -> None:
        self._name = name
        self._columns = columns
        self._descending = descending
        self._timed = timed

    def position(self, owner: UUID, query: PageQuery | None) -> Position | None:
        """None without a cursor. Raises `invalid-cursor` for one that isn't of this list of the same owner."""
        cursor = None if query is None else query.cursor
        if cursor is None:
            return None
        try:
            position = cursors.decode(cursor, Position)
            if position.at is not None:
                position.at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise invalid_cursor() from None
        if position.fingerprint != self._fingerprint(owner) or (position.at is None) == self._timed:
            raise invalid_cursor()
        return position

    def rows(self, values: Sequence[Any] | None, limit: Any) -> AfterRow:
        """From the row after the one that has these `values` in the columns, or from the beginning.

        `limit` is one more than are shown.
        """
        return AfterRow(self._columns, values, limit, descending=self._descending)

    def page(
        self,
        owner: UUID,
        query: PageQuery | None,
        rows: Sequence[Row],
        key: Callable[[Row], tuple[UUID] | tuple[UUID, datetime]],
    ) -> tuple[Sequence[Row], CursorMeta]:
        """The rows that are shown, of one more where there is a next page.

        `key` returns what a cursor holds of a row: its id, and its time where the list is timed.
        """
        limit = rows_shown(query)
        shown, has_next = rows[:limit], len(rows) > limit
        cursor = self._cursor(owner, *key(shown[-1])) if has_next else None
        return shown, CursorMeta(limit=limit, has_next=has_next, next_cursor=cursor)

    def _cursor(self, owner: UUID, id_: UUID, at: datetime | None = None) -> str:
        return cursors.encode(Position(self._fingerprint(owner), id_, at))

    def _fingerprint(self, owner: UUID) -> bytes:
        return hashlib.sha256(self._name.encode() + owner.bytes).digest()[:8]


def rows_shown(query: PageQuery | None) -> int:
    return WITHOUT_PAGES if query is None else query.limit


def invalid_cursor() -> ServiceError:
    return cursors.not_of("this list")
