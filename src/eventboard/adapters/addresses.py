"""Where the replicas of a module are: names are resolved again and again, replicas that don't answer are left out."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

# Seconds between two look-ups of the names: a new replica is used within a few.
RESOLVE_EVERY = 2.0
# Seconds that a replica is left out after no connection to it could be made.
LEFT_OUT_FOR = 1.0

# Plain HTTP: a name is resolved here, so no certificate would fit the address that is called.
_ORIGIN = re.compile(r"http://(?P<host>\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:(?P<port>[0-9]{1,5}))?/?", re.IGNORECASE)

# The addresses, each a URL, of an origin such as `http://events:3002`; raises OSError where the name isn't known.
Resolve = Callable[[str], Awaitable[list[str]]]


def origins_of(text: str) -> list[str]:
    """The URLs that a setting separates by commas. Raises ValueError, without the text: it may hold a password."""
    return [_origin(part.strip()) for part in text.split(",") if part.strip()]


def _origin(text: str) -> str:
    found = _ORIGIN.fullmatch(text)
    port = int(found["port"] or 80) if found else 0
    if not (found and 0 < port < 65_536):
        raise ValueError("it must be like http://events:3002, or several of that separated by commas")
    return f"http://{found['host'].lower()}:{port}"


class Addresses:
    """`origins` are URLs without a path; a name may stand for several addresses. `connect_timeout` in seconds."""

    def __init__(
        self,
        origins: Sequence[str],
        connect_timeout: float,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origins = origins
        self._tried_within = connect_timeout + LEFT_OUT_FOR
        self._resolve_one = resolve or resolved
        self._clock = clock
        self._known: list[str] = []
        # Until when: then one call tries it, and if it is there still, says so.
        self._left_out: dict[str, float] = {}
        self._turn = 0
        self._resolving: asyncio.Task[None] | None = None
        self._resolved_at = float("-inf")

    async def in_turn(self) -> list[str]:
        """Every address to try for one call, the next in turn first, those left out last. Empty: no name is known."""
        if self._resolving is None and (not self._known or self._clock() - self._resolved_at > RESOLVE_EVERY):
            self._resolving = asyncio.create_task(self._resolve())
            self._resolving.add_done_callback(self._resolved)
        if not self._known and self._resolving is not None:
            # One look-up for all: each has a thread, for as long as a name server is silent.
            await asyncio.shield(self._resolving)
        self._turn += 1
        start = self._turn % len(self._known) if self._known else 0
        turned = self._known[start:] + self._known[:start]
        return self._without_left_out(turned) if self._left_out else turned

    def leave_out(self, address: str, seconds: float = LEFT_OUT_FOR) -> None:
        self._left_out[address] = self._clock() + seconds

    def answered(self, address: str) -> None:
        """It is there."""
        self._left_out.pop(address, None)

    async def close(self) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.wait([self._resolving])

    def _without_left_out(self, turned: list[str]) -> list[str]:
        now = self._clock()
        for address in turned:
            if self._left_out.get(address, now + 1) <= now:
                # This call finds out, at once; the others go elsewhere until it has, or was given up.
                self.leave_out(address, self._tried_within)
                return sorted(turned, key=lambda other: (other != address, other in self._left_out))
        return sorted(turned, key=self._left_out.__contains__)

    async def _resolve(self) -> None:
        self._resolved_at = self._clock()
        found: list[str] = []
        for origin in self._origins:
            try:
                found += await self._resolve_one(origin)
            except OSError as error:
                logger.warning("{} can't be resolved: {}", origin, error)
        if found:
            # A name server that fails for a moment takes nobody's replicas away.
            self._known = list(dict.fromkeys(found))
            self._left_out = {address: until for address, until in self._left_out.items() if address in self._known}

    def _resolved(self, task: asyncio.Task[None]) -> None:
        self._resolving = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("resolving {} failed", ", ".join(self._origins))


async def resolved(origin: str) -> list[str]:
    """By the machine's own resolver.

    Nothing can stop it, so it has a thread whose end nobody waits for: a loop would wait for one of its own.
    """
    parts = urlsplit(origin)
    answers: Future[list[Any]] = Future()
    answers.set_running_or_notify_cancel()

    def look_up() -> None:
        try:
            answers.set_result(socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told where the answer is waited for
            answers.set_exception(error)

    threading.Thread(target=look_up, name="name look-up", daemon=True).start()
    found = await asyncio.wrap_future(answers)
    hosts = [f"[{address[0]}]" if family == socket.AF_INET6 else address[0] for family, *_, address in found]
    return [f"{parts.scheme}://{host}:{parts.port}" for host in hosts]
