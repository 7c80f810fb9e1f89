"""Retries of calls between processes, by stamina, within a budget for retries.

| what happened                      | sent again?                                    | charged to the retry budget |
| no connection was made             | yes                                            | no                          |
| the connection was lost            | if the operation is repeatable                 | yes                         |
| rejected before it ran (503, shed) | on another replica, after its Retry-After      | yes                         |
| anything else                      | no                                             |                             |

An operation that its contract marks as not retried is never sent again.
"""

import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import product
from typing import Literal, TypeVar

import stamina
from loguru import logger
from msgspec import Struct
from stamina.instrumentation import set_on_retry_hooks

from eventboard.core import request_context
from eventboard.core.contract import Operation
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import WAIT, step_since
from eventboard.rpc.errors import CallError, LostError, NeverReachedError, ShedError, UnreachableError
from eventboard.rpc.sliding_counter import Clock, SlidingCounter

Result = TypeVar("Result")

# stamina's own hook would log each retry a second time, without its operation and correlation id.
set_on_retry_hooks([])

# Values of the metric's label `reason`.
_REASONS: Mapping[type[Exception], str] = {
    NeverReachedError: "never-reached",
    LostError: "lost",
    ShedError: "shed",
}
# How an attempt fails on the way.
_FAILED = tuple(_REASONS)


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Times are in seconds. Waits are `first_wait`, doubled with each retry, minus up to `jitter` of themselves."""

    retries: int
    first_wait: float
    jitter: float
    # No attempt is started with less than this left of the call's time budget.
    least_left: float
    # Retries that are charged: this share of the calls within the window, and a floor.
    budget_share: float
    budget_floor: int
    budget_window: float


class RetryBudget:
    """Limits the retries of all calls to a module together, so that they don't bury a service that is down."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock = time.monotonic,
        metrics: Metrics | None = None,
        operations: Iterable[Operation] = (),
    ) -> None:
        self._policy = policy
        self._metric = (metrics or Metrics()).rpc_retries
        for operation, reason in product(operations, _REASONS.values()):
            self._metric.labels(operation.name, reason)
        self._calls = SlidingCounter(policy.budget_window, clock)
        self._retries = SlidingCounter(policy.budget_window, clock)

    def add_call(self) -> None:
        self._calls.add()

    def acquire(self) -> bool:
        """Charges one retry, if the budget allows it."""
        allowed = self._policy.budget_floor + self._policy.budget_share * self._calls.total()
        if self._retries.total() >= allowed:
            return False
        self._retries.add()
        return True

    def count_retry(self, operation: Operation, error: Exception) -> None:
        """For the metric, whether the retry was charged or not."""
        self._metric.labels(operation.name, _REASONS[type(error)]).inc()


async def call_with_retries(
    module: str,
    operation: Operation,
    send: Callable[[int], Awaitable[Result]],
    policy: RetryPolicy,
    budget: RetryBudget,
) -> Result:
    """Awaits `send(1)`, `send(2)`, … until one returns, or the policy stops. Raises ServiceError."""
    budget.add_call()
    try:
        # Most calls need no other: stamina's part of a call is as much as sending it.
        return await send(1)
    except _FAILED as error:
        failed = error
    backoff = _Backoff(operation, policy, budget)
    try:
        async for attempt in stamina.retry_context(on=backoff, attempts=policy.retries + 1, timeout=None):
            with attempt:
                if attempt.num == 1:
                    raise failed
                step_since(WAIT, backoff.failed_at)
                return await send(attempt.num)
        raise AssertionError("stamina returns or raises")
    except ShedError as error:
        error.error.shed = not backoff.may_have_run
        raise error.error from None
    except NeverReachedError as error:
        raise UnreachableError(module, shed=not backoff.may_have_run) from error
    except LostError as error:
        raise UnreachableError(module, shed=False) from error


class _Backoff:
    """The back-off hook of one call: stamina passes it the error, and it returns the seconds to wait, or False.

    `failed_at` is when the last attempt failed, in Unix nanoseconds; `may_have_run`: some attempt may have run.
    """

    def __init__(self, operation: Operation, policy: RetryPolicy, budget: RetryBudget) -> None:
        self._operation = operation
        self._policy = policy
        self._budget = budget
        self._retries = 0
        self.failed_at = 0
        self.may_have_run = False

    def __call__(self, error: Exception) -> float | Literal[False]:
        self.failed_at = time.time_ns()
        self.may_have_run = self.may_have_run or isinstance(error, LostError)
        if type(error) not in _REASONS:
            # The answer, or a bug.
            return False
        wait = self._wait(error)
        # stamina calls the hook after the last attempt, too: no retry may be charged then.
        if self._retries == self._policy.retries:
            return self._stop(error, "that was the last attempt")
        if not self._may_repeat(error):
            return self._stop(error, "it may not be repeated")
        if not self._in_time(error, wait):
            return self._stop(error, "too little time is left")
        if not isinstance(error, NeverReachedError) and not self._budget.acquire():
            return self._stop(error, "the retry budget is used up")
        self._retries += 1
        self._budget.count_retry(self._operation, error)
        logger.bind(correlation_id=request_context.current().correlation_id).warning(
            "{}: {}; retry {} in {:.2f} s",
            self._operation.name,
            error.reason if isinstance(error, CallError) else type(error).__name__,
            self._retries,
            wait,
        )
        return wait

    def _stop(self, error: Exception, why: str) -> Literal[False]:
        logger.bind(correlation_id=request_context.current().correlation_id).debug(
            "{}: {}; no retry: {}", self._operation.name, type(error).__name__, why
        )
        return False

    def _wait(self, error: Exception) -> float:
        jitter = random.uniform(1 - self._policy.jitter, 1)  # noqa: S311 - spreads load
        wait: float = self._policy.first_wait * 2**self._retries * jitter
        return max(wait, error.error.retry_after or 0) if isinstance(error, ShedError) else wait

    def _in_time(self, error: Exception, wait: float) -> bool:
        left, needed = request_context.remaining(), self._policy.least_left
        if isinstance(error, NeverReachedError):
            # Where connection attempts time out, there must be time for another timeout.
            needed = max(needed, error.took)
        return left is None or left - wait >= needed

    def _may_repeat(self, error: Exception) -> bool:
        if not self._operation.retried:
            return False
        match error:
            case NeverReachedError():
                return True
            case LostError():
                return self._operation.repeatable
            case ShedError():
                return error.others
            case _:
                return False
