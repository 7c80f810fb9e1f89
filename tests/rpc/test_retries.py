"""What is sent again, how often and when."""

import asyncio
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger
from msgspec.structs import asdict, replace

from eventboard import settings
from eventboard.core import request_context
from eventboard.core.contract import operations
from eventboard.core.errors import Code, ServiceError
from eventboard.rpc.errors import CallError, LostError, NeverReachedError, ShedError, UnreachableError
from eventboard.rpc.retries import RetryBudget, RetryPolicy, call_with_retries
from tests.support.rpc import Desk
from tests.support.stopwatch import Stopwatch

PROMISED = settings.load({})
RETRIES = RetryPolicy(**asdict(PROMISED.retries))
# A budget of retries that is never used up: for what isn't about it.
FREE = replace(RETRIES, budget_floor=1_000_000)
TELL, WRITE = operations(Desk)
SHED = ServiceError(Code.UNAVAILABLE, "Too much to do.", retry_after=1, shed=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(sink)


def test_promised_numbers() -> None:
    """The defaults are what is promised."""
    assert (RETRIES.retries, RETRIES.first_wait, RETRIES.jitter, RETRIES.least_left) == (3, 1.0, 0.1, 0.25)
    assert (RETRIES.budget_share, RETRIES.budget_window) == (0.2, 10.0)
    assert PROMISED.rpc.connect_timeout == 1.0
    assert asdict(PROMISED.budgets) == {"auth": 5, "read": 5, "list": 10, "write": 10}


# ---------------------------------------------------------------------------------------------------------------------
# Waits


class Attempts:
    """Fails as it is told, call after call, then answers; `at` is when each attempt began, from the first."""

    def __init__(self, *failures: CallError | ServiceError) -> None:
        self._failures = list(failures)
        self._begun: list[float] = []

    async def __call__(self, number: int) -> str:
        self._begun.append(time.monotonic())
        assert number == len(self._begun)
        if self._failures:
            raise self._failures.pop(0)
        return "answer"

    @property
    def at(self) -> list[float]:
        return [moment - self._begun[0] for moment in self._begun]


async def run(attempts: Attempts, *, policy: RetryPolicy = FREE, operation: Any = TELL, seconds: float = 10) -> str:
    with request_context.budget(seconds):
        return await call_with_retries("desk", operation, attempts, policy, RetryBudget(policy))


async def test_waits(logged: list[str]) -> None:
    """90 to 100 % of 1, 2 and 4 s, spread over that range; after the fourth attempt it ends."""
    calls = [Attempts(*[NeverReachedError()] * 9) for _ in range(40)]
    outcomes = await asyncio.gather(*(run(attempts, seconds=60) for attempts in calls), return_exceptions=True)
    assert all(isinstance(outcome, UnreachableError) and outcome.shed for outcome in outcomes)
    stated = [line.split("; retry ")[1].split() for line in logged if "; retry " in line]
    assert sum("no retry: that was the last attempt" in line for line in logged) == len(calls)
    for number, seconds in (("1", 1.0), ("2", 2.0), ("3", 4.0)):
        waits = [float(line[2]) for line in stated if line[0] == number]
        assert len(waits) == len(calls)
        assert all(0.9 * seconds - 0.005 <= wait <= seconds + 0.005 for wait in waits)  # stated to 10 ms
        assert min(waits) < 0.93 * seconds
        assert max(waits) > 0.97 * seconds
    for attempts in calls:
        assert len(attempts.at) == 4
        first, second, third = (later - sooner for sooner, later in zip(attempts.at, attempts.at[1:], strict=False))
        # Never sooner; how much later is the machine's.
        assert first >= 0.9
        assert second >= 1.8
        assert third >= 3.6


@pytest.mark.parametrize("seconds", [1.24, 0.5, 0.0])
async def test_too_little_left(seconds: float) -> None:
    """No attempt begins with less than 250 ms of the budget; the answer comes at once, not after the wait."""
    attempts = Attempts(NeverReachedError())
    with Stopwatch() as watch, pytest.raises(UnreachableError):
        await run(attempts, policy=replace(FREE, jitter=0), seconds=seconds)
    assert watch.seconds < 0.5
    assert len(attempts.at) == 1


async def test_just_enough_left() -> None:
    """With 250 ms and a little it is tried."""
    attempts = Attempts(NeverReachedError())
    assert await run(attempts, policy=replace(FREE, first_wait=0.1, jitter=0), seconds=0.45) == "answer"
    assert attempts.at[1] >= 0.1


async def test_first_failure_costs_the_first_wait_only() -> None:
    """An answer ends it."""
    attempts = Attempts(NeverReachedError(), LostError())
    assert await run(attempts, policy=replace(FREE, first_wait=0.02)) == "answer"
    assert len(attempts.at) == 3


SMALL = replace(FREE, first_wait=0.01)


@pytest.mark.parametrize(
    ("failure", "operation", "repeated"),
    [
        pytest.param(NeverReachedError(), TELL, True, id="never reached, read"),
        pytest.param(NeverReachedError(), WRITE, True, id="never reached, write"),
        pytest.param(LostError(), TELL, True, id="lost, read"),
        pytest.param(LostError(), WRITE, False, id="lost, write"),
        pytest.param(ShedError(ServiceError(Code.UNAVAILABLE, ""), others=True), TELL, True, id="refused"),
        pytest.param(ShedError(ServiceError(Code.UNAVAILABLE, ""), others=True), WRITE, True, id="refused, write"),
        pytest.param(ShedError(ServiceError(Code.UNAVAILABLE, ""), others=False), TELL, False, id="nowhere else"),
        *(pytest.param(ServiceError(code, ""), TELL, False, id=code) for code in Code),
    ],
)
async def test_what_is_repeated(failure: CallError | ServiceError, operation: Any, repeated: bool) -> None:
    """What can't have run, always; what may have, where it does no harm; what a module said, never."""
    attempts = Attempts(failure)
    if repeated:
        assert await run(attempts, policy=SMALL, operation=operation) == "answer"
    else:
        with pytest.raises(ServiceError):
            await run(attempts, policy=SMALL, operation=operation)
    assert len(attempts.at) == 1 + repeated


@pytest.mark.parametrize("failure", [NeverReachedError(), LostError(), ShedError(SHED, others=True)])
async def test_operation_that_is_not_retried(failure: CallError) -> None:
    """Whoever calls it asks again anyway: it is answered at once, whatever happened."""
    attempts = Attempts(failure)
    with pytest.raises(ServiceError):
        await run(attempts, operation=replace(TELL, retried=False))
    assert len(attempts.at) == 1


async def test_retry_after_is_obeyed() -> None:
    """A replica that has too much to do says for how long."""
    attempts = Attempts(ShedError(ServiceError(Code.UNAVAILABLE, "", retry_after=1), others=True))
    assert await run(attempts, policy=SMALL) == "answer"
    assert attempts.at[1] >= 1


@pytest.mark.parametrize(
    ("failures", "shed"),
    [
        ([NeverReachedError()] * 4, True),
        ([LostError()] * 4, False),
        ([LostError(), NeverReachedError(), NeverReachedError(), NeverReachedError()], False),
        ([NeverReachedError(), LostError(), ShedError(SHED, others=True)] * 2, False),
        ([NeverReachedError(), ShedError(SHED, others=False)], True),
    ],
    ids=["never reached", "lost", "lost at first", "lost in between", "refused"],
)
async def test_what_is_told_in_the_end(failures: list[CallError], shed: bool) -> None:
    """503; safe to repeat only where no attempt can have run."""
    with pytest.raises(ServiceError) as raised:
        await run(Attempts(*failures), policy=SMALL)
    assert raised.value.code is Code.UNAVAILABLE
    assert raised.value.retry_after
    assert raised.value.shed is shed


@pytest.mark.parametrize("failure", [NeverReachedError(), LostError()], ids=["never reached", "lost"])
@pytest.mark.parametrize("operation", [TELL, WRITE], ids=["repeated", "sent once"])
async def test_cause_of_what_is_told(failure: CallError, operation: Any) -> None:
    """The request's line in the log says what the last attempt came to."""
    with pytest.raises(UnreachableError) as raised:
        await run(Attempts(*[failure] * 4), policy=SMALL, operation=operation)
    assert raised.value.__cause__ is failure


async def test_no_retries() -> None:
    """The number of retries is a setting, 0 too."""
    attempts = Attempts(NeverReachedError())
    with pytest.raises(UnreachableError):
        await run(attempts, policy=replace(SMALL, retries=0))
    assert len(attempts.at) == 1


# ---------------------------------------------------------------------------------------------------------------------
# The budget of retries


def test_retry_budget(clock: Clock) -> None:
    """A floor, and 20 % of the calls of the last 10 s; what is older doesn't count any more."""
    budget = RetryBudget(replace(RETRIES, budget_floor=3), clock)
    assert [budget.acquire() for _ in range(5)] == [True, True, True, False, False]
    for _ in range(10):
        budget.add_call()
    assert [budget.acquire() for _ in range(4)] == [True, True, False, False]
    clock.now += 10.001
    assert [budget.acquire() for _ in range(4)] == [True, True, True, False]


async def test_what_the_retry_budget_is_charged() -> None:
    """Retries of what may have reached a replica; never those of a connection that wasn't made."""
    policy = replace(SMALL, budget_floor=0, budget_share=0)
    assert await run(Attempts(*[NeverReachedError()] * 3), policy=policy) == "answer"
    for failure in (LostError(), ShedError(SHED, others=True)):
        attempts = Attempts(failure)
        with pytest.raises(ServiceError):
            await run(attempts, policy=policy)
        assert len(attempts.at) == 1


def test_memory_of_calls(clock: Clock) -> None:
    """What a retry budget remembers of its calls doesn't grow with their number, and is little."""
    budget = RetryBudget(RETRIES, clock)
    tracemalloc.start()
    try:
        for _ in range(40_000):  # two a millisecond, for twenty seconds
            clock.now += 0.0005
            budget.add_call()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 50_000
