"""Limits on the database's time that lists and searches take.

What a list costs depends on its filters, so a limit on requests doesn't bound it. Limited are the statements at once
by user, by organization and in all, the seconds of each, and the seconds of all searches of a user and of an
organization within a window. Other reads and writes don't wait here: some connections are always left for them.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from cachetools import LRUCache
from msgspec import Struct
from prometheus_client import Counter

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError, too_many
from eventboard.core.quotas import Quota
from eventboard.identity.access_tokens import Principal
from eventboard.observability.metrics import Metrics

# Users and organizations whose search time is known. The least recent searchers are forgotten first.
CACHE_SIZE = 10_000
# If fewer seconds of the call's budget are left when a statement is stopped, the budget has stopped it.
MARGIN = 0.1

USER, ORGANIZATION, ALL = "searches-by-user", "lists-by-organization", "lists"
TIME_BY_USER, TIME_BY_ORGANIZATION = "search-time-by-user", "search-time-by-organization"


class ListingLimits(Struct, frozen=True, kw_only=True):
    """`lists` run at once, of them `lists_by_organization` of one organization, and `searches_by_user` of one user.

    `statement`, `search_statement` (of one statement) and `patience` (of waiting) are in seconds. Within `window`
    seconds, searches may take `search_time_by_user` and `search_time_by_organization` seconds; 0 is unlimited.
    """

    statement: float
    search_statement: float
    patience: float
    lists: int
    lists_by_organization: int
    searches_by_user: int
    window: int
    search_time_by_user: float
    search_time_by_organization: float


def limits_for(pool_size: int, *, share: float, share_by_organization: float, **others: Any) -> ListingLimits:
    """Shares of a pool's connections. Unless it is the only one, one connection is never used for lists."""
    lists = max(1, min(int(pool_size * share), pool_size - 1))
    by_organization = max(1, min(int(pool_size * share_by_organization), lists))
    return ListingLimits(lists=lists, lists_by_organization=by_organization, **others)


class ListingLimiter:
    def __init__(
        self, limits: ListingLimits, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        rejected = (metrics or Metrics()).rejected
        for name in (USER, ORGANIZATION, ALL, TIME_BY_USER, TIME_BY_ORGANIZATION):
            rejected.labels(name)
        self._limits = limits
        self._clock = clock
        self._searches = _Semaphores(USER, limits.searches_by_user, rejected)
        self._organizations = _Semaphores(ORGANIZATION, limits.lists_by_organization, rejected)
        self._all = _Semaphores(ALL, limits.lists, rejected)
        # Kept: made again for each list, it would cost more than acquiring it.
        self._kept = self._all.semaphore(0)
        window = limits.window
        self._user_time = _LeakyBuckets(TIME_BY_USER, limits.search_time_by_user, window, clock, rejected)
        self._organization_time = _LeakyBuckets(
            TIME_BY_ORGANIZATION, limits.search_time_by_organization, window, clock, rejected
        )

    @asynccontextmanager
    async def slot(self, caller: Principal, *, search: bool) -> AsyncIterator[float]:
        """Waits for a slot, and yields the seconds that each statement may take.

        Raises `too-many-requests` or `unavailable` if there is none in time, and `search-too-broad` instead of the
        error of a statement that took too long.
        """
        user, organization = caller.user_id, caller.organization_id
        deadline = asyncio.get_running_loop().time() + self._limits.patience
        seconds = self._limits.search_statement if search else self._limits.statement
        acquired: list[asyncio.Semaphore] = []
        try:
            if search:
                self._user_time.check(user)
                self._organization_time.check(organization)
                acquired.append(await self._searches.acquire(user.int, deadline))
            acquired.append(await self._organizations.acquire(organization.int, deadline))
            acquired.append(await self._all.acquire(0, deadline))
            started = self._clock()
            try:
                yield seconds
            except ServiceError as error:
                left = request_context.remaining()
                if error.code is Code.DEADLINE_EXCEEDED and (left is None or left >= MARGIN):
                    raise _too_broad(seconds, search=search) from None
                raise
            finally:
                if search:
                    self._user_time.add(user, self._clock() - started)
                    self._organization_time.add(organization, self._clock() - started)
        finally:
            for semaphore in acquired:
                semaphore.release()


class _Semaphores:
    """One semaphore for each key, while somebody has acquired it or waits for it."""

    def __init__(self, name: str, limit: int, rejected: Counter) -> None:
        self._name = name
        self._limit = limit
        self._rejected = rejected
        self._semaphores: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    def semaphore(self, key: int) -> asyncio.Semaphore:
        semaphore = self._semaphores.get(key)
        if semaphore is None:
            semaphore = self._semaphores[key] = asyncio.Semaphore(self._limit)
        return semaphore

    async def acquire(self, key: int, deadline: float) -> asyncio.Semaphore:
        """Raises a ServiceError at the deadline, which is on the event loop's clock."""
        semaphore = self.semaphore(key)
        if not semaphore.locked():
            await semaphore.acquire()
            return semaphore
        try:
            async with asyncio.timeout_at(deadline):
                await semaphore.acquire()
        except TimeoutError:
            self._rejected.labels(self._name).inc()
            raise self._rejection() from None
        return semaphore

    def _rejection(self) -> ServiceError:
        if self._name == ALL:
            return ServiceError(Code.UNAVAILABLE, "Too many lists are being read now.", retry_after=1, shed=True)
        whose, what = ("You have", "searches") if self._name == USER else ("Your organization has", "lists")
        return ServiceError(
            Code.TOO_MANY_REQUESTS,
            f"{whose} {self._limit} {what} under way, which is the limit at any one time.",
            retry_after=1,
            shed=True,
        )


class _LeakyBuckets:
    """Seconds by key, of which `limit` leak within `window` seconds; a limit of 0 is none."""

    def __init__(self, name: str, limit: float, window: int, clock: Callable[[], float], rejected: Counter) -> None:
        self._name = name
        self._limit = limit
        self._window = window
        self._clock = clock
        self._rejected = rejected
        self._levels = LRUCache[UUID, tuple[float, float]](CACHE_SIZE)

    def check(self, key: UUID) -> None:
        """Raises `too-many-requests` while the bucket is full."""
        level = self._level(key)
        if not self._limit or level < self._limit:
            return
        self._rejected.labels(self._name).inc()
        ends_in = max(1, math.ceil((level - self._limit) * self._window / self._limit))
        raise too_many((Quota(self._name, math.ceil(self._limit), self._window, 0, ends_in),))

    def add(self, key: UUID, seconds: float) -> None:
        self._levels[key] = (self._level(key) + seconds, self._clock())

    def _level(self, key: UUID) -> float:
        level, at = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._limit / self._window)


def _too_broad(seconds: float, *, search: bool) -> ServiceError:
    advice = (
        "Search for a longer or rarer text, or narrow the search by status or dates."
        if search
        else "Narrow it by status, startDateFrom or startDateTo."
    )
    what = "search" if search else "list"
    return ServiceError(Code.SEARCH_TOO_BROAD, f"The {what} was stopped after {seconds:g} s. {advice}")
