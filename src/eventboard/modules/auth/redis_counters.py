"""Counters in Redis or Valkey, through the library `limits`. Imported only where a URL names one: it takes a while."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from limits.aio.storage import RedisStorage
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from eventboard.modules.auth.counters import Count, Question, Step
from eventboard.platform.errors import Code, ServiceError

# Valkey speaks Redis' protocol, so one client serves for both.
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
# Seconds to connect, and to hear an answer: a log-in waits for three of them.
TIMEOUT = 0.5
# A connection that the server has closed meanwhile is made anew, once.
RETRIES = 1
# The library's answer is rounded to whole seconds, the nearest.
ROUNDED = 0.5


class RedisCounters:
    """`url` begins with one of SCHEMES."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        url = f"{SCHEMES[scheme]}://{rest}"
        self._pool = ConnectionPool.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), RETRIES)
        )
        self._storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="eventboard",
            connection_pool=self._pool,  # type: ignore[arg-type]  # documented, and not in the type of the options
        )

    async def open(self) -> None:
        """It connects when it is first used."""

    async def close(self) -> None:
        await self._pool.aclose()

    async def add(self, *steps: Step) -> list[Count]:
        counts: list[Count] = []
        with _reached():
            for step in steps:
                key = step.key.hex()
                if step.renewed:
                    await self._storage.clear(key)
                total = await self._storage.incr(key, step.window, step.amount)
                ends_at = await self._storage.get_expiry(key)
                counts.append(Count(max(0, total), max(0.0, ends_at - time.time()) + ROUNDED))
                if step.most is not None and total > step.most:
                    break
        return counts

    async def add_and_ask(self, steps: Sequence[Step], question: Question) -> tuple[list[Count], Any | None]:
        counts = await self.add(*steps)
        try:
            return counts, await question.alone()
        except Exception:
            # Whatever it is, it is told. What was renewed is no count: that somebody was known isn't taken back.
            done = steps[: len(counts)]
            await self.add(*(Step(step.key, step.window, -step.amount) for step in done if not step.renewed))
            raise

    async def remembered(self, key: bytes) -> bool:
        with _reached():
            return await self._storage.get(key.hex()) > 0


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (StorageError, OSError) as error:
        raise ServiceError(Code.UNAVAILABLE, "The store of the limits can't be reached now.", retry_after=1) from error
