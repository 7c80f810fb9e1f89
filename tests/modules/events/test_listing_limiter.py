"""Limits on lists and searches, by a clock of the test's own."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events.listing_limiter import ListingLimiter, ListingLimits, limits_for

GIVEN = {
    "statement": 5.0,
    "search_statement": 1.0,
    "patience": 10.0,
    "searches_by_user": 1,
    "window": 60,
    "search_time_by_user": 6.0,
    "search_time_by_organization": 60.0,
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def someone() -> Principal:
    return Principal(uuid4(), uuid4(), Role.USER, "Una", uuid4(), int(datetime(2030, 1, 1, tzinfo=UTC).timestamp()))


def limits(pool_size: int = 20) -> ListingLimits:
    return limits_for(pool_size, share=0.75, share_by_organization=0.25, **GIVEN)


@pytest.mark.parametrize(
    ("pool_size", "lists", "by_organization"), [(20, 15, 5), (8, 6, 2), (4, 3, 1), (2, 1, 1), (1, 1, 1)]
)
def test_shares_of_a_pool(pool_size: int, lists: int, by_organization: int) -> None:
    """One connection is always for what is not a list, unless it is the only one."""
    found = limits(pool_size)
    assert (found.lists, found.lists_by_organization) == (lists, by_organization)


async def test_search_time_is_paid_off() -> None:
    """Six seconds a minute: what was spent beyond them is waited for, and no more."""
    clock, caller = Clock(), someone()
    limiter = ListingLimiter(limits(), clock=clock)

    async def search(seconds: float) -> None:
        async with limiter.slot(caller, search=True):
            clock.now += seconds

    await search(8)
    with pytest.raises(ServiceError) as rejected:
        await search(0)
    assert rejected.value.code is Code.TOO_MANY_REQUESTS
    # 2 s too much, paid off at a tenth of a second for each second.
    assert rejected.value.retry_after == 20
    async with limiter.slot(caller, search=False):
        pass
    async with limiter.slot(someone(), search=True):
        pass
    clock.now += 20.1
    await search(0)


async def test_waiting_in_turn() -> None:
    """Those who wait get in as they came; one that gives up is passed over, and nothing is lost."""
    limiter, caller = ListingLimiter(limits()), someone()
    order: list[int] = []

    async def search(number: int) -> None:
        async with limiter.slot(caller, search=True):
            order.append(number)
            await asyncio.sleep(0)

    for _ in range(2):
        async with limiter.slot(caller, search=True):
            tasks = [asyncio.create_task(search(number)) for number in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2, 3] * 2
