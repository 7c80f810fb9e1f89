"""Several replicas, some of which would rather not be asked."""

import asyncio
from collections.abc import Callable

from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.rpc.http import SHUTDOWN
from eventboard.rpc.server import RpcServer
from tests.support.rpc import CREDENTIAL, Ask, Desk, DeskService, Told, calling, echo, listening
from tests.support.stopwatch import Stopwatch


def serving(service: DeskService) -> RpcServer:
    return RpcServer({Desk: service}, credential=CREDENTIAL)


async def full(_: Ask) -> Told:
    raise ServiceError(Code.UNAVAILABLE, "Too many requests are being served already.", retry_after=1, shed=True)


def draining(app: App, ends: Callable[[], bool] = lambda: True) -> App:
    """Every answer, while `ends`, says that the connection ends: the process is about to."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and ends():
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, closing)

    return answer


class Healthy:
    """With the one page that a health check asks for. `looked` counts how often it did."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.looked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/health/live":
            await self._app(scope, receive, send)
            return
        self.looked += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def test_one_is_full() -> None:
    """What it refuses, another one does, though many calls take turns; and it isn't asked by each of them."""
    full_one, free_one = DeskService(full), DeskService(echo)
    async with (
        listening(serving(full_one)) as first,
        listening(serving(free_one)) as second,
        calling(Desk, [first, second]) as (desk, _),
    ):
        for _ in range(3):
            answers = await asyncio.gather(*(desk.write(Ask(str(number))) for number in range(6)))
            assert [answer.text for answer in answers] == [str(number) for number in range(6)]
    assert len(free_one.asked) == 18
    assert len(full_one.asked) <= 6


async def test_one_is_about_to_end() -> None:
    """It has said so with its last answer, and is asked no more: its connections are about to be closed."""
    ending, staying = DeskService(echo), DeskService(echo)
    async with (
        listening(draining(serving(ending))) as first,
        listening(serving(staying)) as second,
        calling(Desk, [first, second]) as (desk, _),
    ):
        for _ in range(10):
            await desk.tell(Ask("x"))
    assert (len(ending.asked), len(staying.asked)) == (1, 9)


async def test_one_is_back_while_health_is_asked_for() -> None:
    """A health check tries what was left out, and tells what it found: calls go there again."""
    service, ends = DeskService(echo), True
    back, staying = Healthy(serving(service)), Healthy(serving(DeskService(echo)))
    async with (
        listening(draining(back, lambda: ends)) as first,
        listening(staying) as second,
        calling(Desk, [first, second]) as (desk, transport),
    ):
        while not service.asked:
            await desk.tell(Ask("x"))
        ends = False
        with Stopwatch() as watch:
            while not back.looked:
                assert watch.seconds < 2 * SHUTDOWN
                await transport.check()
                await asyncio.sleep(0.01)  # between two looks
        for _ in range(10):
            await desk.tell(Ask("x"))
    assert len(service.asked) == 1 + 5


async def test_health_check_of_one_that_is_about_to_end() -> None:
    """It says so there, too: no call goes to it."""
    ending, staying = DeskService(echo), DeskService(echo)
    async with (
        listening(draining(Healthy(serving(ending)))) as first,
        listening(Healthy(serving(staying))) as second,
        calling(Desk, [first, second]) as (desk, transport),
    ):
        for _ in range(2):
            await transport.check()
        for _ in range(10):
            await desk.tell(Ask("x"))
    assert (len(ending.asked), len(staying.asked)) == (0, 10)


async def test_the_only_one_is_about_to_end() -> None:
    """There is nobody else to ask."""
    ending = DeskService(echo)
    async with listening(draining(serving(ending))) as only, calling(Desk, [only]) as (desk, _):
        for _ in range(10):
            await desk.tell(Ask("x"))
    assert len(ending.asked) == 10
