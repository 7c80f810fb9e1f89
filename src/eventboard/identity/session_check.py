"""Checks the session of a verified caller: an access token has the facts of the time when it was issued."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from cachetools import LRUCache
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.core import request_context
from eventboard.core.errors import ServiceError
from eventboard.identity.access_tokens import Principal, Role, Verify, invalid_token
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import SESSION_CHECK, step, untraced

# Age of a status in seconds, from when it was requested: from this on it is refreshed in the background ...
FRESH = 2.0
# ... and from this on before the request goes on. With the wait below, a change takes effect within 5 s.
STALE = 4.5
# Seconds that a request waits for the status. Then the last known one is used, or else the token's role; an answer that
# comes later is for the next request.
TIMEOUT = 0.25
# What is used where no answer came in time; values of a metric's label.
BY_LAST, BY_TOKEN = "last-answer", "token"
# Callers in the cache; at some 300 bytes each, a few MiB.
CACHE_SIZE = 10_000
# Concurrent session checks. Without a limit there would be one for each caller while auth doesn't answer, each with a
# connection.
MOST_CHECKS = 500


class SessionStatus(Struct, frozen=True):
    """`role` is the current one, or None where the session or the membership has ended."""

    role: Role | None


FetchStatus = Callable[[Principal], Awaitable[SessionStatus]]

# What a status is of: the user, the organization, the session.
_Key = tuple[int, int, int]


class _Cached(Struct):
    status: SessionStatus
    requested_at: float


class SessionCheck:
    """A verifier of access tokens that also checks the caller's session and membership, with a cache."""

    def __init__(
        self,
        verify: Verify,
        fetch: FetchStatus,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._verify = verify
        unanswered = (metrics or Metrics()).session_check_unanswered
        self._unanswered = {by: unanswered.labels(by) for by in (BY_LAST, BY_TOKEN)}
        self._fetch = fetch
        self._clock = clock
        self._cached: LRUCache[_Key, _Cached] = LRUCache(CACHE_SIZE)
        self._checks: dict[_Key, asyncio.Task[None]] = {}

    def known(self, token: str) -> Principal | None:
        principal = self._verify.known(token)
        if principal is None:
            return None
        try:
            cached = self._cached[_key(principal)]
        except KeyError:
            return None
        age = self._age(cached)
        if age >= FRESH:
            return None
        request_context.current().log_fields.caller = principal
        logger.debug("session check: from the cache, {:.1f} s old", age)
        return _with_current_role(principal, cached.status)

    async def __call__(self, token: str) -> Principal:
        known = self.known(token)
        if known is not None:
            return known
        principal = await self._verify(token)
        request_context.current().log_fields.caller = principal
        status = await self._status(principal)
        return principal if status is None else _with_current_role(principal, status)

    async def _status(self, principal: Principal) -> SessionStatus | None:
        """From the cache or from auth; the last known one where auth doesn't answer in time, or None."""
        key = _key(principal)
        cached = self._cached.get(key)
        age = math.inf if cached is None else self._age(cached)
        if cached is not None and age < FRESH:
            logger.debug("session check: from the cache, {:.1f} s old", age)
            return cached.status
        check = self._checks.get(key) or self._begin_check(key, principal)
        if cached is not None and age < STALE:
            logger.debug("session check: from the cache, {:.1f} s old; auth is asked meanwhile", age)
            return cached.status
        logger.debug("session check: {}; auth is asked", "not cached" if cached is None else f"{age:.1f} s old")
        if check is not None:
            with step(SESSION_CHECK):
                await asyncio.wait([check], timeout=TIMEOUT)
        latest = self._cached.get(key)
        if latest is cached:
            self._unanswered[BY_TOKEN if cached is None else BY_LAST].inc()
        return None if latest is None else latest.status

    def _age(self, cached: _Cached) -> float:
        return self._clock() - cached.requested_at

    def _begin_check(self, key: _Key, principal: Principal) -> asyncio.Task[None] | None:
        if len(self._checks) >= MOST_CHECKS:
            return None
        task = self._checks[key] = asyncio.create_task(self._check(key, principal))
        task.add_done_callback(lambda _: self._checks.pop(key, None))
        return task

    async def _check(self, key: _Key, principal: Principal) -> None:
        requested_at = self._clock()
        try:
            # Without the request's trace and deadline: it may outlive the request, and others may wait for it, too.
            with untraced(), request_context.use(request_context.Context(request_context.current().correlation_id)):
                status = await self._fetch(principal)
        except ServiceError as error:
            logger.debug("a session check failed: {}", error.detail)
            return
        self._cached[key] = _Cached(status, requested_at)


def _key(principal: Principal) -> _Key:
    """Numbers, because a UUID is hashed in Python."""
    return principal.user_id.int, principal.organization_id.int, principal.session_id.int


def _with_current_role(principal: Principal, status: SessionStatus) -> Principal:
    role = status.role
    if role is None:
        raise invalid_token("its membership or its session has ended. Log in again")
    return principal if role is principal.role else replace(principal, role=role)
