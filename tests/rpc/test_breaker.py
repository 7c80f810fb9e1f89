"""When calls are sent at all."""

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import uvloop
from msgspec.structs import asdict, replace

from eventboard import settings
from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.rpc.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from eventboard.rpc.errors import UnreachableError

BREAKER = BreakerPolicy(**asdict(settings.load({}).breaker))
UNREACHABLE = UnreachableError("desk", shed=True)
TOO_LATE = ServiceError(Code.DEADLINE_EXCEEDED, "")
OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_promised_numbers() -> None:
    """The defaults are what is promised."""
    assert (BREAKER.least_calls, BREAKER.window, BREAKER.share, BREAKER.open_for) == (20, 10.0, 0.5, 1.0)


def ending(error: Exception | None = None) -> Callable[[], Awaitable[str]]:
    async def call() -> str:
        if error is not None:
            raise error
        return "answer"

    return call


async def finish(breaker: CircuitBreaker, *errors: Exception | None) -> None:
    """One call for each, that ends so."""
    for error in errors:
        with suppress(ServiceError, ZeroDivisionError):
            await breaker.run(ending(error))


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("desk", BREAKER, clock)


@pytest.mark.parametrize("failure", [UNREACHABLE, UnreachableError("desk", shed=False), TOO_LATE])
async def test_breaker_opens(breaker: CircuitBreaker, failure: ServiceError) -> None:
    """20 calls, half of them failed; then it answers at once, and calls nobody."""
    await finish(breaker, *[None] * 10, *[failure] * 9)
    assert breaker.state is CLOSED
    await finish(breaker, failure)
    assert breaker.state is OPEN
    with pytest.raises(UnreachableError) as raised:
        await breaker.run(ending(AssertionError("it was called")))
    assert raised.value.shed
    assert raised.value.retry_after == 1


async def test_breaker_needs_half(breaker: CircuitBreaker) -> None:
    """One failure less than half, and it stays closed."""
    await finish(breaker, *[None] * 11, *[UNREACHABLE] * 10)
    assert breaker.state is CLOSED


async def test_breaker_needs_twenty(breaker: CircuitBreaker, clock: Clock) -> None:
    """19 failures are too few to judge by, and those of more than 10 s ago are forgotten."""
    await finish(breaker, *[UNREACHABLE] * 19)
    clock.now += 10.001
    await finish(breaker, *[UNREACHABLE] * 19)
    assert breaker.state is CLOSED
    await finish(breaker, UNREACHABLE)
    assert breaker.state is OPEN


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.DEADLINE_EXCEEDED])
async def test_what_a_module_says_is_no_failure(breaker: CircuitBreaker, code: Code) -> None:
    """No 4xx, no 500, no refusal under overload, nor the module's 503 for its own database."""
    await finish(breaker, *[ServiceError(code, "", shed=code is Code.UNAVAILABLE)] * 40)
    await finish(breaker, *[ServiceError(code, "")] * 40)
    assert breaker.state is CLOSED


async def test_bug_is_no_failure(breaker: CircuitBreaker) -> None:
    """A bug on this side says nothing about the other."""
    await finish(breaker, *[ZeroDivisionError()] * 40)
    assert breaker.state is CLOSED


async def opened(breaker: CircuitBreaker, clock: Clock) -> None:
    """After its second of being open."""
    await finish(breaker, *[UNREACHABLE] * 20)
    clock.now += 0.999
    assert breaker.state is OPEN
    clock.now += 0.002
    assert breaker.state is HALF_OPEN


async def test_probe_that_is_answered(breaker: CircuitBreaker, clock: Clock) -> None:
    """It closes, and begins to count anew."""
    await opened(breaker, clock)
    await finish(breaker, None)
    assert breaker.state is CLOSED
    await finish(breaker, *[UNREACHABLE] * 19)
    assert breaker.state is CLOSED


async def test_probe_that_a_module_refuses(breaker: CircuitBreaker, clock: Clock) -> None:
    """A refusal is an answer."""
    await opened(breaker, clock)
    await finish(breaker, ServiceError(Code.NOT_FOUND, ""))
    assert breaker.state is CLOSED


async def test_probe_that_fails(breaker: CircuitBreaker, clock: Clock) -> None:
    """It opens for another second."""
    await opened(breaker, clock)
    await finish(breaker, UNREACHABLE)
    assert breaker.state is OPEN
    clock.now += 1.001
    assert breaker.state is HALF_OPEN


async def test_few_probes(breaker: CircuitBreaker, clock: Clock) -> None:
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
async def test_caller_who_hangs_up(breaker: CircuitBreaker, clock: Clock, count: int) -> None:
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


async def test_budget_that_runs_out(breaker: CircuitBreaker) -> None:
    """Cancelled at the end of its budget, a call has failed."""
    for _ in range(20):
        with pytest.raises(TimeoutError), request_context.budget(0):
            async with asyncio.timeout(0):
                await breaker.run(asyncio.Event().wait)
    assert breaker.state is OPEN


async def test_less_than_the_budget_runs_out(breaker: CircuitBreaker) -> None:
    """What had less time than its operation has says nothing, whichever side notices; what isn't reached does."""
    for _ in range(20):
        with pytest.raises(TimeoutError), request_context.budget(0):
            async with asyncio.timeout(0):
                await breaker.run(asyncio.Event().wait, full_budget=False)
        with pytest.raises(ServiceError):
            await breaker.run(ending(TOO_LATE), full_budget=False)
    assert breaker.state is CLOSED
    for _ in range(20):
        with pytest.raises(UnreachableError):
            await breaker.run(ending(UNREACHABLE), full_budget=False)
    assert breaker.state is OPEN


def test_budget_that_runs_out_on_uvloop(clock: Clock) -> None:
    """The loop of production counts in whole milliseconds, and may cancel a call just before: it has failed still."""
    calls = 100
    breaker = CircuitBreaker("desk", replace(BREAKER, least_calls=calls), clock)

    async def call(number: int) -> None:
        await asyncio.sleep(number * 0.0031)  # so that they begin at any part of a millisecond
        with pytest.raises(TimeoutError), request_context.budget(0.05) as deadline:
            async with asyncio.timeout(deadline - time.monotonic()):
                await breaker.run(asyncio.Event().wait)

    async def all_of_them() -> None:
        await asyncio.gather(*map(call, range(calls)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_them())
    assert breaker.state is OPEN


@pytest.mark.parametrize("outcome", [None, UNREACHABLE], ids=["answered", "failed"])
async def test_call_from_before_it_opened(breaker: CircuitBreaker, clock: Clock, outcome: Exception | None) -> None:
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


async def test_memory_of_calls(breaker: CircuitBreaker, clock: Clock) -> None:
    """What it remembers of calls doesn't grow with their number, and is little."""
    tracemalloc.start()
    try:
        for _ in range(40_000):  # two a millisecond, for twenty seconds
            clock.now += 0.0005
            await breaker.run(ending())
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 50_000
