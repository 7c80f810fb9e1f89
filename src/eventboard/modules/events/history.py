"""An event's history, in pages. The oldest entries come first."""

import hashlib
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from eventboard.core import cursors
from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database
from eventboard.identity.access_tokens import Principal
from eventboard.modules.events import lifecycle, repository
from eventboard.modules.events.contract import FindHistory, History, HistoryEntry, ListMeta, Status

# Entries for an older gateway, whose clients can't ask for a second page. They are up to 3 MB.
LIMIT_WITHOUT_PAGES = 1000


class CursorPosition(Struct, frozen=True, array_like=True):
    """The last entry of a page: the event (its fingerprint) and the version."""

    fingerprint: bytes
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


async def find(database: Database, caller: Principal, query: FindHistory) -> History:
    limit, cursor = (query.query.limit, query.query.cursor) if query.query else (LIMIT_WITHOUT_PAGES, None)
    after = _decode_cursor(cursor, query.event_id) if cursor else 0
    async with database.reading(caller.organization_id, caller.user_id) as connection:
        rows = await connection.all(
            repository.HISTORY,
            organization_id=caller.organization_id,
            event_id=query.event_id,
            after=after,
            # One more than the page shows whether there is a next page.
            most=limit + 1,
        )
    if not rows:
        raise lifecycle.not_found()
    author_id, status = rows[0]["author_id"], rows[0]["newest_status"]
    # A deleted event has no status. It is as visible as a draft.
    if not lifecycle.may_read_history(caller, author_id, status or Status.DRAFT):
        if status is not None and lifecycle.may_see(caller, author_id, status):
            raise ServiceError(Code.FORBIDDEN, "Only its author, MODERATORs and ADMINs may read an event's history.")
        raise lifecycle.not_found()
    if rows[0]["version"] is None:
        raise _invalid_cursor()
    entries = [HistoryEntry(*row[:-2]) for row in rows[:limit]]
    has_next = len(rows) > limit
    next_cursor = (
        cursors.encode(CursorPosition(_fingerprint(query.event_id), entries[-1].version)) if has_next else None
    )
    return History(data=entries, meta=ListMeta(limit=limit, has_next=has_next, next_cursor=next_cursor))


def _invalid_cursor() -> ServiceError:
    return cursors.not_of("this event's history")


def _fingerprint(event_id: UUID) -> bytes:
    return hashlib.sha256(b"history" + event_id.bytes).digest()[:8]


def _decode_cursor(cursor: str, event_id: UUID) -> int:
    """The version after which the next page begins."""
    try:
        position = cursors.decode(cursor, CursorPosition)
    except ValueError:
        raise _invalid_cursor() from None
    if position.fingerprint != _fingerprint(event_id):
        raise _invalid_cursor()
    return position.version
