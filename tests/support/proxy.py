"""A TCP proxy that does to connections what networks and dying processes do to them."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import PATIENCE

# Where connections go on to: host and port, or a Unix socket.
Target = tuple[str, int] | Path


class Proxy:
    """In a thread of its own. What is set holds at once, for connections that are open already too.

    It accepts before it knows whether its target does: to be refused, say `refuse()`.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {target}")
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._cut_after = 0
        # Connections that were accepted before this many others are swallowed.
        self._swallowed = 0
        # Its own while nobody listens there, too.
        self.port = free_port()
        # How many answers are still to be lost.
        self.cuts = 0
        # Seconds that each part of an answer is held back.
        self.delay = 0.0
        # When each connection was accepted, and each answer lost, on time.monotonic()'s clock.
        self.accepted: list[float] = []
        self.lost: list[float] = []
        self._thread.start()
        self.mend()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def mend(self) -> None:
        """Everything goes through."""
        self._run(self._mend())

    def refuse(self) -> None:
        """Nobody listens, and whoever was connected is cut off."""
        self._run(self._refuse())

    def stall(self) -> None:
        """Connections are accepted, and nothing passes in either direction."""
        self._run(self._stall())

    def swallow(self) -> int:
        """Whoever is connected is not told that nothing passes any more; new connections work. Returns how many."""
        self._swallowed = len(self.accepted)
        return self.open

    def cut(self, *, times: int = 1, after: int = 0) -> None:
        """The next `times` answers are lost after so many bytes: the connection is reset."""
        self.cuts, self._cut_after = times, after

    def close(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _mend(self) -> None:
        self.cuts, self.delay = 0, 0.0
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _stall(self) -> None:
        self._flowing.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        task = self._loop.create_task(self._join(reader, writer, len(self.accepted)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writers = [writer]
        try:
            there_reader, there_writer = await self._connect()
            writers.append(there_writer)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(reader, there_writer, number))
                ways.create_task(self._carry(there_reader, writer, number, answers=True))
        except (OSError, ExceptionGroup):
            # Cut, or one side is gone: a reset tells the other one.
            pass
        finally:
            for end in writers:
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, *, answers: bool = False
    ) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            if number <= self._swallowed:
                continue
            if answers:
                await asyncio.sleep(self.delay)
                if self.cuts:
                    self.cuts -= 1
                    self.lost.append(time.monotonic())
                    writer.write(data[: self._cut_after])
                    await writer.drain()
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        if number <= self._swallowed:
            return
        # What was written before the end arrives before it.
        writer.close()
        await writer.wait_closed()


@contextmanager
def proxied(target: Target) -> Iterator[Proxy]:
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
