"""Health: whoever asks together is told by one check, and a process that is full of members' requests answers still."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from eventboard.core.asgi import Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.observability.metrics import Metrics
from eventboard.web.error_responses import encode_problem
from eventboard.web.health import PATHS as HEALTH
from eventboard.web.health import HealthChecks, Peer
from eventboard.web.load_shedding import LoadSheddingMiddleware
from eventboard.web.serving_state import ServingState
from tests.support.processes import PATIENCE, Process
from tests.support.rpc import listening


class Slow:
    """A check that answers when it is let; `asked` is how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = asyncio.Event()
        self.answers = asyncio.Event()
        self.fails = False

    async def __call__(self) -> None:
        self.asked += 1
        self.begun.set()
        await self.answers.wait()
        if self.fails:
            raise ServiceError(Code.UNAVAILABLE, "It is away.")


@pytest.mark.parametrize("what", ["own", "all"])
async def test_many_ask_at_once(what: str) -> None:
    """One check tells them all; who asks later has it asked anew, and one who leaves takes nothing with them."""
    own, peer = Slow(), Slow()
    checks = HealthChecks({"events": own}, {"auth": Peer(peer, dict)}, [])
    ask = {"own": checks.own, "all": checks.all}[what]
    asking = [asyncio.create_task(ask()) for _ in range(100)]
    await own.begun.wait()
    asking.pop(0).cancel()
    for check in (own, peer):
        check.answers.set()
    assert {health.status for health in await asyncio.gather(*asking)} == {"up"}
    assert (own.asked, peer.asked) == (1, 1 if what == "all" else 0)
    own.fails = True
    assert (await ask()).status == "down"


async def test_health_takes_nobodys_place() -> None:
    """However many ask for it at once; what only begins like it does."""
    begun, holds = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def app(_: Scope, __: Receive, send: Send) -> None:
        begun.release()
        await holds.acquire()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(
            listening(LoadSheddingMiddleware(app, ServingState(1), encode_problem, Metrics()))
        )
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=PATIENCE))
        asking = [asyncio.create_task(http.get(path)) for path in [*HEALTH, "/healthy", *HEALTH]]
        for _ in asking:
            await begun.acquire()
        refused = [await http.get(path) for path in ("/events", "/health/nope")]
        for _ in asking:
            holds.release()
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * len(asking)
        assert [answer.status_code for answer in refused] == [503, 503]


def test_paths(server: tuple[Process, str]) -> None:
    """Those that are known to be health's are served."""
    process, _ = server
    assert {httpx.get(f"{process.url}{path}").status_code for path in HEALTH} == {200}
