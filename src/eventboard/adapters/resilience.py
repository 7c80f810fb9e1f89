"""The policy of calls between processes: what is repeated, how often, when, and when not even tried.

| what happened                          | repeated?                                    | charged to the retry budget |
| the connection was never made          | always                                       | no                          |
| lost in the middle                     | where the operation is repeatable            | yes                         |
| refused before it ran (503, not_run)   | on another replica, after its Retry-After    | yes                         |
| anything else                          | never                                        |                             |
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Literal, TypeVar

import stamina
from loguru import logger
from msgspec import Struct
from stamina.instrumentation import set_on_retry_hooks

from eventboard.platform import context
from eventboard.platform.contract import Operation
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics

Result = TypeVar("Result")
Clock = Callable[[], float]

# stamina would log each retry a second time, with less in it than the line below.
set_on_retry_hooks([])

# Parts of a window, so that what is remembered doesn't grow with what happens.
PARTS = 20
# Seconds until a client should come back when a part can't be reached: the breaker tries again after as long.
RETRY_AFTER = 1
# Seconds by which a call may be cancelled before its budget's end: uvloop's timers count whole milliseconds of a clock
# that is rounded down, and so end up to one and a half of them early.
EARLY = 0.002


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Waits are `first_wait`, doubled each time, less up to `jitter` of themselves; seconds."""

    retries: int
    first_wait: float
    jitter: float
    # An attempt that has less than this of the budget left is not worth starting.
    least_left: float
    # Retries that are charged: this share of the calls, and a floor, within the window.
    budget_share: float
    budget_floor: int
    budget_window: float


class BreakerPolicy(Struct, frozen=True, kw_only=True):
    """Opens for `open_for` seconds when `least_calls` or more within `window` seconds ended, `share` of them badly."""

    least_calls: int
    share: float
    window: float
    open_for: float
    probes: int


class CallError(Exception):
    """An attempt that brought no answer. Not a ServiceError: whether it is one in the end, the policy decides."""


class NeverReachedError(CallError):
    """No connection was made: the call can't have run. `took`: the seconds until that was known of the last replica."""

    def __init__(self, message: str = "", *, took: float = 0) -> None:
        super().__init__(message)
        self.took = took


class LostError(CallError):
    """The connection ended, or held something else than an answer: the call may have run."""


class RefusedError(CallError):
    """A replica refused before anything ran. `elsewhere`: another replica can be asked."""

    def __init__(self, error: ServiceError, *, elsewhere: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.elsewhere = elsewhere


class _Part(Struct):
    """What happened in one part of a window, from `begun` on."""

    begun: float
    total: int = 0
    marked: int = 0


class Window:
    """Counts, by kind, what happened within the last `seconds`; what is forgotten, it forgets a twentieth at a time."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._parts: deque[_Part] = deque()
        self._total = 0
        self.marked = 0

    def add(self, *, marked: bool) -> None:
        now = self._clock()
        parts = self._parts
        if not parts or now - parts[-1].begun > self._seconds / PARTS:
            self._forget(now)
            parts.append(_Part(now))
        parts[-1].total += 1
        self._total += 1
        if marked:
            parts[-1].marked += 1
            self.marked += 1

    def total(self) -> int:
        self._forget(self._clock())
        return self._total

    def clear(self) -> None:
        self._parts.clear()
        self._total = self.marked = 0

    def _forget(self, now: float) -> None:
        oldest = now - self._seconds
        while self._parts and self._parts[0].begun < oldest:
            part = self._parts.popleft()
            self._total -= part.total
            self.marked -= part.marked


_REASONS: Mapping[type[Exception], str] = {NeverReachedError: "never-reached", LostError: "lost"}


class RetryBudget:
    """Keeps retries from burying a service that is down already."""

    def __init__(self, policy: RetryPolicy, clock: Clock = time.monotonic, metrics: Metrics | None = None) -> None:
        self._policy = policy
        self._retried = (metrics or Metrics()).counter(
            "eventboard_rpc_retries_total",
            "Attempts after the first, by what the one before came to.",
            ("rpc_method", "reason"),
        )
        self._calls = Window(policy.budget_window, clock)
        self._retries = Window(policy.budget_window, clock)

    def called(self) -> None:
        self._calls.add(marked=False)

    def retried(self, operation: Operation, error: Exception) -> None:
        """Counts it, charged or not."""
        self._retried.add(operation.name, _REASONS.get(type(error), "refused"))

    def take(self) -> bool:
        allowed = self._policy.budget_floor + self._policy.budget_share * self._calls.total()
        if self._retries.total() >= allowed:
            return False
        self._retries.add(marked=False)
        return True


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """One for each remote module; counts finished calls, after their retries."""

    def __init__(
        self, name: str, policy: BreakerPolicy, clock: Clock = time.monotonic, metrics: Metrics | None = None
    ) -> None:
        self._name = name
        self._policy = policy
        metrics = metrics or Metrics()
        self._states = metrics.gauge(
            "eventboard_breaker_state", "1 for the state that the way to a module is in.", ("module", "state")
        )
        self._opened = metrics.counter("eventboard_breaker_opened_total", "Times that it opened.", ("module",))
        self._refused = metrics.counter(
            "eventboard_breaker_refused_total", "Calls refused while it was open.", ("module",)
        )
        self._opened.index((name,))
        self._refused.index((name,))
        metrics.sampling(self._sample)
        self._clock = clock
        self._calls = Window(policy.window, clock)
        self._opened_at: float | None = None
        self._probing = 0

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        open_still = self._clock() - self._opened_at < self._policy.open_for
        return BreakerState.OPEN if open_still else BreakerState.HALF_OPEN

    async def run(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Raises `unavailable` at once while it is open. What `call` raises passes through, and is counted."""
        state = self.state
        probing = state is BreakerState.HALF_OPEN and self._probing < self._policy.probes
        if state is not BreakerState.CLOSED and not probing:
            self._refused.add(self._name)
            raise UnreachableError(self._name, not_run=True)
        self._probing += probing
        good = None
        try:
            result = await call()
            good = True
        except ServiceError as error:
            good = not is_failure(error)
            raise
        except asyncio.CancelledError:
            # At the end of the budget it failed; before, its own caller gave it up, which says nothing about it.
            left = context.remaining()
            good = False if left is not None and left < EARLY else None
            raise
        finally:
            self._probing -= probing
            if good is not None:
                self._count(good, probing=probing)
        return result

    def _sample(self) -> None:
        now = self.state
        for state in BreakerState:
            self._states.set(state is now, self._name, state.value)

    def _count(self, good: bool, *, probing: bool) -> None:
        if probing:
            # One answer closes it, one failure opens it anew.
            if good and self._opened_at is not None:
                logger.info("the breaker of {} is closed", self._name)
            elif not good:
                self._opened.add(self._name)
            self._opened_at = None if good else self._clock()
            self._calls.clear()
            return
        if self._opened_at is not None:
            return  # a call from before it opened
        self._calls.add(marked=not good)
        total = self._calls.total()
        if total >= self._policy.least_calls and self._calls.marked >= self._policy.share * total:
            logger.warning("the breaker of {} is open: {} of {} calls failed", self._name, self._calls.marked, total)
            self._opened_at = self._clock()
            self._opened.add(self._name)


class UnreachableError(ServiceError):
    """What a client is told where no answer came: the way to the module failed, not the module."""

    def __init__(self, module: str, *, not_run: bool) -> None:
        super().__init__(
            Code.UNAVAILABLE, f"The {module} service can't be reached now.", retry_after=RETRY_AFTER, not_run=not_run
        )


def is_failure(error: ServiceError) -> bool:
    """UnreachableError, lost, timed out; never an answer that a module gave, and never a refusal under overload."""
    return isinstance(error, UnreachableError) or error.code is Code.DEADLINE_EXCEEDED


async def retrying(
    module: str,
    operation: Operation,
    attempt: Callable[[], Awaitable[Result]],
    policy: RetryPolicy,
    budget: RetryBudget,
) -> Result:
    """Runs `attempt` until it answers or the policy says stop; raises ServiceError."""
    budget.called()
    may_have_run = False
    try:
        try:
            # The common case pays for no retry machinery.
            return await attempt()
        except CallError as error:
            failed: CallError | None = error
        retries = 0

        def wait(error: Exception) -> float | Literal[False]:
            """stamina's back-off hook: the exact wait, or False for "no more"."""
            nonlocal retries, may_have_run
            may_have_run = may_have_run or isinstance(error, LostError)
            seconds: float = policy.first_wait * 2**retries * random.uniform(1 - policy.jitter, 1)  # noqa: S311 - spreads load
            if isinstance(error, RefusedError):
                seconds = max(seconds, error.error.retry_after or 0)
            left, least = context.remaining(), policy.least_left
            if isinstance(error, NeverReachedError):
                # Where connections are swallowed, what is left has to be enough to find that out once more.
                least = max(least, error.took)
            if left is not None and left - seconds < least:
                return False
            if not _may_repeat(error, operation) or not (isinstance(error, NeverReachedError) or budget.take()):
                return False
            retries += 1
            budget.retried(operation, error)
            logger.bind(correlation_id=context.current().correlation_id).warning(
                "{}: {}; retry {} in {:.2f} s", operation.name, type(error).__name__, retries, seconds
            )
            return seconds

        async for again in stamina.retry_context(on=wait, attempts=policy.retries + 1, timeout=None):
            with again:
                if failed is not None:
                    first, failed = failed, None
                    raise first
                return await attempt()
        raise AssertionError("stamina ends with an answer or an error")
    except RefusedError as error:
        error.error.not_run = not may_have_run
        raise error.error from None
    except NeverReachedError as error:
        raise UnreachableError(module, not_run=not may_have_run) from error
    except LostError as error:
        raise UnreachableError(module, not_run=False) from error


def _may_repeat(error: Exception, operation: Operation) -> bool:
    match error:
        case NeverReachedError():
            return True
        case LostError():
            return operation.repeatable
        case RefusedError():
            return error.elsewhere
        case _:
            return False
