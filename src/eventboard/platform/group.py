"""The workers behind one port: what they share, and how one asks the others.

The supervisor makes it and keeps it: a piece of memory with a part for each worker, which outlives the worker, and a
socket on the loopback interface for each, where it answers for itself alone. A process without others has none of it.
"""

import asyncio
import mmap
import os
import socket
import tempfile
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

LOOPBACK = "127.0.0.1"
# Bytes of one worker's part of the memory. Pages that nobody writes to take no room.
PART = 1024 * 1024
# Seconds that another worker may take to answer: longer than its checks do (platform/health.py), of which it is to
# tell. One that was killed a moment ago doesn't answer.
PATIENCE = 2.5


class Place(Struct, frozen=True):
    """A worker's, as its supervisor tells it: its number, file descriptors that it inherits, and everybody's port."""

    number: int
    memory: int
    listener: int
    ports: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "Place":
        return msgspec.json.decode(text, type=cls)

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()

    def map(self) -> mmap.mmap:
        """The whole group's memory."""
        return mmap.mmap(self.memory, PART * len(self.ports))

    async def ask(self, target: str) -> Sequence[bytes | None]:
        """The other workers' answers to `GET <target>`, None where they don't come in time."""
        others = [port for number, port in enumerate(self.ports) if number != self.number]
        return await asyncio.gather(*(_get(port, target) for port in others))


class Sharing:
    """What a supervisor holds for `count` workers."""

    def __init__(self, count: int) -> None:
        # Not on a disk, where the system has such memory.
        self._memory = os.memfd_create("eventboard") if hasattr(os, "memfd_create") else _unnamed_file()
        os.ftruncate(self._memory, PART * count)
        self._listeners = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
        for listener in self._listeners:
            listener.setblocking(False)
        self._ports = tuple(listener.getsockname()[1] for listener in self._listeners)

    def place(self, number: int) -> Place:
        return Place(number, self._memory, self._listeners[number].fileno(), self._ports)

    def close(self) -> None:
        os.close(self._memory)
        for listener in self._listeners:
            listener.close()


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


async def _get(port: int, target: str) -> bytes | None:
    with suppress(OSError, TimeoutError, IndexError):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {target} HTTP/1.1\r\nhost: {LOOPBACK}\r\nconnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
        # A part that is down answers 503, and tells which.
        if head.split(b" ", 2)[1] in (b"200", b"503"):
            return body
    return None
