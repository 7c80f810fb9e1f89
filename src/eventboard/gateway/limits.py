"""How many requests a user may send, over all processes, without asking anybody in each of them.

Up to a block's worth of requests goes on credit. When half of that is spent, the process takes what is owed and a block
more, beside the requests, from a counter that all processes share, by the contract of auth. So a user passes the limit
by a block for each process at most, and who sends little is asked about nowhere.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from loguru import logger
from msgspec import Struct

from eventboard.modules.auth.contract import Lease, Leased
from eventboard.platform import context
from eventboard.platform.errors import ServiceError, too_many
from eventboard.platform.metrics import Metrics, rejections, unlimited
from eventboard.platform.quotas import POLICY, STATE, Quota, quota_headers

NAME = "user"
# Seconds that a request waits for a block when its user's credit is spent, and that asking for one may take.
PATIENCE = 0.25
# Seconds until auth is asked again after it could not be.
AGAIN = 1.0
# Users remembered; at some 300 bytes each, a few MiB.
MOST = 10_000

# The headers that tell of a limit, as ASGI has them.
Headers = tuple[tuple[bytes, bytes], ...]
TakeBlock = Callable[[Lease], Awaitable[Leased]]


class _Allowance(Struct):
    """What this process may let one user do until `ends`. `left` below zero went on credit; `others` is for others.

    When no more than `low` is left, the next block is asked for.
    """

    left: int
    others: int
    ends: float
    low: int
    spent: bool = False
    ask_at: float = 0.0
    asking: asyncio.Task[None] | None = None


class UserLimit:
    """`most` requests of one user in `window` seconds, in blocks of `block`."""

    def __init__(
        self,
        take: TakeBlock,
        *,
        most: int,
        window: int,
        block: int,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self._rejected = rejections(metrics)
        self._unlimited = unlimited(metrics)
        for counter in (self._rejected, self._unlimited):
            counter.index((NAME,))
        self._take = take
        self._most = most
        self._window = window
        self._block = min(block, most)
        self._low = -(self._block // 2)
        self._clock = clock
        self._policy = (POLICY.encode(), quota_headers([Quota(NAME, most, window, 0, 0)])[POLICY].encode())
        self._state = STATE.encode()
        # By the id's number, whose hash is a quarter of the id's.
        self._known: dict[int, _Allowance] = {}

    async def admit(self, user_id: UUID) -> Headers:
        """Raises `too-many-requests`."""
        now = self._clock()
        allowance = self._known.get(user_id.int)
        if allowance is None or now >= allowance.ends:
            allowance = self._begin(user_id, now)
        if allowance.left <= allowance.low:
            await self._more(user_id, allowance)
        allowance.left = left = allowance.left - 1
        left += allowance.others
        told = b'"user";r=%d;t=%d' % (max(0, left), math.ceil(allowance.ends - now))
        return (self._policy, (self._state, told))

    def _begin(self, user_id: UUID, now: float) -> _Allowance:
        if len(self._known) >= MOST and user_id.int not in self._known:
            del self._known[next(iter(self._known))]
        self._known[user_id.int] = allowance = _Allowance(0, self._most, now + self._window, self._low)
        return allowance

    async def _more(self, user_id: UUID, allowance: _Allowance) -> None:
        """Returns when the request may go on."""
        end = time.monotonic() + PATIENCE
        while True:
            if allowance.spent:
                if allowance.left > 0:
                    return
                self._rejected.add(NAME)
                raise self._refusal(allowance)
            if allowance.asking is None and self._clock() >= allowance.ask_at:
                allowance.asking = asyncio.create_task(self._lease(user_id, allowance))
            if allowance.left > -self._block:
                return
            patience = end - time.monotonic()
            if allowance.asking is None or patience <= 0:
                self._unlimited.add(NAME)
                return
            await asyncio.wait([allowance.asking], timeout=patience)

    async def _lease(self, user_id: UUID, allowance: _Allowance) -> None:
        # What went on beyond the credit went on unleased, and isn't asked for afterwards.
        allowance.left = max(allowance.left, -self._block)
        amount = self._block - allowance.left
        try:
            # Too little for a retry, which is meant: the next request asks again anyway.
            # In a trace of nobody's: it may go on when the request has ended, and others may wait for it, too.
            with context.use(context.Context(context.current().correlation_id)), context.budget(PATIENCE):
                leased = await self._take(Lease(user_id=user_id, amount=amount, most=self._most, window=self._window))
        except ServiceError as error:
            allowance.ask_at = self._clock() + AGAIN
            logger.debug("how many requests a user has left is not known: {}", error.detail)
        else:
            allowance.left += leased.granted
            allowance.others = leased.left
            allowance.spent = leased.granted < amount
            # Towards the limit no credit is given: the next block is asked for while some of the last is left.
            allowance.low = self._low if leased.left >= self._block else self._block // 2
            allowance.ends = self._clock() + leased.ends_in
        finally:
            allowance.asking = None

    def _refusal(self, allowance: _Allowance) -> ServiceError:
        ends_in = max(1, math.ceil(allowance.ends - self._clock()))
        return too_many((Quota(NAME, self._most, self._window, 0, ends_in),))
