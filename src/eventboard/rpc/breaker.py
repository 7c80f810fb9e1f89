"""The circuit breaker of a module that is called over HTTP.

It opens when a share of the calls within a time window failed; a module's own error is no failure. It is ours because
no library counts that: pybreaker, circuitbreaker, aiobreaker and purgatory count failures in a row, and fluxgate's
time window doesn't expire without calls, its probes queue, and a cancelled call is none (docs/decisions/0033).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from typing import TypeVar

from loguru import logger
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.observability.metrics import Metrics
from eventboard.rpc.errors import UnreachableError
from eventboard.rpc.sliding_counter import Clock, SlidingCounter

Result = TypeVar("Result")


class BreakerPolicy(Struct, frozen=True, kw_only=True):
    """Opens for `open_for` seconds when at least `least_calls` ended within `window` seconds, and `share` of them
    failed. Then up to `probes` calls at a time are let through, until one of them has an answer.
    """

    least_calls: int
    share: float
    window: float
    open_for: float
    probes: int


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """`name` is the module's, in errors, logs and metrics."""

    def __init__(
        self, name: str, policy: BreakerPolicy, clock: Clock = time.monotonic, metrics: Metrics | None = None
    ) -> None:
        self._name = name
        self._policy = policy
        metrics = metrics or Metrics()
        self._times_opened = metrics.breaker_opened.labels(name)
        self._rejected = metrics.breaker_rejected.labels(name)
        for state in BreakerState:
            metrics.breaker_state.labels(name, state).set_function(partial(self._is, state))
        self._clock = clock
        self._calls = SlidingCounter(policy.window, clock)
        self._failures = SlidingCounter(policy.window, clock)
        self._opened_at: float | None = None
        self._probes = 0

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() - self._opened_at < self._policy.open_for else BreakerState.HALF_OPEN

    async def run(self, call: Callable[[], Awaitable[Result]], *, full_budget: bool = True) -> Result:
        """Awaits `call()` and records how it ended. Raises `unavailable` at once while the breaker is open.

        A call without the `full_budget` of its operation isn't recorded where it runs out of time: the module may
        be fast enough for calls that have more.
        """
        probing = self._admit()
        self._probes += probing
        # None: the call says nothing about the module.
        success: bool | None = None
        try:
            result = await call()
            success = True
        except ServiceError as error:
            if full_budget or error.code is not Code.DEADLINE_EXCEEDED:
                success = not is_failure(error)
            raise
        except asyncio.CancelledError:
            # At its deadline the call has failed; earlier, its caller gave it up.
            if full_budget and request_context.expired():
                success = False
            raise
        finally:
            self._probes -= probing
            if success is not None:
                self._record(success=success, probing=probing)
        return result

    def _is(self, state: BreakerState) -> bool:
        return self.state is state

    def _admit(self) -> bool:
        """Whether the call is a probe. Raises UnreachableError."""
        if self.state is BreakerState.CLOSED:
            return False
        if self.state is BreakerState.HALF_OPEN and self._probes < self._policy.probes:
            return True
        self._rejected.inc()
        raise UnreachableError(self._name, shed=True)

    def _record(self, *, success: bool, probing: bool) -> None:
        if probing:
            self._record_probe(success=success)
        elif self._opened_at is None:  # else it began before the breaker opened
            self._calls.add()
            if not success:
                self._failures.add()
            total, failed = self._calls.total(), self._failures.total()
            if total >= self._policy.least_calls and failed >= self._policy.share * total:
                logger.warning(
                    "the breaker of {} is open: {} of {} calls failed; it rejects calls for {:g} s, then tries again;"
                    " check that {} runs and isn't overloaded",
                    self._name,
                    failed,
                    total,
                    self._policy.open_for,
                    self._name,
                )
                self._open()

    def _record_probe(self, *, success: bool) -> None:
        if not success:
            self._open()
        elif self._opened_at is not None:
            logger.info("the breaker of {} is closed: calls succeed again", self._name)
            self._opened_at = None
        self._calls.clear()
        self._failures.clear()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._times_opened.inc()


def is_failure(error: ServiceError) -> bool:
    """Unreachable, lost or too late; never an error that the module answered with, or a rejection under overload."""
    return isinstance(error, UnreachableError) or error.code is Code.DEADLINE_EXCEEDED
