"""Counters in Redis or Valkey. Imported only where a URL names one: it takes a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from eventboard.core.errors import Code, ServiceError
from eventboard.modules.auth.counters import Count, Increment, Query

# Valkey has the protocol of Redis, so one client serves both.
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
# Seconds to connect, and to wait for an answer: a log-in waits for three of them.
TIMEOUT = 0.5
# Once, for a connection that the server has closed meanwhile.
RETRIES = 1
# As counters.COUNT does in PostgreSQL. Arguments: the amount, the window in milliseconds, whether it begins now in any
# case. Returns the total and the milliseconds that are left.
COUNT = """
local total = math.max(0, (redis.call('get', KEYS[1]) or 0) + ARGV[1])
local left = redis.call('pttl', KEYS[1])
if left < 0 or ARGV[3] == '1' then left = ARGV[2] end
left = math.max(1, left)
redis.call('set', KEYS[1], total, 'px', left)
return {total, left}
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

    async def open(self) -> None:
        """It connects when it is first used."""

    async def close(self) -> None:
        await self._redis.aclose()

    async def add(self, *increments: Increment) -> list[Count]:
        counts: list[Count] = []
        with _unavailable_on_error():
            for increment in increments:
                arguments = [increment.amount, increment.window * 1000, int(increment.restart)]
                total, left = await self._count([_name(increment.key)], arguments)
                counts.append(Count(total, left / 1000))
                if increment.most is not None and total > increment.most:
                    break
        return counts

    async def add_and_query(self, increments: Sequence[Increment], query: Query) -> tuple[list[Count], Any | None]:
        counts = await self.add(*increments)
        try:
            return counts, await query.execute()
        except Exception:
            # A known address is no count, and isn't undone.
            counted = [increment for increment in increments[: len(counts)] if not increment.restart]
            await self.add(*(Increment(done.key, done.window, -done.amount) for done in counted))
            raise

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
