"""What one process lets a user do: blocks of a shared counter, taken beside the requests."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.gateway import rate_limit
from eventboard.gateway.rate_limit import UserLimit
from eventboard.modules.auth.contract import Lease, Leased
from eventboard.observability.metrics import Metrics

WINDOW = 60
ANA, BEN = UUID(int=1), UUID(int=2)


class Clock:
    """A time that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shared:
    """The counter that processes share, as auth keeps it; `before` is waited for in each call."""

    def __init__(self, clock: Clock, before: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)) -> None:
        self._clock = clock
        self.before = before
        self.totals: dict[UUID, int] = {}
        self.asked: list[int] = []

    async def take(self, lease: Lease) -> Leased:
        self.asked.append(lease.amount)
        await self.before()
        total = self.totals[lease.user_id] = self.totals.get(lease.user_id, 0) + lease.amount
        left = lease.most - total
        ends_in = WINDOW - (self._clock.now - 1000) % WINDOW
        return Leased(granted=max(0, lease.amount + min(0, left)), left=max(0, left), ends_in=ends_in)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def unleased(metrics: Metrics) -> float:
    """How many requests went on because no block could be had in time."""
    return metrics.registry.get_sample_value("eventboard_unlimited_total", {"limit": "user"}) or 0


async def passed(limit: UserLimit, requests: int, user: UUID = ANA) -> int:
    """How many of so many requests, one after the other, may go on."""
    count = 0
    for _ in range(requests):
        refusal = await refused(limit.admit(user))
        assert refusal is None or (refusal.code, refusal.shed) == (Code.TOO_MANY_REQUESTS, True)
        count += refusal is None
        # As a request does, which waits for more than one turn of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
    return count


async def refused(admitted: Awaitable[object]) -> ServiceError | None:
    try:
        await admitted
    except ServiceError as error:
        return error
    return None


@pytest.mark.parametrize("block", [2, 3, 10, 100, 5000])
async def test_one_process(clock: Clock, metrics: Metrics, block: int) -> None:
    """Exactly the limit passes where answers come in time, whatever the block; the next window begins anew."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=100, window=WINDOW, block=block, clock=clock, metrics=metrics)
    assert await passed(limit, 150) == 100
    assert await passed(limit, 1, BEN) == 1
    clock.now += WINDOW
    shared.totals.clear()
    assert await passed(limit, 150) == 100
    assert unleased(metrics) == 0


@pytest.mark.parametrize("processes", [2, 3])
async def test_overshoot(clock: Clock, metrics: Metrics, processes: int) -> None:
    """However late each block comes, a user passes the limit by a block for each process at most."""
    block, most = 10, 100
    gate = asyncio.Event()
    shared = Shared(clock, gate.wait)
    several = [
        UserLimit(shared.take, most=most, window=WINDOW, block=block, clock=clock, metrics=metrics)
        for _ in range(processes)
    ]
    # On credit, while no answer has come: a block each, and one more would wait.
    assert sum([await passed(limit, block) for limit in several]) == processes * block
    gate.set()
    count = processes * block + sum(await asyncio.gather(*(passed(limit, most) for limit in several)))
    assert most <= count <= most + processes * block
    assert unleased(metrics) == 0


async def test_no_request_waits_for_a_block(clock: Clock, metrics: Metrics) -> None:
    """The next block is asked for while some credit is left; there is one question at a time."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=1000, window=WINDOW, block=10, clock=clock, metrics=metrics)
    for _ in range(100):
        admitted = limit.admit(ANA)
        with pytest.raises(StopIteration):
            # It comes to its end without ever giving way.
            admitted.send(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(shared.asked) <= 100 / 15 + 1
    assert unleased(metrics) == 0


async def test_who_sends_little(clock: Clock) -> None:
    """Nobody is asked about them, whatever the window."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=1000, window=WINDOW, block=10, clock=clock)
    for _ in range(10):
        assert await passed(limit, 5) == 5
        clock.now += WINDOW
    assert shared.asked == []


async def test_block_that_does_not_come(clock: Clock, metrics: Metrics) -> None:
    """Past its credit a request waits for a short time, and then goes on, counted."""
    never = asyncio.Event()
    limit = UserLimit(Shared(clock, never.wait).take, most=100, window=WINDOW, block=2, clock=clock, metrics=metrics)
    assert await passed(limit, 2) == 2
    assert unleased(metrics) == 0
    begun = asyncio.get_running_loop().time()
    await limit.admit(ANA)
    assert asyncio.get_running_loop().time() - begun >= rate_limit.PATIENCE * 0.9
    assert unleased(metrics) == 1
    never.set()


async def test_blocks_that_come_late(clock: Clock) -> None:
    """However often a request goes on because its block is late, the user passes the limit by a block at most."""
    most, block = 60, 10
    shared = Shared(clock, lambda: asyncio.sleep(rate_limit.PATIENCE * 1.2))
    limit = UserLimit(shared.take, most=most, window=WINDOW, block=block, clock=clock)
    assert most <= await passed(limit, 2 * most) <= most + block


async def test_auth_is_away(clock: Clock, metrics: Metrics) -> None:
    """Everybody goes on, counted beyond the credit, and auth is asked once a second; then it counts again."""
    shared = Shared(clock)

    async def fail() -> None:
        raise ServiceError(Code.UNAVAILABLE, "Not now.")

    shared.before = fail
    limit = UserLimit(shared.take, most=20, window=WINDOW, block=5, clock=clock, metrics=metrics)
    assert await passed(limit, 50) == 50
    assert unleased(metrics) == 45
    assert len(shared.asked) == 1
    clock.now += rate_limit.RETRY_AFTER
    assert await passed(limit, 1) == 1
    assert len(shared.asked) == 2
    shared.before = lambda: asyncio.sleep(0)
    clock.now += rate_limit.RETRY_AFTER
    # The credit is paid back; what went on beyond it is not held against anybody.
    assert await passed(limit, 50) == 20 - 5


async def test_used_up(clock: Clock) -> None:
    """The refusal names the limit and when to come back; nobody is asked any more until then."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=3, window=WINDOW, block=40, clock=clock)
    assert await passed(limit, 10) == 3
    asked = len(shared.asked)
    clock.now += 12.5
    with pytest.raises(ServiceError) as refusal:
        await limit.admit(ANA)
    assert refusal.value.retry_after == 48
    (quota,) = refusal.value.quotas
    assert (quota.name, quota.most, quota.window, quota.left, quota.ends_in) == ("user", 3, WINDOW, 0, 48)
    assert len(shared.asked) == asked


async def test_headers(clock: Clock) -> None:
    """What is left, of all processes, and for how long; before the first answer as if there was one process."""
    limit = UserLimit(Shared(clock).take, most=100, window=WINDOW, block=10, clock=clock)
    policy, state = await limit.admit(ANA)
    assert policy == (b"ratelimit-policy", b'"user";q=100;w=60')
    assert state == (b"ratelimit", b'"user";r=99;t=60')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now += 0.5
    assert await limit.admit(ANA) == (policy, (b"ratelimit", b'"user";r=98;t=60'))


async def test_more_users_than_are_remembered(clock: Clock) -> None:
    """Whoever calls regularly is remembered, however many others come in between, and is held to the limit."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=5, window=WINDOW, block=4, clock=clock)
    count = 0
    for number in range(3 * rate_limit.MAX_USERS):
        await limit.admit(uuid4())
        if number % (rate_limit.MAX_USERS // 2) == 0:
            count += await passed(limit, 2)
    assert 5 <= count <= 5 + 4


async def test_user_who_is_forgotten(clock: Clock) -> None:
    """The counter learns what went on credit, and gets back what was taken and not used; what is over is over."""
    shared = Shared(clock)
    limit = UserLimit(shared.take, most=100, window=WINDOW, block=10, clock=clock)
    assert await passed(limit, 3, ANA) == 3  # on credit
    assert await passed(limit, 7, BEN) == 7  # of the 6 that went on credit, and a block
    assert (shared.totals.get(ANA), shared.totals[BEN]) == (None, 16)
    await others(limit)
    assert (shared.totals[ANA], shared.totals[BEN]) == (3, 7)
    assert await passed(limit, 3, ANA) == 3
    clock.now += WINDOW
    await others(limit)
    assert shared.totals[ANA] == 3


async def test_user_who_is_forgotten_while_a_block_comes(clock: Clock) -> None:
    """What comes for somebody who isn't remembered any more goes back, too."""
    gate = asyncio.Event()
    shared = Shared(clock, gate.wait)
    limit = UserLimit(shared.take, most=100, window=WINDOW, block=10, clock=clock)
    assert await passed(limit, 6) == 6
    await others(limit)
    gate.set()
    await others(limit)
    assert shared.totals[ANA] == 6


async def others(limit: UserLimit) -> None:
    """As many as make it forget everybody before them; and a few turns of the loop for what follows from that."""
    for number in range(rate_limit.MAX_USERS):
        await limit.admit(uuid4())
        if number % 10 == 0:
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
