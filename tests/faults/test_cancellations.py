"""What tests/db shows with some thousand calls that are cancelled or time out, with many more."""

from tests.db.test_row_level_security import with_twenty_organizations
from tests.db.test_session import assert_whole as assert_sessions_whole
from tests.db.test_session import opened as opened_sessions
from tests.support.board import Board
from tests.support.cancellations import look_around_by_sessions, storm, storm_of_sessions
from tests.support.database import assert_whole, opened


async def test_calls(database_url: str) -> None:
    """Every connection comes back, clean."""
    async with opened(database_url) as database:
        await storm(database, 10_000)
        await assert_whole(database, database_url)


async def test_sessions(database_url: str) -> None:
    """The same for SQLAlchemy's."""
    async with opened_sessions(database_url) as sessions:
        await storm_of_sessions(sessions, 2_000)
        await assert_sessions_whole(sessions, database_url)


async def test_many_organizations(board: Board) -> None:
    """No scope sees a foreign row."""
    await with_twenty_organizations(board, 10_000)


async def test_sessions_of_many_organizations(database_url: str) -> None:
    """Nor does a session."""
    async with opened_sessions(database_url) as sessions:
        await look_around_by_sessions(sessions, 1_000)
