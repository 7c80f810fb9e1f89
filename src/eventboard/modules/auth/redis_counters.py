"""Counters in Redis or Valkey. Imported only where a URL names one: it takes a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from eventboard.modules.auth.counters import Count, Question, Step
from eventboard.platform.errors import Code, ServiceError

# Valkey speaks Redis' protocol, so one client serves for both.
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
# Seconds to connect, and to hear an answer: a log-in waits for three of them.
TIMEOUT = 0.5
# A connection that the server has closed meanwhile is made anew, once.
RETRIES = 1
# As auth.counted does in PostgreSQL, in one step: counts (the amount, the window's milliseconds, whether it is renewed)
# and says what that makes, and the milliseconds that are left.
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

    async def add(self, *steps: Step) -> list[Count]:
        counts: list[Count] = []
        with _reached():
            for step in steps:
                total, left = await self._count([_name(step.key)], [step.amount, step.window * 1000, int(step.renewed)])
                counts.append(Count(total, left / 1000))
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
            return int(await self._redis.get(_name(key)) or 0) > 0


def _name(key: bytes) -> str:
    return f"eventboard:{key.hex()}"


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise ServiceError(Code.UNAVAILABLE, "The store of the limits can't be reached now.", retry_after=1) from error
