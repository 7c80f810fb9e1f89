"""What stands behind /rpc, asked by whoever can reach the port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventboard.core import request_context
from eventboard.core.asgi import Receive, Scope, Send
from eventboard.core.errors import Code
from eventboard.observability.metrics import Metrics
from eventboard.rpc import codec
from eventboard.rpc.server import DEFAULT_BUDGET, LARGEST, RpcServer, encode_failure, mount
from eventboard.web.load_shedding import LoadSheddingMiddleware
from eventboard.web.request_context import RequestContextMiddleware
from eventboard.web.serving_state import ServingState
from tests.support.plain_http import NO_TLS
from tests.support.processes import PATIENCE
from tests.support.rpc import CREDENTIAL, Ask, Desk, DeskService, Told, echo, listening
from tests.support.stopwatch import Stopwatch

KNOWN = {"authorization": f"Bearer {CREDENTIAL}"}
ASK = msgspec.msgpack.encode(Ask("hi"))


async def nothing_else(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"not a call"})


@asynccontextmanager
async def desk(service: DeskService, *, most: int = 100) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a process that serves the desk, as app.py puts one together."""
    rpc = RpcServer({Desk: service}, credential=CREDENTIAL)
    serving, metrics = ServingState(most), Metrics()
    app = RequestContextMiddleware(
        LoadSheddingMiddleware(mount(nothing_else, rpc), serving, encode_failure, metrics), serving, {}, metrics
    )
    async with listening(app) as url, httpx.AsyncClient(base_url=url, verify=NO_TLS, timeout=PATIENCE) as http:
        yield http


def assert_failure(answer: httpx.Response, status: int, code: str) -> codec.Failure:
    frame = msgspec.msgpack.decode(answer.content, type=codec.Failure)
    assert (answer.status_code, frame.code) == (status, code), frame
    assert answer.headers["content-type"] == codec.MEDIA_TYPE
    return frame


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        CREDENTIAL,
        f"Basic {CREDENTIAL}",
        f"bearer {CREDENTIAL}",
        f"Bearer {CREDENTIAL}x",
        f"Bearer {CREDENTIAL[:-1]}",
        f"Bearer  {CREDENTIAL}",
        "Bearer \xff",
    ],
)
async def test_stranger(authorization: str | None) -> None:
    """Without the service credential everything is 401, and nothing runs: what there is isn't told."""
    service = DeskService(echo)
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    async with desk(service) as http:
        for method, path, content in (
            ("POST", "/rpc/desk.tell", ASK),
            ("POST", "/rpc/desk.nope", ASK),
            ("POST", "/rpc/desk.tell", b"\xc1"),
            ("POST", "/rpc/desk.tell", b"x" * (LARGEST + 1)),
            ("GET", "/rpc/", None),
        ):
            answer = await http.request(method, path, content=content, headers=headers)
            assert_failure(answer, 401, codec.UNTRUSTED_CALLER)
    assert not service.asked


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/rpc/desk.nope"),
        ("POST", "/rpc/"),
        ("POST", "/rpc/desk.tell/"),
        ("POST", "/rpc/Desk.tell"),
        ("POST", "/rpc/desk._do"),
        ("GET", "/rpc/desk.tell"),
        ("PUT", "/rpc/desk.tell"),
    ],
)
async def test_operation_unknown(method: str, path: str) -> None:
    """501: a gateway may be newer than its service."""
    service = DeskService(echo)
    async with desk(service) as http:
        answer = await http.request(method, path, content=ASK, headers=KNOWN)
        assert_failure(answer, 501, Code.NOT_IMPLEMENTED)
    assert not service.asked


async def test_beside_the_mount() -> None:
    """Other paths are the application's, with or without the credential."""
    async with desk(DeskService(echo)) as http:
        for path in ("/", "/rpc", "/rpcx/desk.tell", "/RPC/desk.tell"):
            assert (await http.post(path, content=ASK, headers=KNOWN)).text == "not a call"


async def test_answer() -> None:
    """A call's answer says which contract the service was built with."""
    async with desk(DeskService(echo)) as http:
        answer = await http.post("/rpc/desk.tell", content=ASK, headers=KNOWN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == codec.MEDIA_TYPE
    assert answer.headers[codec.CONTRACT] == codec.contract_hash(Desk)
    assert msgspec.msgpack.decode(answer.content, type=Told) == Told("hi")


async def test_stranger_with_another_contract() -> None:
    """Whoever doesn't know the service credential writes nothing into log and health."""
    rpc = RpcServer({Desk: DeskService(echo)}, credential=CREDENTIAL)
    async with listening(rpc) as url, httpx.AsyncClient(base_url=url, verify=NO_TLS, timeout=PATIENCE) as http:
        for headers, state in (({}, {}), (KNOWN, {"contract": f"other there, {codec.contract_hash(Desk)} here"})):
            await http.post("/rpc/desk.tell", content=ASK, headers={**headers, codec.CONTRACT: "other"})
            assert rpc.states()["desk"]() == state


async def test_any_bytes() -> None:
    """No body makes a service fail: it is a call, or it isn't."""
    service = DeskService(echo)
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("text"), inner, max_size=3),
    )
    bodies: list[bytes] = [b"", b"\xc1", b"\x91" * 100_000, b"\x81\xa1x" + b"\x91" * 100_000, ASK * 2]
    bodies += [b"\x81\xa4text\xa1\xff", b"\x81\xa4text" * 10_000]

    @settings(max_examples=150, derandomize=True, deadline=None)
    @given(st.binary(max_size=60) | values.map(msgspec.msgpack.encode))
    def collect(body: bytes) -> None:
        bodies.append(body)

    collect()
    async with desk(service) as http:
        for body in bodies:
            answer = await http.post("/rpc/desk.tell", content=body, headers=KNOWN)
            if answer.status_code != 200:
                assert_failure(answer, 400, Code.INVALID_REQUEST)


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_too_large(chunked: bool) -> None:
    """A body is bounded, announced or not; the largest one is still a call."""
    service = DeskService(echo)

    async def parts(size: int) -> AsyncIterator[bytes]:
        for at in range(0, size, 65536):
            yield b"x" * min(65536, size - at)

    async with desk(service) as http:
        content = parts(LARGEST + 1) if chunked else b"x" * (LARGEST + 1)
        answer = await http.post("/rpc/desk.tell", content=content, headers=KNOWN)
        assert_failure(answer, 413, Code.TOO_LARGE)
        frame = len(msgspec.msgpack.encode(Ask("x" * 70_000))) - 70_000
        longest = Ask("x" * (LARGEST - frame))
        answer = await http.post("/rpc/desk.tell", content=msgspec.msgpack.encode(longest), headers=KNOWN)
        assert answer.status_code == 200
    assert service.asked == [longest]


async def test_context() -> None:
    """The correlation id arrives in the context, and is on the answer."""
    seen: list[request_context.Context] = []

    async def look(query: Ask) -> Told:
        seen.append(request_context.current())
        return Told(query.text)

    async with desk(DeskService(look)) as http:
        headers = {**KNOWN, codec.CORRELATION_ID: "walk.1"}
        answer = await http.post("/rpc/desk.tell", content=ASK, headers=headers)
        assert answer.headers[codec.CORRELATION_ID] == "walk.1"
        await http.post("/rpc/desk.tell", content=ASK, headers=KNOWN)
    assert seen[0].correlation_id == "walk.1"
    assert seen[1].correlation_id not in ("", "walk.1")


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [("150000", 150), ("1", 0.001), (None, DEFAULT_BUDGET), ("", DEFAULT_BUDGET), ("-1", DEFAULT_BUDGET), ("1e3", 10)],
)
async def test_budget(sent: str | None, seconds: float) -> None:
    """A duration, from when the call arrived; what is none is as if there were none."""
    seen: list[float] = []

    async def look(query: Ask) -> Told:
        seen.append(request_context.remaining() or 0)
        return Told(query.text)

    async with desk(DeskService(look)) as http:
        headers = KNOWN if sent is None else {**KNOWN, codec.BUDGET: sent}
        await http.post("/rpc/desk.tell", content=ASK, headers=headers)
    assert all(seconds / 2 < left <= seconds for left in seen if seconds > 0.1)
    assert seen or seconds < 0.1


@pytest.mark.parametrize("milliseconds", [0, 100])
async def test_budget_spent(milliseconds: int) -> None:
    """504 when it ends; the work is cancelled, not left behind."""
    ended: list[str] = []

    async def stand_still(_: Ask) -> Told:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError

    async with desk(DeskService(stand_still)) as http:
        with Stopwatch() as watch:
            answer = await http.post("/rpc/desk.tell", content=ASK, headers={**KNOWN, codec.BUDGET: str(milliseconds)})
        assert_failure(answer, 504, Code.DEADLINE_EXCEEDED)
        assert watch.elapsed >= milliseconds / 1000
        assert watch.seconds < 1
    assert ended == ["cancelled"]


async def test_overload() -> None:
    """Past what the process holds, a call is refused before it runs, in words that another process understands."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(query: Ask) -> Told:
        entered.set()
        await leave.wait()
        return Told(query.text)

    service = DeskService(hold)
    async with desk(service, most=1) as http, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(http.post("/rpc/desk.tell", content=ASK, headers=KNOWN))
        await entered.wait()
        refused = assert_failure(await http.post("/rpc/desk.tell", content=ASK, headers=KNOWN), 503, Code.UNAVAILABLE)
        assert refused.shed
        assert refused.retry_after
        leave.set()
        assert (await first).status_code == 200
    assert len(service.asked) == 1
