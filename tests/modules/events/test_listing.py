"""The statements of lists: few, whatever is asked for."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from eventboard.db.database import Statement
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events import listing
from eventboard.modules.events.contract import EventQuery


async def test_one_statement_for_several_limits() -> None:
    """A limit isn't in a statement's text: each would be compiled here, and prepared by every connection."""
    caller = Principal(uuid4(), uuid4(), Role.USER, "Una", uuid4(), int(datetime(2030, 1, 1, tzinfo=UTC).timestamp()))
    texts: set[str] = set()

    async def rows_of(statement: Statement, **_: Any) -> list[Any]:
        texts.add(statement.sql)
        return [{"total": 0}] if "search_rows" not in statement.sql and "LATERAL" not in statement.sql else []

    for limit in range(1, 101):
        await listing.find(rows_of, caller, EventQuery(limit=limit))
        await listing.find(rows_of, caller, EventQuery(limit=limit, page=2))
    assert len(texts) == len(listing.PAGE_SIZES) + 1 + 1, "pages by size, pages that skip, and the count"
