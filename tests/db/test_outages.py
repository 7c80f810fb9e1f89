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


async def test_stopped_and_back(mortal: Server) -> None:
    """UNAVAILABLE at once while it is away, and served again within 5 s of its return."""
    async with opened(mortal.url, size=4) as database:
        await assert_whole(database, mortal.url, 4)
        running = [asyncio.create_task(slow(database, kind)(Pauses((30,)))) for kind in ("read", "write")]
        await until_asleep(mortal.url, 2)
        mortal.stop()
        assert [await refusal(task) for task in running] == [Code.UNAVAILABLE] * 2
        for kind in ("read", "write"):
            with Stopwatch() as watch, pytest.raises(ServiceError) as refused:
                await slow(database, kind)(Pauses((0,)))
            assert (refused.value.code, refused.value.retry_after) == (Code.UNAVAILABLE, 1)
            assert watch.seconds < LATE
        mortal.start()
        with Stopwatch() as watch:
            await slow(database, "read")(Pauses((0,)))
            await slow(database, "write")(Pauses((0,)))
        assert watch.seconds < 5
        await assert_whole(database, mortal.url, 4)


async def test_not_there_yet(mortal: Server) -> None:
    """A pool is opened before its database is there, and serves as soon as it is."""
    mortal.stop()
    async with opened(mortal.url) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        mortal.start()
        await slow(database, "read")(Pauses((0,)))


@each_kind
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_frozen(mortal: Server, kind: str, warm: bool) -> None:
    """Even a database that answers nothing, not even a cancellation, delays no answer."""
    async with opened(mortal.url, size=4) as database:
        if warm:
            await assert_whole(database, mortal.url, 4)
        with mortal.frozen():
            for _ in range(2):
                with too_late():
                    await slow(database, kind, BUDGET)(Pauses((0,)))
            await asyncio.gather(*(answered_too_late(slow(database, kind, BUDGET)(Pauses((0,)))) for _ in range(8)))
        with Stopwatch() as watch:
            await slow(database, kind)(Pauses((0,)))
        assert watch.seconds < 5
        await assert_whole(database, mortal.url, 4)


@each_kind
async def test_frozen_in_the_middle(mortal: Server, kind: str) -> None:
    """The same for a call whose statement was running already."""
    async with opened(mortal.url, size=4) as database:
        # It would end with the budget, so whenever it is frozen it has ended soon after, and finds its client gone.
        call = asyncio.create_task(answered_too_late(slow(database, kind, BUDGET)(Pauses((BUDGET,)))))
        await asyncio.sleep(0.1)  # it is on its way
        with mortal.frozen():
            await call
        await slow(database, kind)(Pauses((0,)))
        await assert_whole(database, mortal.url, 4)


async def test_frozen_for_longer_than_connecting_may_take(mortal: Server) -> None:
    """Where that is shorter than the budget it is 503, whose cause the request's line in the log says."""
    async with opened(mortal.url, connect_timeout=0.2) as database:
        with mortal.frozen(), pytest.raises(ServiceError) as raised:
            await database.row(None, None, SETTINGS)
    assert raised.value.code is Code.UNAVAILABLE
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_closed_while_frozen(mortal: Server) -> None:
    """A process can end while its database hangs."""
    async with opened(mortal.url, size=4) as database:
        await assert_whole(database, mortal.url, 4)
        with mortal.frozen():
            with Stopwatch() as watch:
                await database.close()
            assert watch.seconds < 1.5


async def test_no_connection_left(mortal: Server) -> None:
    """PostgreSQL has given all its connections to others: that passes, too."""
    others = [await asyncpg.connect(mortal.url) for _ in range(10)]
    async with opened(mortal.url, size=4) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        for other in others:
            await other.close()
        await slow(database, "read")(Pauses((0,)))
