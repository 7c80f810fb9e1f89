"""Counters in Redis or Valkey. Imported only where a URL names one: it takes a while."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loguru import logger
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from eventboard.core.errors import Code, ServiceError
from eventboard.modules.auth.counters import Count, Increment, Query

# Valkey has the protocol of Redis, so one client serves both.
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
# Seconds to connect, and to wait for an answer.
TIMEOUT = 0.5
# Once, for a connection that the server has closed meanwhile.
RETRIES = 1
# As counters.COUNT does in PostgreSQL, for several keys in one step. Four arguments for each: the amount, the window in
# milliseconds, whether it begins now in any case, and the total beyond which no further key is counted, or "". Returns
# totals and the milliseconds that are left.
COUNT = """
local counts = {}
for number, key in ipairs(KEYS) do
    local amount, window, restart, most = unpack(ARGV, 4 * number - 3, 4 * number)
    local total = math.max(0, (redis.call('get', key) or 0) + amount)
    local left = redis.call('pttl', key)
    if left < 0 or restart == '1' then left = window end
    left = math.max(1, left)
    redis.call('set', key, total, 'px', left)
    counts[number] = {total, left}
    if most ~= '' and total > tonumber(most) then break end
end
return counts
"""


class RedisCounters:
    """`url` begins with one of SCHEMES."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self._redis = Redis.from_url(
            f"{SCHEMES[scheme]}://{rest}",
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), RETRIES),
        )
        self._count = self._redis.register_script(COUNT)
        self._undoing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """It connects when it is first used."""

    async def close(self) -> None:
        await asyncio.gather(*self._undoing)
        await self._redis.aclose()

    async def add(self, *increments: Increment) -> list[Count]:
        if not increments:
            return []
        arguments = [
            argument
            for one in increments
            for argument in (one.amount, one.window * 1000, int(one.restart), "" if one.most is None else one.most)
        ]
        with _unavailable_on_error():
            counts = await self._count([_name(increment.key) for increment in increments], arguments)
        return [Count(total, left / 1000) for total, left in counts]

    async def add_and_query(self, increments: Sequence[Increment], query: Query) -> tuple[list[Count], Any | None]:
        counts = await self.add(*increments)
        try:
            return counts, await query.execute()
        except BaseException as error:
            # A known address is no count, and isn't undone.
            counted = [increment for increment in increments[: len(counts)] if not increment.restart]
            undoing = asyncio.create_task(self._undo(counted))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            # A call that is cancelled at its deadline has no time to wait for it.
            if isinstance(error, Exception):
                await asyncio.shield(undoing)
            raise

    async def _undo(self, counted: Sequence[Increment]) -> None:
        try:
            await self.add(*(Increment(done.key, done.window, -done.amount) for done in counted))
        except ServiceError as error:
            logger.warning("a call that failed stays counted in its limits until their windows end: {}", error.detail)

    async def exists(self, key: bytes) -> bool:
        with _unavailable_on_error():
            return int(await self._redis.get(_name(key)) or 0) > 0


def _name(key: bytes) -> str:
    return f"eventboard:{key.hex()}"


@contextmanager
def _unavailable_on_error() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise ServiceError(Code.UNAVAILABLE, "The store of the limits can't be reached now.", retry_after=1) from error
