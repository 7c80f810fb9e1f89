"""PostgreSQL stopped, frozen, full, or not there yet."""

import asyncio

import asyncpg
import pytest

from eventboard.core.errors import Code, ServiceError
from tests.support.database import (
    BUDGET,
    LATE,
    SETTINGS,
    Pauses,
    assert_whole,
    each_kind,
    opened,
    refusal,
    slow,
    too_late,
)
from tests.support.outages import Server, answered_too_late, until_asleep
from tests.support.stopwatch import Stopwatch


async def test_stopped_and_back(server: Server) -> None:
    """UNAVAILABLE at once while it is away, and served again within 5 s of its return."""
    async with opened(server.url, size=4) as database:
        await assert_whole(database, server.url, 4)
        running = [asyncio.create_task(slow(database, kind)(Pauses((30,)))) for kind in ("read", "write")]
        await until_asleep(server.url, 2)
        server.stop()
        assert [await refusal(task) for task in running] == [Code.UNAVAILABLE] * 2
        for kind in ("read", "write"):
            with Stopwatch() as watch, pytest.raises(ServiceError) as refused:
                await slow(database, kind)(Pauses((0,)))
            assert (refused.value.code, refused.value.retry_after) == (Code.UNAVAILABLE, 1)
            assert watch.seconds < LATE
        server.start()
        with Stopwatch() as watch:
            await slow(database, "read")(Pauses((0,)))
            await slow(database, "write")(Pauses((0,)))
        assert watch.seconds < 5
        await assert_whole(database, server.url, 4)


async def test_not_there_yet(server: Server) -> None:
    """A pool is opened before its database is there, and serves as soon as it is."""
    server.stop()
    async with opened(server.url) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        server.start()
        await slow(database, "read")(Pauses((0,)))


@each_kind
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_frozen(server: Server, kind: str, warm: bool) -> None:
    """Even a database that answers nothing, not even a cancellation, delays no answer."""
    async with opened(server.url, size=4) as database:
        if warm:
            await assert_whole(database, server.url, 4)
        with server.frozen():
            for _ in range(2):
                with too_late():
                    await slow(database, kind, BUDGET)(Pauses((0,)))
            await asyncio.gather(*(answered_too_late(slow(database, kind, BUDGET)(Pauses((0,)))) for _ in range(8)))
        with Stopwatch() as watch:
            await slow(database, kind)(Pauses((0,)))
        assert watch.seconds < 5
        await assert_whole(database, server.url, 4)


@each_kind
async def test_frozen_in_the_middle(server: Server, kind: str) -> None:
    """The same for a call whose statement was running already."""
    async with opened(server.url, size=4) as database:
        # It would end with the budget, so whenever it is frozen it has ended soon after, and finds its client gone.
        call = asyncio.create_task(answered_too_late(slow(database, kind, BUDGET)(Pauses((BUDGET,)))))
        await asyncio.sleep(0.1)  # it is on its way
        with server.frozen():
            await call
        await slow(database, kind)(Pauses((0,)))
        await assert_whole(database, server.url, 4)


async def test_frozen_for_longer_than_connecting_may_take(server: Server) -> None:
    """Where that is shorter than the budget it is 503, whose cause the request's line in the log says."""
    async with opened(server.url, connect_timeout=0.2) as database:
        with server.frozen(), pytest.raises(ServiceError) as raised:
            await database.row(None, None, SETTINGS)
    assert raised.value.code is Code.UNAVAILABLE
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_closed_while_frozen(server: Server) -> None:
    """A process can end while its database hangs."""
    async with opened(server.url, size=4) as database:
        await assert_whole(database, server.url, 4)
        with server.frozen():
            with Stopwatch() as watch:
                await database.close()
            assert watch.seconds < 1.5


async def test_no_connection_left(server: Server) -> None:
    """PostgreSQL has given all its connections to others: that passes, too."""
    others = [await asyncpg.connect(server.url) for _ in range(10)]
    async with opened(server.url, size=4) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        for other in others:
            await other.close()
        await slow(database, "read")(Pauses((0,)))
