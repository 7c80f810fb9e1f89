"""Connections that end, or of which nothing is heard any more, while PostgreSQL runs."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database
from eventboard.db.pool import CLEAN_UP, PROBE_AFTER, PROBE_TIMEOUT
from eventboard.dev.postgres import SUPERUSER
from tests.support.database import (
    SIZE,
    SLEEP,
    Pauses,
    asked,
    assert_whole,
    each_kind,
    opened,
    refusal,
    slow,
)
from tests.support.processes import PATIENCE
from tests.support.proxy import Proxy, proxied
from tests.support.stopwatch import Stopwatch


@pytest.fixture
async def through(database_url: str) -> AsyncIterator[tuple[Database, Proxy]]:
    """All of its connections exist, and go through the proxy."""
    address = urlsplit(database_url)
    socket = Path(parse_qs(address.query)["host"][0], ".s.PGSQL.5432")
    with proxied(socket) as proxy:
        async with opened(f"postgresql://{SUPERUSER}@127.0.0.1:{proxy.port}{address.path}") as database:
            await assert_whole(database, database_url)
            yield database, proxy


async def assert_answered(database: Database) -> None:
    """A read, within a second: it waits for one dead connection at most."""
    with Stopwatch() as watch, request_context.budget(PATIENCE):
        await database.row(None, None, SLEEP, seconds=0)
    assert watch.seconds < 1


@each_kind
async def test_session_ended_by_an_administrator(database: Database, database_url: str, kind: str) -> None:
    """The call is told that the database is away; the next one gets a connection that is whole."""
    call = asyncio.create_task(slow(database, kind)(Pauses((30,))))
    while not await asked(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep%'",
    ):
        assert not call.done()
    assert await refusal(call) == Code.UNAVAILABLE
    await slow(database, kind)(Pauses((0,)))
    await assert_whole(database, database_url)


async def test_idle_sessions_ended_by_an_administrator(database: Database, database_url: str) -> None:
    """A connection that died in the pool costs nobody a call."""
    await assert_whole(database, database_url)
    await asked(
        database_url,
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await assert_whole(database, database_url)


async def test_storm_of_ended_sessions(database: Database, database_url: str) -> None:
    """At whichever point of a call its session is ended, it is told the same: the database is away."""
    outcomes = Counter[str]()
    over = asyncio.Event()

    async def worker(number: int) -> None:
        call = slow(database, ("read", "write")[number % 2])
        while not over.is_set():
            try:
                await call(Pauses((0, 0, 0)))
                outcomes["done"] += 1
            except ServiceError as error:
                outcomes[error.code] += 1

    workers = [asyncio.create_task(worker(number)) for number in range(SIZE)]
    rounds = 0
    while rounds < 40 or len(outcomes) < 2:
        rounds += 1
        await asked(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    over.set()
    await asyncio.gather(*workers)
    assert outcomes.keys() == {"done", Code.UNAVAILABLE}
    await assert_whole(database, database_url)


async def test_swallowed_while_busy(through: tuple[Database, Proxy]) -> None:
    """One request fails, with 504; those that come then find connections that work."""
    database, proxy = through
    # The connection that was used last is used next, and isn't probed as it was idle for no time.
    await assert_answered(database)
    assert proxy.swallow() == SIZE
    with request_context.budget(0.5), pytest.raises(ServiceError) as raised:
        await database.row(None, None, SLEEP, seconds=0)
    assert raised.value.code is Code.DEADLINE_EXCEEDED
    for _ in range(SIZE):
        await assert_answered(database)
    assert len(proxy.accepted) <= 2 * SIZE + 2  # the cancellations, too


async def test_swallowed_while_idle(through: tuple[Database, Proxy], caplog: pytest.LogCaptureFixture) -> None:
    """No request fails, whether they come one at a time or all at once."""
    database, proxy = through
    for at_once in (False, True):
        proxy.swallow()
        await asyncio.sleep(PROBE_AFTER)
        if at_once:
            await asyncio.gather(*(assert_answered(database) for _ in range(SIZE)))
        else:
            for _ in range(SIZE):
                await assert_answered(database)
    assert database.pool().in_use == 0
    await asyncio.sleep(2 * CLEAN_UP)  # the dead ones are closed meanwhile
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


async def test_probed_by_a_caller_who_goes(through: tuple[Database, Proxy]) -> None:
    """Whoever has less time than a probe gets no answer; but the other idle connections go with this one."""
    database, proxy = through
    proxy.swallow()
    await asyncio.sleep(PROBE_AFTER)
    with request_context.budget(0.1), pytest.raises(ServiceError):
        await database.row(None, None, SLEEP, seconds=0)
    with Stopwatch() as watch, request_context.budget(PATIENCE):
        await database.row(None, None, SLEEP, seconds=0)
    assert watch.seconds < PROBE_TIMEOUT
