"""Limits how many requests a user may send, over all processes, without a call to auth for each request.

A process allows up to a block of requests on credit. When half of it is used, it leases what is owed and another block
from a counter that all processes share, by auth's contract and in the background. So a user exceeds the limit by at
most one block for each process, and a user who sends little causes no calls. When a user is evicted from memory, their
debt is added to the counter, or what was leased and not used is returned.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from cachetools import LRUCache
from loguru import logger
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.errors import ServiceError, too_many
from eventboard.core.quotas import POLICY, STATE, Quota, quota_headers
from eventboard.modules.auth.contract import Lease, Leased
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import untraced

NAME = "user"
# Seconds that a request waits for a lease when its user's credit is used up. A later lease serves the next request.
PATIENCE = 0.25
# Seconds until the next attempt after auth couldn't be reached.
RETRY_AFTER = 1.0
# Users in memory, the most recent ones; at some 300 bytes each, a few MiB.
MAX_USERS = 10_000
# Evicted users whose counts are being settled. Beyond it, if auth doesn't answer, counts are lost.
MAX_SETTLING = 100

# The headers that describe the limit, as ASGI has them.
Headers = tuple[tuple[bytes, bytes], ...]
TakeLease = Callable[[Lease], Awaitable[Leased]]


class _Allowance(Struct):
    """What this process allows one user until `ends`. A negative `left` is credit; `others` is left to other processes.

    When `left` is not above `low`, the next block is leased.
    """

    left: int
    others: int
    ends: float
    low: int
    exhausted: bool = False
    retry_at: float = 0.0
    leasing: asyncio.Task[None] | None = None


class _Allowances(LRUCache[UUID, _Allowance]):
    """The most recent users' allowances. `on_evict` is called for each that has to make room."""

    def __init__(self, max_users: int, on_evict: Callable[[UUID, _Allowance], None]) -> None:
        super().__init__(max_users)
        self._on_evict = on_evict

    def popitem(self) -> tuple[UUID, _Allowance]:
        user_id, allowance = super().popitem()
        self._on_evict(user_id, allowance)
        return user_id, allowance


class UserLimit:
    """`most` requests of one user in `window` seconds, in blocks of `block`."""

    def __init__(
        self,
        take: TakeLease,
        *,
        most: int,
        window: int,
        block: int,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self._rejected = metrics.rejected.labels(NAME)
        self._unlimited = metrics.unlimited.labels(NAME)
        self._take = take
        self._most = most
        self._window = window
        self._block = min(block, most)
        self._low = -(self._block // 2)
        self._clock = clock
        self._policy = (POLICY.encode(), quota_headers([Quota(NAME, most, window, 0, 0)])[POLICY].encode())
        self._state = STATE.encode()
        self._allowances = _Allowances(MAX_USERS, self._evicted)
        self._settling: set[asyncio.Task[None]] = set()

    async def admit(self, user_id: UUID, until: float = math.inf) -> Headers:
        """Raises `too-many-requests`. It waits no longer than `until`, on `time.monotonic()`'s clock."""
        now = self._clock()
        try:
            allowance = self._allowances[user_id]
        except KeyError:
            allowance = self._begin(user_id, now)
        if now >= allowance.ends:
            allowance = self._begin(user_id, now)
        if allowance.left <= allowance.low:
            await self._wait_for_lease(user_id, allowance, until)
        allowance.left = left = allowance.left - 1
        left += allowance.others
        state = b'"user";r=%d;t=%d' % (max(0, left), math.ceil(allowance.ends - now))
        return (self._policy, (self._state, state))

    def _begin(self, user_id: UUID, now: float) -> _Allowance:
        self._allowances[user_id] = allowance = _Allowance(0, self._most, now + self._window, self._low)
        return allowance

    def _evicted(self, user_id: UUID, allowance: _Allowance) -> None:
        if allowance.leasing is None and (allowance.left == 0 or self._clock() >= allowance.ends):
            return
        if len(self._settling) >= MAX_SETTLING:
            self._unlimited.inc()
            return
        settling = asyncio.create_task(self._settle(user_id, allowance))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    async def _settle(self, user_id: UUID, allowance: _Allowance) -> None:
        """Adds what was used on credit to the counter; what was leased and not used, as a negative amount."""
        if allowance.leasing is not None:
            await asyncio.wait([allowance.leasing])
        if allowance.left != 0 and self._clock() < allowance.ends:
            try:
                await self._leased(user_id, -allowance.left)
            except ServiceError as error:
                self._unlimited.inc()
                logger.debug("an evicted user's requests could not be counted: {}", error.detail)

    async def _leased(self, user_id: UUID, amount: int) -> Leased:
        # With a context of its own: it may outlive the request, and other requests may wait for it.
        with untraced(), request_context.use(request_context.Context(request_context.current().correlation_id)):
            return await self._take(Lease(user_id=user_id, amount=amount, most=self._most, window=self._window))

    async def _wait_for_lease(self, user_id: UUID, allowance: _Allowance, until: float) -> None:
        """Returns when the request is allowed. Raises `too-many-requests`."""
        end = min(time.monotonic() + PATIENCE, until)
        while True:
            if allowance.exhausted:
                if allowance.left > 0:
                    return
                self._rejected.inc()
                raise self._rejection(allowance)
            if allowance.leasing is None and self._clock() >= allowance.retry_at:
                allowance.leasing = asyncio.create_task(self._lease(user_id, allowance))
            # Near the limit there is no credit.
            if allowance.left > (0 if allowance.low > 0 else -self._block):
                return
            seconds = end - time.monotonic()
            if allowance.leasing is None or seconds <= 0:
                self._unlimited.inc()
                return
            await asyncio.wait([allowance.leasing], timeout=seconds)

    async def _lease(self, user_id: UUID, allowance: _Allowance) -> None:
        if allowance.retry_at:
            # An outage of auth isn't held against anybody: what was allowed beyond the credit meanwhile is not leased.
            allowance.left = max(allowance.left, -self._block)
        amount = self._block - allowance.left
        try:
            leased = await self._leased(user_id, amount)
        except ServiceError as error:
            allowance.retry_at = self._clock() + RETRY_AFTER
            logger.debug("the requests that a user has left are not known: {}", error.detail)
        else:
            allowance.retry_at = 0.0
            allowance.left += leased.granted
            allowance.others = leased.left
            allowance.exhausted = leased.granted < amount
            # Near the limit the next block is leased before the last one is used up.
            allowance.low = self._low if leased.left >= self._block else self._block // 2
            allowance.ends = self._clock() + leased.ends_in
        finally:
            allowance.leasing = None

    def _rejection(self, allowance: _Allowance) -> ServiceError:
        ends_in = max(1, math.ceil(allowance.ends - self._clock()))
        return too_many((Quota(NAME, self._most, self._window, 0, ends_in),))
