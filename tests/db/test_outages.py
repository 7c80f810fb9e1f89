"""PostgreSQL stopped, frozen, full, or not there yet."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.dev import postgres
from tests.support.cluster import public_folder
from tests.support.database import (
    BUDGET,
    LATE,
    ROLE,
    SESSIONS,
    SETTINGS,
    Pauses,
    asked,
    assert_whole,
    each_kind,
    opened,
    refusal,
    slow,
    too_late,
)
from tests.support.processes import PATIENCE, children
from tests.support.stopwatch import Stopwatch


class Server:
    """A PostgreSQL that can be taken away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = ""

    def start(self, **settings: str) -> None:
        chosen = os.environ.get("EVENTBOARD_POSTGRES_BIN")
        self._running = postgres.start(
            self._folder, bin_dir=Path(chosen) if chosen else None, durable=False, settings=settings
        )
        self.url = self._running.url()

    def stop(self) -> None:
        self._running.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The machine under it hangs: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        postmaster = int((self._folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        for pid in children(postmaster):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, number)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder / "postgres")
    server.start(max_connections="10")
    with suppress(asyncpg.DuplicateObjectError):
        await asked(server.url, f"CREATE ROLE {ROLE}")
    yield server
    server.stop()


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


async def until_asleep(url: str, count: int) -> None:
    """So many statements of others sleep now."""
    async with asyncio.timeout(PATIENCE):
        while sum("pg_sleep" in row["query"] for row in await asked(url, SESSIONS) if row["state"] == "active") < count:
            pass


async def answered_too_late(call: Awaitable[object]) -> None:
    with too_late():
        await call


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
