"""Counters that processes share: the same in PostgreSQL and in Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from sqlalchemy import column, text

from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database, Statement
from eventboard.modules.auth import redis_counters
from eventboard.modules.auth.counters import BATCH, Count, Counters, DatabaseCounters, Increment, Query
from eventboard.modules.auth.redis_counters import RedisCounters
from tests.support.ports import free_port
from tests.support.processes import PATIENCE
from tests.support.redis import RedisServer, needs_redis, redis_server

KEY, OTHER, THIRD = b"\x00" * 32, b"\xff" * 32, b"\x80" * 32


@dataclass
class Store:
    """`age`: as if each window had ended. `more`: another process' way to the same store."""

    counters: Counters
    age: Callable[[], Awaitable[object]]
    more: Callable[[], Awaitable[Counters]]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def counting_in(url: str) -> AsyncIterator[DatabaseCounters]:
    database = Database(url, role="eventboard_auth", size=10, connect_timeout=PATIENCE)
    await database.open()
    yield DatabaseCounters(database)
    await database.close()


@pytest.fixture(params=["database_url", pytest.param("redis", marks=needs_redis)])
def server(request: pytest.FixtureRequest) -> str | RedisServer:
    """A database's URL, or a Redis."""
    asked: str | RedisServer = request.getfixturevalue(request.param)
    return asked


@pytest.fixture
async def store(server: str | RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    if isinstance(server, RedisServer):
        # On a busy machine it may be late, which no test here is about.
        monkeypatch.setattr(redis_counters, "TIMEOUT", PATIENCE)
        server.age()
        one, two = RedisCounters(server.url), RedisCounters(server.url.replace("redis", "valkey"))
        yield Store(one, lambda: asyncio.to_thread(server.age), lambda: asyncio.sleep(0, two))
        await one.close()
        await two.close()
        return
    age = "UPDATE auth.counters SET ends_at = now()"
    async with counting_in(server) as first, counting_in(server) as second:
        yield Store(first, lambda: execute(server, age), lambda: asyncio.sleep(0, second))


async def counted(counters: Counters, *increment: Any, **more: Any) -> Count:
    (count,) = await counters.add(Increment(*increment, **more))
    return count


def has_left(count: Count, seconds: float) -> bool:
    """So much, but for what the test has taken since; the clocks of two processes may differ a little."""
    return seconds - PATIENCE <= count.ends_in <= seconds + 0.5


async def execute(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(statement)
    await connection.close()
    return list(rows)


async def test_window(store: Store) -> None:
    """It begins with its first count and ends by itself; each key has its own."""
    first = await counted(store.counters, KEY, 3600)
    assert (first.total, has_left(first, 3600)) == (1, True)
    assert (await counted(store.counters, KEY, 3600, 5)).total == 6
    assert (await counted(store.counters, OTHER, 3600)).total == 1
    await store.age()
    assert (await counted(store.counters, KEY, 1800)).total == 1
    assert has_left(await counted(store.counters, KEY, 3600), 1800)


async def test_taken_back(store: Store) -> None:
    """What is taken back is as never counted; taken back after the end of its window, it is no credit for the next."""
    await counted(store.counters, KEY, 3600, 3)
    assert (await counted(store.counters, KEY, 3600, -1)).total == 2
    await store.age()
    for _ in range(3):
        assert (await counted(store.counters, KEY, 1800, -1)).total == 0
    again = await counted(store.counters, KEY, 3600)
    assert (again.total, has_left(again, 1800)) == (1, True)


async def test_up_to_the_first_that_is_too_many(store: Store) -> None:
    """What comes after it isn't counted; what makes just its most is one of those that may."""
    increments = [Increment(KEY, 60, most=2), Increment(OTHER, 60, most=1), Increment(THIRD, 60)]
    made = [[count.total for count in await store.counters.add(*increments)] for _ in range(3)]
    assert made == [[1, 1, 1], [2, 2], [3]]
    back = [Increment(key, 60, -1) for key in (KEY, OTHER, THIRD)]
    assert [count.total for count in await store.counters.add(*back)] == [2, 1, 0]


async def test_asked_without_counting(store: Store) -> None:
    """Of an amount of 0 it is said what was counted, and what comes after it isn't counted where that is too much."""
    assert (await counted(store.counters, KEY, 60, 0)).total == 0
    await counted(store.counters, KEY, 60, 2)
    increments = [Increment(KEY, 60, 0, most=1), Increment(OTHER, 60)]
    assert [count.total for count in await store.counters.add(*increments)] == [2]
    assert [count.total for count in await store.counters.add(Increment(KEY, 60, 0, most=2), Increment(OTHER, 60))] == [
        2,
        1,
    ]


async def test_query_together_with_a_count(store: Store, database_url: str) -> None:
    """Its row is returned whatever is counted, and it is counted as without it."""
    statement = Statement(text("SELECT 1 / :by AS quotient WHERE :by < 5").columns(column("quotient")))
    database = Database(database_url, role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    increments = [Increment(KEY, 3600, 2), Increment(OTHER, 3600, most=1), Increment(THIRD, 3600)]
    for by, quotient, made in ((1, 1, [2, 1, 1]), (9, None, [4, 2]), (2, 0, [6, 3])):
        counts, answer = await store.counters.add_and_query(increments, Query(database, statement, {"by": by}))
        assert [count.total for count in counts] == made
        assert (answer and answer["quotient"]) == quotient
    assert all(has_left(count, 3600) for count in counts)
    counts, answer = await store.counters.add_and_query([], Query(database, statement, {"by": 1}))
    assert (counts, answer and answer["quotient"]) == ([], 1)
    await database.close()


async def test_query_that_fails(store: Store, database_url: str) -> None:
    """Then nothing is counted, and what was remembered still is."""
    statement = Statement(text("SELECT 1 / :by AS quotient").columns(column("quotient")))
    database = Database(database_url, role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    for by in (1, 1, 0):
        query = Query(database, statement, {"by": by})
        with nullcontext() if by else pytest.raises(asyncpg.DivisionByZeroError):
            await store.counters.add_and_query([Increment(KEY, 60), Increment(OTHER, 60, restart=True)], query)
    assert (await counted(store.counters, KEY, 60)).total == 3
    assert await store.counters.exists(OTHER)
    await database.close()


async def test_query_that_is_cancelled(store: Store, database_url: str) -> None:
    """At the deadline of its call: nothing is counted, as where it fails."""
    statement = Statement(text("SELECT pg_sleep(:seconds)").columns(column("pg_sleep")))
    database = Database(database_url, role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await store.counters.add_and_query([Increment(KEY, 60)], Query(database, statement, {"seconds": 60}))
    async with asyncio.timeout(5):
        while (await counted(store.counters, KEY, 60, 0)).total:  # noqa: ASYNC110 - it is undone in the background
            await asyncio.sleep(0.01)
    await database.close()


async def test_many_at_once(store: Store) -> None:
    """Two processes, a hundred counts at once: each makes another number."""
    several = [store.counters, await store.more()]
    counts = await asyncio.gather(*(counted(several[number % 2], KEY, 60) for number in range(100)))
    assert sorted(count.total for count in counts) == list(range(1, 101))


async def test_waiting_for_one_key(database_url: str) -> None:
    """However many calls count with a key whose row is locked, the pool has connections for others."""
    other_process = await asyncpg.connect(database_url)
    async with counting_in(database_url) as counters, asyncio.timeout(30):
        await counted(counters, KEY, 60)
        async with other_process.transaction():
            await other_process.execute("UPDATE auth.counters SET total = 10")
            calls = [asyncio.create_task(counted(counters, KEY, 60)) for _ in range(30)]
            while not await other_process.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the database tells nobody who waits
            assert (await counted(counters, OTHER, 60)).total == 1
            assert not any(call.done() for call in calls)
        assert sorted([(await call).total for call in calls]) == list(range(11, 41))
    await other_process.close()


async def test_remembered(store: Store) -> None:
    """For so long since the last time."""
    assert not await store.counters.exists(KEY)
    await counted(store.counters, KEY, 60, restart=True)
    await counted(store.counters, KEY, 3600, restart=True)
    assert await store.counters.exists(KEY)
    assert not await store.counters.exists(OTHER)
    assert (await counted(store.counters, KEY, 60)).ends_in > 3500
    await store.age()
    assert not await store.counters.exists(KEY)


async def test_nothing_but_hashes_is_kept(database_url: str) -> None:
    """And by the database's clock."""
    async with counting_in(database_url) as counters:
        await counted(counters, KEY, 60)
    rows = await execute(
        database_url, "SELECT key, total, ends_at BETWEEN now() AND now() + '1 min' FROM auth.counters"
    )
    assert [tuple(row) for row in rows] == [(KEY, 1, True)]


async def test_sweeping(database_url: str) -> None:
    """What is over goes, however much it is; what isn't stays."""
    await execute(
        database_url,
        "INSERT INTO auth.counters SELECT sha256(n::text::bytea), n, now() - interval '1 s'"
        f" FROM generate_series(1, {2 * BATCH + 1}) AS n",
    )
    async with counting_in(database_url) as counters:
        await counted(counters, KEY, 60)
        assert await counters.delete_expired() == 2 * BATCH + 1
        assert await counters.delete_expired() == 0
    assert [row[0] for row in await execute(database_url, "SELECT key FROM auth.counters")] == [KEY]


async def test_store_that_is_away() -> None:
    """It says so, and says it soon."""
    database = Database(
        f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", role="eventboard_auth", size=1, connect_timeout=1
    )
    await database.open()
    redis = RedisCounters(f"redis://127.0.0.1:{free_port()}")
    several: list[Counters] = [DatabaseCounters(database), redis]
    for counters in several:
        for call in (counters.add(Increment(KEY, 60)), counters.exists(KEY)):
            with pytest.raises(ServiceError) as refusal:
                await call
            assert (refusal.value.code, refusal.value.retry_after) == (Code.UNAVAILABLE, 1)
    await redis.close()
    await database.close()
