"""The replicas of a module: names are resolved every few seconds, and a replica that can't be reached is excluded."""

import asyncio
import math
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from loguru import logger
from msgspec import Struct

# Seconds between two look-ups: a new replica is used within a few.
RESOLVE_EVERY = 2.0
# Seconds that a replica is excluded after no connection to it could be made.
EXCLUDED_FOR = 1.0

_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:(?P<port>[0-9]{1,5}))?/?", re.IGNORECASE
)
_PORTS = {"http": 80, "https": 443}


class Replica(Struct, frozen=True, order=True):
    """One address of a module. `url` has an IP address as its host; `origin` is the URL that it was resolved from."""

    url: str
    origin: str

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        return self.origin.partition("://")[2]

    @property
    def host(self) -> str:
        """The name or IP address that its certificate is for."""
        return urlsplit(self.origin).hostname or ""


# Returns the replicas behind an origin such as `http://events:3002`; raises OSError for an unknown name.
Resolve = Callable[[str], Awaitable[list[Replica]]]


def parse_origins(text: str) -> list[str]:
    """The URLs that a setting separates by commas. Raises ValueError, without the text: it may hold a password."""
    return [_parse_origin(part.strip()) for part in text.split(",") if part.strip()]


def _parse_origin(text: str) -> str:
    match = _ORIGIN.fullmatch(text)
    if match is not None:
        scheme = match["scheme"].lower()
        port = int(match["port"] or _PORTS[scheme])
        if 0 < port < 65_536:
            return f"{scheme}://{match['host'].lower()}:{port}"
    raise ValueError("it must be like http://events:3002 or https://events:3002, or several, separated by commas")


class LoadBalancer:
    """Round robin over the replicas of `origins`, which are URLs without a path; a name may have several addresses.

    `connect_timeout` is in seconds.
    """

    def __init__(
        self,
        origins: Sequence[str],
        connect_timeout: float,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origins = origins
        self._probe_timeout = connect_timeout + EXCLUDED_FOR
        self._resolve_origin = resolve or resolve_origin
        self._clock = clock
        self._replicas: list[Replica] = []
        # Until when. Then one call probes the replica, which is included again once it has answered.
        self._excluded: dict[Replica, float] = {}
        self._next = 0
        self._resolving: asyncio.Task[None] | None = None
        self._resolved_at = float("-inf")

    async def candidates(self) -> list[Replica]:
        """The replicas to try for one call, in this order; excluded ones last. Empty while no name is known."""
        if self._resolving is None and (not self._replicas or self._clock() - self._resolved_at > RESOLVE_EVERY):
            self._resolving = asyncio.create_task(self._resolve())
            self._resolving.add_done_callback(self._resolve_ended)
        if not self._replicas and self._resolving is not None:
            # Shared by all calls: a look-up holds a thread for as long as the name server is silent.
            await asyncio.shield(self._resolving)
        self._next += 1
        start = self._next % len(self._replicas) if self._replicas else 0
        rotated = self._replicas[start:] + self._replicas[:start]
        probed = self._replica_to_probe(rotated)
        return sorted(rotated, key=lambda replica: (replica != probed, replica in self._excluded))

    def exclude(self, replica: Replica, seconds: float = EXCLUDED_FOR) -> None:
        self._excluded[replica] = self._clock() + seconds

    def include(self, replica: Replica) -> None:
        self._excluded.pop(replica, None)

    async def close(self) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.wait([self._resolving])

    def _replica_to_probe(self, rotated: list[Replica]) -> Replica | None:
        """One whose exclusion has ended: this call tries it first, and the others wait for the outcome elsewhere."""
        now = self._clock()
        for replica in rotated:
            if self._excluded.get(replica, math.inf) <= now:
                self.exclude(replica, self._probe_timeout)
                return replica
        return None

    async def _resolve(self) -> None:
        self._resolved_at = self._clock()
        resolved: list[Replica] = []
        for origin in self._origins:
            try:
                resolved += await self._resolve_origin(origin)
            except OSError as error:
                logger.warning("{} can't be resolved: {}; check EVENTBOARD_PEERS_… and DNS", origin, error)
        if resolved:  # else the known replicas stay: a name server may fail for a moment
            self._replicas = list({replica.url: replica for replica in resolved}.values())
            self._excluded = {replica: until for replica, until in self._excluded.items() if replica in self._replicas}

    def _resolve_ended(self, task: asyncio.Task[None]) -> None:
        self._resolving = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("resolving {} failed", ", ".join(self._origins))


async def resolve_origin(origin: str) -> list[Replica]:
    """By the machine's own resolver, in a daemon thread.

    A look-up can't be cancelled, and the event loop's executor would delay the end of the process until it is done.
    """
    parts = urlsplit(origin)
    answer: Future[list[Any]] = Future()
    answer.set_running_or_notify_cancel()

    def look_up() -> None:
        try:
            answer.set_result(socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=look_up, name="name look-up", daemon=True).start()
    addresses = await asyncio.wrap_future(answer)
    hosts = [f"[{address[0]}]" if family == socket.AF_INET6 else address[0] for family, *_, address in addresses]
    return [Replica(f"{parts.scheme}://{host}:{parts.port}", origin) for host in hosts]
