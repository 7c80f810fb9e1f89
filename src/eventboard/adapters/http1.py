"""Kept HTTP/1.1 connections to other processes, each with one call at a time.

An answer belongs to the call that it was waited for, or to none: a connection whose call was given up, which says more
than its answer, or what is no HTTP, isn't used again. Nothing else of HTTP is here, for our own services need nothing
else (docs/decisions/0017-http-client.md).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from msgspec import Struct

# Seconds: idle connections are closed by this side first, for the server keeps them for longer (server.py).
IDLE = 30.0
# Bytes of an answer, its headers included; the largest that a service gives is a page of events, some hundred KiB.
MOST = 16 * 1024 * 1024


class NeverMadeError(Exception):
    """No connection could be made: nothing was sent."""


class EndedError(Exception):
    """The connection ended before its answer, or held something else: what was sent may have been received."""


class Answer(Struct, frozen=True):
    """`headers` by their names in lower case; of one that is there twice, the last."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str | None:
        """`name` is in lower case."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")


class Client:
    """To any number of addresses, each `http://host:port` with an IP address as its host. Times are in seconds."""

    def __init__(self, *, connect_timeout: float, idle: float = IDLE, most: int = MOST) -> None:
        self._connect_timeout = connect_timeout
        self._idle = idle
        self._most = most
        self._free: defaultdict[str, list[_Connection]] = defaultdict(list)
        self._all: set[_Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(self, address: str, request: bytes) -> Answer:
        """`request` is a whole one, as it goes over the wire. Raises NeverMadeError and EndedError."""
        connection = self._taken(address) or await self._made(address)
        try:
            answer = await connection.ask(request)
        except BaseException:
            # Whatever still comes is nobody's.
            connection.abort()
            raise
        if connection.usable:
            self._keep(address, connection)
        return answer

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._all):
            connection.abort()
        if self._all:
            await asyncio.wait([connection.ended for connection in self._all])

    def _taken(self, address: str) -> "_Connection | None":
        free = self._free[address]
        oldest = asyncio.get_running_loop().time() - self._idle
        while free:
            connection = free.pop()
            if connection.usable and connection.free_since > oldest:
                return connection
            connection.abort()
        return None

    async def _made(self, address: str) -> "_Connection":
        parts, loop = urlsplit(address), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._most, self._all.discard), parts.hostname or "", parts.port or 80
                )
        except OSError as error:  # TimeoutError is one
            raise NeverMadeError(str(error) or type(error).__name__) from None
        if not connection.usable:
            raise NeverMadeError("it ended at once")
        self._all.add(connection)
        return connection

    def _keep(self, address: str, connection: "_Connection") -> None:
        loop = asyncio.get_running_loop()
        connection.free_since = loop.time()
        self._free[address].append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._idle, self._sweep)

    def _sweep(self) -> None:
        """Closes what has been idle for long: within twice that time."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._idle
        for address, free in list(self._free.items()):
            while free and free[0].free_since <= oldest:
                free.pop(0).abort()
            if not free:
                del self._free[address]
        self._sweeping = loop.call_later(self._idle, self._sweep) if self._free else None


class _Connection(asyncio.Protocol):
    """`most`: bytes of an answer. `lost` is told when it has ended."""

    def __init__(self, most: int, lost: Callable[["_Connection"], None]) -> None:
        self._most = most
        self._lost = lost
        self._parser = HttpResponseParser(self)
        self._transport: Any = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        # Whether its last answer leaves it open.
        self._kept = True
        self.free_since = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        return self._kept and not self._transport.is_closing()

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self._size = 0
        self._transport.write(request)
        return waiting

    def abort(self, why: str = "it was given up") -> None:
        self._kept = False
        self._fail(why)
        self._transport.abort()

    # Of asyncio's transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._kept = False
        self._fail("it ended before its answer" if exc is None else str(exc))
        self.ended.set_result(None)
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            self.abort("its answer is too large")
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.abort(f"what it answers is no answer: {error}")

    # Of httptools' parser.

    def on_message_begin(self) -> None:
        if self._waiting is None:
            raise HttpParserError("nothing was asked")
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # the answer is still to come
        waiting, self._waiting = self._waiting, None
        if not self._parser.should_keep_alive():
            self._kept = False
            self._transport.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(status, self._headers, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(EndedError(why))
