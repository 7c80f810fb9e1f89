"""The pool of a module on a database of a test, and calls under a budget that sleep in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import asyncpg
import pytest
from msgspec import Struct
from sqlalchemy import text

from eventboard.core.contract import Budget, operation
from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Connection, Database, Statement
from eventboard.rpc.client import client
from eventboard.rpc.local import LocalTransport
from tests.support.processes import PATIENCE
from tests.support.stopwatch import Stopwatch

ROLE = "eventboard_events"

SIZE = 8

# PostgreSQL's own limit on a statement, where the call's budget doesn't end it.
BACKSTOP = "1min"

# Seconds that a call may take here, and how late its answer may come.
BUDGET, LATE = 0.5, 0.1

SLEEP = Statement(text("SELECT pg_sleep(:seconds)"))

SETTINGS = Statement(
    text(
        "SELECT current_setting('eventboard.organization_id', true), current_setting('eventboard.user_id', true),"
        " current_setting('statement_timeout'), current_user::text"
    )
)

# Of this database, without the connection that asks, and without autovacuum's workers, which come when they like.
SESSIONS = """
SELECT state, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@asynccontextmanager
async def opened(
    url: str, *, role: str = ROLE, size: int = SIZE, connect_timeout: float = PATIENCE
) -> AsyncIterator[Database]:
    database = Database(url, role=role, size=size, connect_timeout=connect_timeout)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def asked(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def assert_whole(database: Database, url: str, size: int = SIZE) -> None:
    """All of the pool's connections can be had at once, and the server knows of no open transaction."""
    everybody = asyncio.Barrier(size)

    async def hold() -> None:
        async with database.transaction(None) as connection:
            await asyncio.wait_for(everybody.wait(), PATIENCE)
            row = await connection.one(SETTINGS)
            assert row is not None
            assert tuple(row) == ("", "", BACKSTOP, ROLE)

    await asyncio.gather(*(hold() for _ in range(size)))
    await assert_nothing_open(url, size)


async def assert_nothing_open(url: str, most: int) -> None:
    """The server has so many sessions at most, and all are idle: no statement runs, and no transaction is open."""
    with Stopwatch() as watch:
        # A session whose connection was closed ends when the server next looks at it.
        while len(found := await asked(url, SESSIONS)) > most or {row["state"] for row in found} - {"idle"}:
            assert watch.elapsed < PATIENCE, found


async def assert_idle(url: str) -> None:
    """No statement runs any more, 100 ms after it was to end."""
    with Stopwatch() as watch:
        over = False
        while running := [row["query"] for row in await asked(url, SESSIONS) if row["state"] == "active"]:
            assert not over, running
            over = watch.seconds > LATE


class Pauses(Struct, frozen=True):
    """Seconds that the statements of one call sleep, one after the other."""

    seconds: tuple[float, ...]


class Slow(Protocol):
    @operation("slow.read", budget=Budget.READ, repeatable=True)
    async def read(self, query: Pauses) -> Pauses: ...

    @operation("slow.write", budget=Budget.READ, repeatable=True)
    async def write(self, query: Pauses) -> Pauses: ...


class SlowService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, query: Pauses) -> Pauses:
        async with self._database.reading(None) as connection:
            return await _sleep(connection, query)

    async def write(self, query: Pauses) -> Pauses:
        async with self._database.transaction(None) as connection:
            return await _sleep(connection, query)


async def _sleep(connection: Connection, query: Pauses) -> Pauses:
    for seconds in query.seconds:
        await connection.one(SLEEP, seconds=seconds)
    return query


def slow(database: Database, kind: str, budget: float = PATIENCE) -> Callable[[Pauses], Coroutine[Any, Any, Pauses]]:
    method: Callable[[Pauses], Coroutine[Any, Any, Pauses]] = getattr(
        client(Slow, LocalTransport(SlowService(database)), {Budget.READ: budget}), kind
    )
    return method


@contextmanager
def too_late() -> Iterator[None]:
    """The block, whose budget is BUDGET, ends as that does: neither before, nor later than promised."""
    with Stopwatch() as watch, pytest.raises(ServiceError) as refusal:
        yield
    assert refusal.value.code == Code.DEADLINE_EXCEEDED
    assert watch.elapsed > BUDGET - LATE
    assert watch.since(watch.begun + BUDGET) < LATE, f"{watch.elapsed:.3f} s by the clock"


async def refusal(call: Awaitable[object]) -> Code:
    with pytest.raises(ServiceError) as refused:
        await call
    return refused.value.code


each_kind = pytest.mark.parametrize("kind", ["read", "write"])
