"""A database of one test, opened as a module opens it."""

from collections.abc import AsyncIterator

import pytest

from eventboard.db.database import Database
from tests.support.database import opened


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database
