"""What is repeated, how often, when, and when not even tried: resilience.py by itself, on a clock of the test's."""

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from loguru import logger
from msgspec.structs import asdict, replace

from eventboard import settings
from eventboard.adapters.resilience import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    CallError,
    LostError,
    NeverReachedError,
    RefusedError,
    RetryBudget,
    RetryPolicy,
    UnreachableError,
    retrying,
)
from eventboard.platform import context
from eventboard.platform.contract import operations
from eventboard.platform.errors import Code, ServiceError
from tests.support.rpc import Desk

PROMISED = settings.load({})
RETRIES = RetryPolicy(**asdict(PROMISED.retries))
BREAKER = BreakerPolicy(**asdict(PROMISED.breaker))
# A budget of retries that never ends: for what isn't about it.
FREE = replace(RETRIES, budget_floor=1_000_000)
TELL, WRITE = operations(Desk)
REFUSED = ServiceError(Code.UNAVAILABLE, "Too much to do.", retry_after=1, not_run=True)


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
    assert (BREAKER.least_calls, BREAKER.window, BREAKER.share, BREAKER.open_for) == (20, 10.0, 0.5, 1.0)
    assert PROMISED.rpc.connect_timeout == 1.0
    assert asdict(PROMISED.budgets) == {"auth": 5, "read": 5, "list": 10, "write": 10}


# ---------------------------------------------------------------------------------------------------------------------
# Waits


class Attempts:
    """Fails as it is told, call after call, then answers; `at` is when each attempt began, from the first."""

    def __init__(self, *failures: CallError | ServiceError) -> None:
        self._failures = list(failures)
        self._begun: list[float] = []

    async def __call__(self) -> str:
        self._begun.append(time.monotonic())
        if self._failures:
            raise self._failures.pop(0)
        return "answer"

    @property
    def at(self) -> list[float]:
        return [moment - self._begun[0] for moment in self._begun]


async def run(attempts: Attempts, *, policy: RetryPolicy = FREE, operation: Any = TELL, seconds: float = 10) -> str:
    with context.budget(seconds):
        return await retrying("desk", operation, attempts, policy, RetryBudget(policy))


async def test_waits(logged: list[str]) -> None:
    """90 to 100 % of 1, 2 and 4 s, spread over that range; after the fourth attempt it ends."""
    calls = [Attempts(*[NeverReachedError()] * 9) for _ in range(40)]
    outcomes = await asyncio.gather(*(run(attempts) for attempts in calls), return_exceptions=True)
    assert all(isinstance(outcome, UnreachableError) and outcome.not_run for outcome in outcomes)
    stated = [line.split("; retry ")[1].split() for line in logged]
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
    begun = time.monotonic()
    with pytest.raises(UnreachableError):
        await run(attempts, policy=replace(FREE, jitter=0), seconds=seconds)
    assert time.monotonic() - begun < 0.5
    assert len(attempts.at) == 1


async def test_just_enough_left() -> None:
    """With 250 ms and a little it is tried."""
    attempts = Attempts(NeverReachedError())
    assert await run(attempts, policy=replace(FREE, first_wait=0.1, jitter=0), seconds=0.4) == "answer"
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
        pytest.param(RefusedError(ServiceError(Code.UNAVAILABLE, ""), elsewhere=True), TELL, True, id="refused"),
        pytest.param(
            RefusedError(ServiceError(Code.UNAVAILABLE, ""), elsewhere=True), WRITE, True, id="refused, write"
        ),
        pytest.param(RefusedError(ServiceError(Code.UNAVAILABLE, ""), elsewhere=False), TELL, False, id="nowhere else"),
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


async def test_retry_after_is_obeyed() -> None:
    """A replica that has too much to do says for how long."""
    attempts = Attempts(RefusedError(ServiceError(Code.UNAVAILABLE, "", retry_after=1), elsewhere=True))
    assert await run(attempts, policy=SMALL) == "answer"
    assert attempts.at[1] >= 1


@pytest.mark.parametrize(
    ("failures", "not_run"),
    [
        ([NeverReachedError()] * 4, True),
        ([LostError()] * 4, False),
        ([LostError(), NeverReachedError(), NeverReachedError(), NeverReachedError()], False),
        ([NeverReachedError(), LostError(), RefusedError(REFUSED, elsewhere=True)] * 2, False),
        ([NeverReachedError(), RefusedError(REFUSED, elsewhere=False)], True),
    ],
    ids=["never reached", "lost", "lost at first", "lost in between", "refused"],
)
async def test_what_is_told_in_the_end(failures: list[CallError], not_run: bool) -> None:
    """503; safe to repeat only where no attempt can have run."""
    with pytest.raises(ServiceError) as raised:
        await run(Attempts(*failures), policy=SMALL)
    assert raised.value.code is Code.UNAVAILABLE
    assert raised.value.retry_after
    assert raised.value.not_run is not_run


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
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    for _ in range(10):
        budget.called()
    assert [budget.take() for _ in range(4)] == [True, True, False, False]
    clock.now += 10.001
    assert [budget.take() for _ in range(4)] == [True, True, True, False]


async def test_what_the_retry_budget_is_charged() -> None:
    """Retries of what may have reached a replica; never those of a connection that wasn't made."""
    policy = replace(SMALL, budget_floor=0, budget_share=0)
    assert await run(Attempts(*[NeverReachedError()] * 3), policy=policy) == "answer"
    for failure in (LostError(), RefusedError(REFUSED, elsewhere=True)):
        attempts = Attempts(failure)
        with pytest.raises(ServiceError):
            await run(attempts, policy=policy)
        assert len(attempts.at) == 1


async def test_memory_of_what_happened(clock: Clock) -> None:
    """However many calls go well, what is remembered of them doesn't grow, and is little."""
    budget, breaker = RetryBudget(RETRIES, clock), Breaker("desk", BREAKER, clock)
    tracemalloc.start()
    try:
        for _ in range(40_000):  # two a millisecond, for twenty seconds
            clock.now += 0.0005
            budget.called()
            await breaker.run(ending())
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000


# ---------------------------------------------------------------------------------------------------------------------
# The breaker

UNREACHABLE = UnreachableError("desk", not_run=True)
TOO_LATE = ServiceError(Code.DEADLINE_EXCEEDED, "")
OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN


def ending(error: Exception | None = None) -> Callable[[], Awaitable[str]]:
    async def call() -> str:
        if error is not None:
            raise error
        return "answer"

    return call


async def finish(breaker: Breaker, *errors: Exception | None) -> None:
    """One call for each, that ends so."""
    for error in errors:
        with suppress(ServiceError, ZeroDivisionError):
            await breaker.run(ending(error))


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("desk", BREAKER, clock)


@pytest.mark.parametrize("failure", [UNREACHABLE, UnreachableError("desk", not_run=False), TOO_LATE])
async def test_breaker_opens(breaker: Breaker, failure: ServiceError) -> None:
    """20 calls, half of them failed; then it answers at once, and calls nobody."""
    await finish(breaker, *[None] * 10, *[failure] * 9)
    assert breaker.state is CLOSED
    await finish(breaker, failure)
    assert breaker.state is OPEN
    with pytest.raises(UnreachableError) as raised:
        await breaker.run(ending(AssertionError("it was called")))
    assert raised.value.not_run
    assert raised.value.retry_after == 1


async def test_breaker_needs_half(breaker: Breaker) -> None:
    """One failure less than half, and it stays closed."""
    await finish(breaker, *[None] * 11, *[UNREACHABLE] * 10)
    assert breaker.state is CLOSED


async def test_breaker_needs_twenty(breaker: Breaker, clock: Clock) -> None:
    """19 failures are too few to judge by, and those of more than 10 s ago are forgotten."""
    await finish(breaker, *[UNREACHABLE] * 19)
    clock.now += 10.001
    await finish(breaker, *[UNREACHABLE] * 19)
    assert breaker.state is CLOSED
    await finish(breaker, UNREACHABLE)
    assert breaker.state is OPEN


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.DEADLINE_EXCEEDED])
async def test_what_a_module_says_is_no_failure(breaker: Breaker, code: Code) -> None:
    """No 4xx, no 500, no refusal under overload, nor the module's 503 for its own database."""
    await finish(breaker, *[ServiceError(code, "", not_run=code is Code.UNAVAILABLE)] * 40)
    await finish(breaker, *[ServiceError(code, "")] * 40)
    assert breaker.state is CLOSED


async def test_bug_is_no_failure(breaker: Breaker) -> None:
    """A bug on this side says nothing about the other."""
    await finish(breaker, *[ZeroDivisionError()] * 40)
    assert breaker.state is CLOSED


async def opened(breaker: Breaker, clock: Clock) -> None:
    """After its second of being open."""
    await finish(breaker, *[UNREACHABLE] * 20)
    clock.now += 0.999
    assert breaker.state is OPEN
    clock.now += 0.002
    assert breaker.state is HALF_OPEN


async def test_probe_that_is_answered(breaker: Breaker, clock: Clock) -> None:
    """It closes, and begins to count anew."""
    await opened(breaker, clock)
    await finish(breaker, None)
    assert breaker.state is CLOSED
    await finish(breaker, *[UNREACHABLE] * 19)
    assert breaker.state is CLOSED


async def test_probe_that_a_module_refuses(breaker: Breaker, clock: Clock) -> None:
    """A refusal is an answer."""
    await opened(breaker, clock)
    await finish(breaker, ServiceError(Code.NOT_FOUND, ""))
    assert breaker.state is CLOSED


async def test_probe_that_fails(breaker: Breaker, clock: Clock) -> None:
    """It opens for another second."""
    await opened(breaker, clock)
    await finish(breaker, UNREACHABLE)
    assert breaker.state is OPEN
    clock.now += 1.001
    assert breaker.state is HALF_OPEN


async def test_few_probes(breaker: Breaker, clock: Clock) -> None:
    """No more than a few at once; whoever comes too many is answered at once."""
    await opened(breaker, clock)
    leave = asyncio.Event()

    async def probe() -> str:
        await leave.wait()
        return "answer"

    probes = [asyncio.create_task(breaker.run(probe)) for _ in range(BREAKER.probes)]
    await asyncio.sleep(0)
    with pytest.raises(UnreachableError):
        await breaker.run(ending())
    leave.set()
    assert await asyncio.gather(*probes) == ["answer"] * BREAKER.probes
    assert breaker.state is CLOSED


@pytest.mark.parametrize("count", [1, 40])
async def test_caller_who_hangs_up(breaker: Breaker, clock: Clock, count: int) -> None:
    """It is neither a failure nor an answer, and gives its place as a probe back."""
    await opened(breaker, clock)
    for _ in range(count):
        call = asyncio.create_task(breaker.run(asyncio.Event().wait))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert breaker.state is HALF_OPEN
    await finish(breaker, None)
    assert breaker.state is CLOSED


async def test_budget_that_runs_out(breaker: Breaker) -> None:
    """Cancelled at the end of its budget, a call has failed."""
    for _ in range(20):
        with pytest.raises(TimeoutError), context.budget(0):
            async with asyncio.timeout(0):
                await breaker.run(asyncio.Event().wait)
    assert breaker.state is OPEN


def test_budget_that_runs_out_on_uvloop(clock: Clock) -> None:
    """The loop of production counts in whole milliseconds, and may cancel a call just before: it has failed still."""
    calls = 100
    breaker = Breaker("desk", replace(BREAKER, least_calls=calls), clock)

    async def call(number: int) -> None:
        await asyncio.sleep(number * 0.0031)  # so that they begin at any part of a millisecond
        with pytest.raises(TimeoutError), context.budget(0.05) as deadline:
            async with asyncio.timeout(deadline - time.monotonic()):
                await breaker.run(asyncio.Event().wait)

    async def all_of_them() -> None:
        await asyncio.gather(*map(call, range(calls)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them())
    assert breaker.state is OPEN


@pytest.mark.parametrize("outcome", [None, UNREACHABLE], ids=["answered", "failed"])
async def test_call_from_before_it_opened(breaker: Breaker, clock: Clock, outcome: Exception | None) -> None:
    """What was under way when it opened doesn't close it, nor keep it open for longer."""
    leave = asyncio.Event()

    async def late() -> str:
        await leave.wait()
        return await ending(outcome)()

    call = asyncio.create_task(breaker.run(late))
    await asyncio.sleep(0)
    await finish(breaker, *[UNREACHABLE] * 20)
    clock.now += 0.9
    leave.set()
    await asyncio.wait([call])
    assert call.exception() is outcome
    assert breaker.state is OPEN
    clock.now += 0.101
    assert breaker.state is HALF_OPEN
