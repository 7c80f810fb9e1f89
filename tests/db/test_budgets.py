"""Calls that are ended: by their budget, by PostgreSQL's own limit, or because nobody waits any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from eventboard.core import request_context
from eventboard.db.database import Database, Statement
from tests.support.cancellations import storm
from tests.support.database import (
    BUDGET,
    ROLE,
    SIZE,
    SLEEP,
    Pauses,
    assert_idle,
    assert_nothing_open,
    assert_whole,
    each_kind,
    opened,
    slow,
    too_late,
)


@each_kind
async def test_call_beyond_its_budget(database: Database, database_url: str, kind: str) -> None:
    """The answer comes in time, and PostgreSQL works no longer for a caller who has gone."""
    with too_late():
        await slow(database, kind, BUDGET)(Pauses((30,)))
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_budget_that_an_earlier_statement_used(database: Database, database_url: str) -> None:
    """What a transaction's first statement took isn't there for its second."""
    with too_late():
        await slow(database, "write", BUDGET)(Pauses((0.3, 30)))
    await assert_idle(database_url)
    await assert_whole(database, database_url)


@pytest.mark.parametrize("kind", ["reading", "transaction"])
async def test_nobody_cancels(database: Database, database_url: str, kind: str) -> None:
    """PostgreSQL knows the budget, too, and ends the statement by itself."""
    with too_late(), request_context.budget(BUDGET):
        async with getattr(database, kind)(None) as connection:
            await connection.one(SLEEP, seconds=30)
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_nobody_cancels_a_single_row(database: Database, database_url: str) -> None:
    """The same for a statement that brings its settings along."""
    await database.row(None, None, SLEEP, seconds=0)
    with too_late(), request_context.budget(BUDGET):
        await database.row(None, None, SLEEP, seconds=30)
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_backstop(database_url: str) -> None:
    """What is not cancelled, PostgreSQL ends by itself."""
    database = Database(database_url, role=ROLE, size=1, connect_timeout=2, statement_timeout=0.2)
    await database.open()
    raw = await database._pool.acquire()  # noqa: SLF001 - as after a cancellation that got lost
    with pytest.raises(asyncpg.QueryCanceledError):
        await raw.execute("SELECT pg_sleep(30)", timeout=30)
    await database._pool.release(raw)  # noqa: SLF001
    await database.close()


@each_kind
async def test_pool_exhausted(database: Database, database_url: str, kind: str) -> None:
    """Who finds no connection free waits for one as long as its budget lasts."""
    everybody, released = asyncio.Barrier(SIZE + 1), asyncio.Event()

    async def hold() -> None:
        async with database.transaction(None):
            await everybody.wait()
            await released.wait()

    holders = [asyncio.create_task(hold()) for _ in range(SIZE)]
    await everybody.wait()
    with too_late():
        await slow(database, kind, BUDGET)(Pauses((0,)))
    waiting = asyncio.create_task(slow(database, kind)(Pauses((0,))))
    released.set()
    await asyncio.gather(*holders, waiting)
    await assert_whole(database, database_url)


async def test_storm_of_cancellations(database: Database, database_url: str) -> None:
    """Reads and transactions, cancelled and timed out at any point: every connection comes back, clean."""
    await storm(database, 2_000)
    await assert_whole(database, database_url)


async def cancelled_at(call: Coroutine[Any, Any, object], answer: int) -> bool:
    """Cancels it just when so many of its waits are over, before it knows; False where it needs no more of them."""
    task = asyncio.create_task(call)
    for _ in range(answer):
        await asyncio.sleep(0)  # it goes on to what it waits for next
        # Nothing else tells of it before the task knows.
        waiting: asyncio.Future[Any] = task._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001
        while not (task.done() or waiting.done()):  # noqa: ASYNC110 - the task would go on at the same time as we
            await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("kind", ["row", "reading", "transaction"])
async def test_cancelled_as_the_answer_comes(database_url: str, kind: str) -> None:
    """It leaves nothing open at the database: neither a transaction, nor a time limit that meets whoever comes next."""

    async def call(statement: Statement) -> None:
        with request_context.budget(30):
            if kind == "row":
                await one.row(None, None, statement)
                return
            async with getattr(one, kind)(None) as connection:
                await connection.one(statement)

    answers = 0
    async with opened(database_url, size=1) as one:
        await call(Statement(text("SELECT 1")))
        going = True
        while going:
            answers += 1
            # Another one each time: the driver has it prepared first, which is an answer of its own.
            going = await cancelled_at(call(Statement(text(f"SELECT {answers}, 'new'"))), answers)
            await assert_nothing_open(database_url, 1)
    assert answers > 2
