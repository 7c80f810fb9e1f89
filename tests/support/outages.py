"""A PostgreSQL of a test that is stopped or frozen, and calls that meet that."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventboard.dev import postgres
from tests.support.database import SESSIONS, asked, too_late
from tests.support.processes import PATIENCE, children


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


async def until_asleep(url: str, count: int) -> None:
    """So many statements of others sleep now."""
    async with asyncio.timeout(PATIENCE):
        while sum("pg_sleep" in row["query"] for row in await asked(url, SESSIONS) if row["state"] == "active") < count:
            pass


async def answered_too_late(call: Awaitable[object]) -> None:
    with too_late():
        await call
