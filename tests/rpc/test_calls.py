"""A call over HTTP: its attempts, what each of them carries, and what is written down about it."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest
from loguru import logger
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from eventboard.core import request_context
from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.modules.auth.contract import Auth, LoginFrom, SignupFrom
from eventboard.modules.events.contract import EventCommand, Events, Written
from eventboard.rpc import codec
from eventboard.rpc.errors import UnreachableError
from eventboard.rpc.server import RpcServer
from tests.support.black_hole import black_hole
from tests.support.proxy import proxied
from tests.support.rpc import (
    BREAKER,
    CREDENTIAL,
    QUICK,
    Ask,
    Desk,
    DeskService,
    NewAsk,
    NewDesk,
    NewTold,
    Told,
    calling,
    echo,
    listening,
    service_of,
)
from tests.support.stopwatch import Stopwatch

CANARY = "canary-in-a-password"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Everything that is logged, at any level, with all that a record holds; as logs.py sets it up."""
    lines: list[str] = []
    sink = logger.add(lines.append, level=0, serialize=True, backtrace=False, diagnose=False)
    yield lines
    logger.remove(sink)


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return "http://127.0.0.1:{}".format(*server.getsockname()[1:2])


class Heard:
    """Keeps the headers of every call that reaches the application behind it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.headers: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await self._app(scope, receive, send)


class Dropping:
    """Lets the first answers fall: the work is done, and who asked never hears of it."""

    def __init__(self, app: App, times: int) -> None:
        self._app = app
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def swallow(_: Message) -> None:
            pass

        self._times -= 1
        # uvicorn answers for an application that didn't, in words that no module has.
        await self._app(scope, receive, send if self._times < 0 else swallow)


async def test_context_crosses() -> None:
    """Correlation id, trace, credential and contract go with each call; the budget is a duration."""
    heard = Heard(RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL))
    client = NonRecordingSpan(SpanContext(int("a" * 32, 16), int("b" * 16, 16), is_remote=True))
    async with listening(heard) as url, calling(Desk, [url], budget=300) as (desk, _):
        with request_context.use(request_context.Context("walk.1")), trace.use_span(client):
            assert await desk.tell(Ask("hi")) == Told("hi")
        with request_context.use(request_context.Context("walk.2")), request_context.budget(150):
            await desk.tell(Ask("hi"))
    first, second = heard.headers
    assert first[codec.CORRELATION_ID] == "walk.1"
    assert first["traceparent"] == f"00-{'a' * 32}-{'b' * 16}-00"
    assert first["authorization"] == f"Bearer {CREDENTIAL}"
    assert first[codec.CONTRACT] == codec.contract_hash(Desk)
    assert 200_000 < int(first[codec.BUDGET]) <= 300_000
    assert "traceparent" not in second
    assert 100_000 < int(second[codec.BUDGET]) <= 150_000


async def test_budget_shrinks() -> None:
    """Each attempt carries what is left: waits and earlier attempts are taken off."""
    heard = Heard(Dropping(RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL), times=2))
    policy = replace(QUICK, first_wait=0.1, jitter=0)
    async with listening(heard) as url, calling(Desk, [url], budget=300, retries=policy) as (desk, _):
        assert await desk.tell(Ask("hi")) == Told("hi")
    first, second, third = (int(headers[codec.BUDGET]) for headers in heard.headers)
    assert first <= 300_000
    assert second <= first - 100
    assert 200_000 < third <= second - 200


async def test_lost_write_is_sent_again_under_its_key() -> None:
    """The attempts of one call have one key, made once; so a write may be repeated whose answer was lost."""
    asked: list[EventCommand] = []

    def answer(_: object, request: EventCommand) -> Written:
        asked.append(request)
        return Written(None)

    rpc = RpcServer({Events: service_of(Events, answer)}, credential=CREDENTIAL)
    async with listening(rpc) as url:
        host, port = url.removeprefix("http://").split(":")
        with proxied((host, int(port))) as proxy:
            proxy.cut(times=2)
            async with calling(Events, [proxy.url]) as (events, _):
                assert await events.submit(EventCommand(actor="token", event_id=uuid4())) == Written(None)
    assert len(asked) == 3
    assert len({command.idempotency_key.value for command in asked if command.idempotency_key}) == 1


async def test_lost_write_without_a_key() -> None:
    """It isn't sent again: it may have run."""
    service = DeskService(echo)
    rpc = RpcServer({Desk: service}, credential=CREDENTIAL)
    async with listening(Dropping(rpc, times=1)) as url, calling(Desk, [url]) as (desk, _):
        with pytest.raises(UnreachableError) as raised:
            await desk.write(Ask("hi"))
    assert not raised.value.shed
    assert len(service.asked) == 1


async def test_answer_to_another_request() -> None:
    """What was left of an earlier call on its connection is never taken for the answer: the call is asked again."""
    late, sent = asyncio.Event(), asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
                correlation_id = head.partition("x-correlation-id: ")[2].partition("\r")[0]
                body = codec.encode(Told(correlation_id))
                answer = (
                    f"HTTP/1.1 200 OK\r\ncontent-type: {codec.MEDIA_TYPE}\r\nx-correlation-id: {correlation_id}\r\n"
                    f"content-length: {len(body)}\r\n\r\n"
                ).encode() + body
                writer.write(answer)
                if not late.is_set():
                    await late.wait()
                    writer.write(answer)
                    sent.set()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, calling(Desk, [f"http://{host}:{port}"]) as (desk, _):
        with request_context.use(request_context.Context("walk.1")):
            assert await desk.tell(Ask("hi")) == Told("walk.1")
        late.set()
        await sent.wait()
        _, other = await asyncio.open_connection(host, port)  # the late answer has arrived before
        other.close()
        with request_context.use(request_context.Context("walk.2")):
            assert await desk.tell(Ask("hi")) == Told("walk.2")


async def test_nobody_listens() -> None:
    """The call can't have run, and the client is told so."""
    async with calling(Desk, [nobody()]) as (desk, _):
        with pytest.raises(UnreachableError) as raised:
            await desk.write(Ask("hi"))
    assert raised.value.shed


async def test_name_that_nobody_has() -> None:
    """Likewise where the name leads nowhere."""
    async with calling(Desk, ["http://nobody.invalid:3002"]) as (desk, _):
        with pytest.raises(UnreachableError) as raised:
            await desk.write(Ask("hi"))
    assert raised.value.shed


async def test_another_replica_at_once() -> None:
    """Where one can't be connected to, the next is asked without a wait."""
    policy = replace(QUICK, retries=0)
    async with (
        listening(RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL)) as url,
        calling(Desk, [nobody(), url, nobody()], retries=policy) as (desk, _),
    ):
        for _ in range(6):
            assert await desk.write(Ask("hi")) == Told("hi")


async def test_several_that_swallow_all() -> None:
    """503 before the budget ends: another try that takes as long as the last one would outlast it."""
    policy = replace(QUICK, first_wait=1)
    with black_hole() as one, black_hole() as two, black_hole() as three:
        async with calling(Desk, [one, two, three], retries=policy, budget=2.9, connect_timeout=1) as (desk, _):
            with Stopwatch() as watch, pytest.raises(UnreachableError) as raised:
                await desk.write(Ask("hi"))
    assert raised.value.shed
    assert watch.elapsed >= 2
    assert watch.seconds < 2.5


async def test_one_that_swallows_all() -> None:
    """503 there, too, and at once: a retry with less time left than a try takes could say nothing but 504."""
    policy = replace(QUICK, first_wait=0.5, jitter=0)
    with black_hole() as gone:
        async with calling(Desk, [gone], retries=policy, budget=2, connect_timeout=1) as (desk, _):
            with Stopwatch() as watch, pytest.raises(UnreachableError) as raised:
                await desk.write(Ask("hi"))
    assert raised.value.shed
    assert watch.elapsed >= 1
    assert watch.seconds < 1.5


async def test_shed() -> None:
    """A replica with too much to do is not asked again where it is the only one; another one is."""

    async def refuse(_: Ask) -> Told:
        raise ServiceError(Code.UNAVAILABLE, "Too much to do.", shed=True)

    busy, idle = DeskService(refuse), DeskService(echo)
    async with (
        listening(RpcServer({Desk: busy}, credential=CREDENTIAL)) as first,
        listening(RpcServer({Desk: idle}, credential=CREDENTIAL)) as second,
    ):
        async with calling(Desk, [first]) as (desk, _):
            with pytest.raises(ServiceError) as raised:
                await desk.write(Ask("hi"))
        assert raised.value.shed
        assert len(busy.asked) == 1
        async with calling(Desk, [first, second]) as (desk, _):
            for _ in range(4):
                assert await desk.write(Ask("hi")) == Told("hi")
    assert len(idle.asked) == 4


async def test_breaker_is_in_the_state() -> None:
    """An open breaker answers at once, and shows."""
    policy = replace(QUICK, retries=0)
    async with calling(Desk, [nobody()], retries=policy, breaker=replace(BREAKER, open_for=60)) as (desk, transport):
        for _ in range(BREAKER.least_calls):
            with pytest.raises(UnreachableError):
                await desk.tell(Ask("hi"))
        assert transport.state() == {"breaker": "open"}


async def test_end_of_the_budget() -> None:
    """504 when it ends, though the service says nothing; the promised 100 ms are measured with the faults."""

    async def stand_still(_: Ask) -> Told:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        listening(RpcServer({Desk: DeskService(stand_still)}, credential=CREDENTIAL)) as url,
        calling(Desk, [url], budget=0.4) as (desk, _),
    ):
        with Stopwatch() as watch, pytest.raises(ServiceError) as raised:
            await desk.tell(Ask("hi"))
        assert watch.elapsed >= 0.39
        assert watch.seconds < 1
    assert raised.value.code is Code.DEADLINE_EXCEEDED
    assert not raised.value.shed


async def test_other_contract(logged: list[str]) -> None:
    """Each side tells it once, not with every call, and shows it: also where replicas of both versions take turns."""
    older = RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL)
    newer = RpcServer({NewDesk: service_of(NewDesk, lambda *_: NewTold("ho"))}, credential=CREDENTIAL)
    there, here = codec.contract_hash(Desk), codec.contract_hash(NewDesk)
    async with (
        listening(older) as first,
        listening(newer) as second,
        calling(NewDesk, [first, second]) as (desk, transport),
    ):
        for _ in range(6):
            await desk.tell(NewAsk("hi"))
            await desk.tell(NewAsk("hi"))
            assert transport.state() == {"breaker": "closed", "contract": f"{there} there, {here} here"}
    assert older.states()["desk"]() == {"contract": f"{here} there, {there} here"}
    assert newer.states()["desk"]() == {}
    assert len([line for line in logged if f"desk has contract {there}, this process {here}" in line]) == 1
    assert len([line for line in logged if f"a caller of desk has contract {here}, this process {there}" in line]) == 1


async def test_same_contract(logged: list[str]) -> None:
    """Nothing is told."""
    async with (
        listening(RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL)) as url,
        calling(Desk, [url]) as (desk, transport),
    ):
        await desk.tell(Ask("hi"))
        assert transport.state() == {"breaker": "closed"}
    assert not [line for line in logged if "contract" in line]


async def test_no_argument_is_written_down(logged: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with a call, its password is in no line, at any level."""
    login = LoginFrom(email="ada@example.com", password=CANARY)
    signup = SignupFrom(
        email="ada@example.com", password=CANARY, first_name="A", last_name="K", organization_name="Acme"
    )

    def fail(_: object, __: object) -> object:
        raise ServiceError(Code.UNAVAILABLE, "Too much to do.", shed=True)

    def break_(_: object, request: object) -> object:
        raise ZeroDivisionError(type(request).__name__)

    failing = RpcServer({Auth: service_of(Auth, fail)}, credential=CREDENTIAL)
    broken = RpcServer({Auth: service_of(Auth, break_)}, credential=CREDENTIAL)
    older = RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL)
    caplog.set_level(0)  # the libraries' lines, too
    async with (
        listening(failing) as one,
        listening(failing) as two,
        listening(broken) as three,
        listening(Dropping(failing, times=99)) as four,
        listening(older) as five,
    ):
        for origins in ([nobody()], [one, two], [three], [four], [five]):
            async with calling(Auth, origins) as (auth, _):
                with pytest.raises(ServiceError):
                    await auth.login(login)
                with pytest.raises(ServiceError):
                    await auth.signup(signup)
    assert any("auth.login: no connection could be made; retry 1" in line for line in logged)
    assert any("auth.login: the connection ended without an answer; retry 1" in line for line in logged)
    assert any("auth.login: the replica is overloaded or shutting down; retry 1" in line for line in logged)
    assert not [line for line in [*logged, *(str(vars(record)) for record in caplog.records)] if CANARY in line]
