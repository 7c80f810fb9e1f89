"""A database of one test, opened as a module opens it, and a PostgreSQL that can be taken away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from eventboard.db.database import Database
from tests.support.cluster import public_folder
from tests.support.database import ROLE, asked, opened
from tests.support.outages import Server


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture
async def mortal(folder: Path) -> AsyncIterator[Server]:
    """It has no tables, and few connections."""
    server = Server(folder / "postgres")
    server.start(max_connections="10")
    with suppress(asyncpg.DuplicateObjectError):
        await asked(server.url, f"CREATE ROLE {ROLE}")
    yield server
    server.stop()
