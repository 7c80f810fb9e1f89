"""Whether a verified caller still stands: an access token says what was so when it was issued."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.platform import context
from eventboard.platform.errors import ServiceError
from eventboard.platform.identity import Principal, Role, Verify, refused
from eventboard.platform.metrics import Metrics
from eventboard.platform.tracing import STANDING, Span

# Seconds: an answer this old is asked for anew, beside the request ...
FRESH = 2.0
# ... and one this old before the request goes on: a change takes effect within 5 s, the wait below included.
STALE = 4.5
# Seconds that a request waits for the answer. Then the last known one holds, or else what the token says.
PATIENCE = 0.25
# What decides where no answer came in time.
BY_LAST, BY_TOKEN = "last-answer", "token"
# Callers remembered; at some 300 bytes each, a few MiB.
MOST = 10_000


class Standing(Struct, frozen=True):
    """`role` is the one in force; None where the membership, or the session, has ended."""

    role: Role | None


Ask = Callable[[Principal], Awaitable[Standing]]


class _Known(Struct):
    standing: Standing
    at: float


class StandingVerifier:
    """A verifier that also asks, behind a cache, whether the caller's membership and session stand now."""

    def __init__(
        self,
        verify: Verify,
        ask: Ask,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._verify = verify
        self._decided = (metrics or Metrics()).counter(
            "eventboard_standing_unanswered_total",
            "Requests whose caller's standing was not known anew in time, by what decided instead.",
            ("by",),
        )
        for instead in (BY_LAST, BY_TOKEN):
            self._decided.index((instead,))
        self._ask = ask
        self._clock = clock
        self._known: dict[Principal, _Known] = {}
        self._asking: dict[Principal, asyncio.Task[None]] = {}

    def known(self, token: str) -> Principal | None:
        principal = self._verify.known(token)
        known = None if principal is None else self._known.get(principal)
        if principal is None or known is None or self._clock() - known.at >= FRESH:
            return None
        context.current().notes.caller = principal
        return _standing(principal, known.standing)

    async def __call__(self, token: str) -> Principal:
        principal = await self._verify(token)
        context.current().notes.caller = principal
        known = self._known.get(principal)
        age = STALE if known is None else self._clock() - known.at
        if age >= FRESH:
            asking = self._asking.get(principal) or self._begin(principal)
            if age >= STALE:
                with Span(STANDING):
                    await asyncio.wait([asking], timeout=PATIENCE)
                answered = self._known.get(principal)
                if answered is known:
                    self._decided.add(BY_TOKEN if known is None else BY_LAST)
                known = answered
        return principal if known is None else _standing(principal, known.standing)

    def _begin(self, principal: Principal) -> asyncio.Task[None]:
        task = self._asking[principal] = asyncio.create_task(self._learn(principal))
        task.add_done_callback(lambda _: self._asking.pop(principal, None))
        return task

    async def _learn(self, principal: Principal) -> None:
        try:
            # Too little for a retry, which is meant: the next request asks again anyway.
            # In a trace of nobody's: it may go on when the request has ended, and another may wait for it, too.
            with context.use(context.Context(context.current().correlation_id)), context.budget(PATIENCE):
                standing = await self._ask(principal)
        except ServiceError as error:
            logger.debug("whether a caller still stands is not known: {}", error.detail)
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[principal] = _Known(standing, self._clock())


def _standing(principal: Principal, standing: Standing) -> Principal:
    role = standing.role
    if role is None:
        raise refused("its membership or its session has ended")
    return principal if role is principal.role else replace(principal, role=role)
