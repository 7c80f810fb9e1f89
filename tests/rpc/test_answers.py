"""How large an answer may be: the same for the same answer, whether it crosses between processes or not."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from eventboard.core.contract import Budget
from eventboard.core.errors import Code, ServiceError
from eventboard.modules.events.contract import Event, EventPage, EventQuery, Events, FindEvents
from eventboard.rpc import codec
from eventboard.rpc.breaker import BreakerState
from eventboard.rpc.client import client
from eventboard.rpc.local import LocalTransport
from eventboard.rpc.server import RpcServer
from tests.rpc.test_contracts import EVENT, PAGE
from tests.support.rpc import CREDENTIAL, calling, listening, service_of

QUERY = FindEvents(actor="token", query=EventQuery())
# Four bytes each.
FACE = "\N{SLIGHTLY SMILING FACE}"
LONGEST = Event(
    id=EVENT.id,
    title=FACE * 200,
    description=FACE * 5000,
    location=FACE * 200,
    start_date=EVENT.start_date,
    end_date=EVENT.end_date,
    time_zone="x" * 64,
    status=EVENT.status,
    rejection_reason=FACE * 500,
    organization_id=EVENT.organization_id,
    created_by_id=EVENT.created_by_id,
    created_by_name=FACE * 201,
    created_at=EVENT.created_at,
    updated_at=EVENT.updated_at,
    version=2**40,
)


@pytest.mark.parametrize("entries", [1, 2, 100])
@pytest.mark.parametrize("less", [0, 1], ids=["just fits", "a byte too large"])
async def test_bound(entries: int, less: int) -> None:
    """To the byte, here and there; it is an error of its own, sent once, and no evidence against the service."""
    page = EventPage(data=[LONGEST] * entries, meta=PAGE)
    most = len(codec.encode(page)) - less
    asked: list[Any] = []

    def answer(_: Any, request: Any) -> EventPage:
        asked.append(request)
        return page

    service = service_of(Events, answer)
    here = client(Events, LocalTransport(service, max_answer=most), dict.fromkeys(map(str, Budget), 10.0))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(
            listening(RpcServer({Events: service}, credential=CREDENTIAL, max_answer=most))
        )
        there, transport = await stack.enter_async_context(calling(Events, [url]))
        for caller in (here, there):
            for _ in range(25 if less and caller is there else 1):
                assert await outcome(caller) == (Code.ANSWER_TOO_LARGE if less else page)
                assert asked.pop() == QUERY
                assert not asked
        assert transport.breaker.state is BreakerState.CLOSED


async def test_service_with_a_larger_bound() -> None:
    """What is more than the caller takes is the same error."""
    page = EventPage(data=[LONGEST] * 20, meta=PAGE)
    service = service_of(Events, lambda *_: page)
    async with (
        listening(RpcServer({Events: service}, credential=CREDENTIAL)) as url,
        calling(Events, [url], max_answer=20_000) as (events, transport),
    ):
        for _ in range(25):
            assert await outcome(events) == Code.ANSWER_TOO_LARGE
        assert transport.breaker.state is BreakerState.CLOSED


async def outcome(events: Events) -> EventPage | Code:
    try:
        return await events.find_all(QUERY)
    except ServiceError as error:
        return error.code
