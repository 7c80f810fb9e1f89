"""Each stage of a request has a bound of its own, on uvicorn as it comes: nothing here needs a server of ours."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec.structs import replace

from eventboard import settings as configuration
from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.observability.metrics import Metrics
from eventboard.web.error_responses import encode_problem
from eventboard.web.load_shedding import request_limits
from eventboard.web.serving_state import ServingState
from tests.support.processes import PATIENCE
from tests.support.rpc import listening

SETTINGS = replace(
    configuration.load({}).server,
    max_requests=2,
    max_incoming=20,
    max_outgoing=20,
    max_outgoing_bytes=40_000_000,
    # Long enough for a body that comes whole, whoever else is busy here.
    body_timeout=2.0,
    max_body=200_000,
)
HALF = b"POST / HTTP/1.1\r\nHost: test\r\nAuthorization: x\r\nContent-Length: 60\r\n\r\n{"
# More than a kernel takes for a client that reads nothing.
LARGE = b"x" * 8_000_000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The body that came, in as many pieces as it came in; `/large` is a large one."""
    messages = [await receive()] if scope["method"] == "POST" else []
    while messages and messages[-1].get("more_body", False):
        messages.append(await receive())
    body = LARGE if scope["path"] == "/large" else b"%d:" % len(messages) + b"".join(_body(each) for each in messages)
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def _body(message: Message) -> bytes:
    assert message["type"] == "http.request"
    body: bytes = message["body"]
    return body


@asynccontextmanager
async def served(app: App = echo) -> AsyncIterator[httpx.AsyncClient]:
    limits = request_limits(SETTINGS, ServingState(SETTINGS.max_requests), encode_problem, Metrics())
    limited = app
    for middleware in reversed(limits):
        limited = middleware(limited)
    async with listening(limited) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        yield http


@contextmanager
def held(http: httpx.AsyncClient, data: bytes, count: int) -> Iterator[list[socket.socket]]:
    where = urlsplit(str(http.base_url))
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(count)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((where.hostname, where.port))
            client.sendall(data)
        yield clients


async def test_bodies() -> None:
    """However it comes, the application gets it whole and at once."""

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 1000):
            yield b"x" * 1000

    async with served() as http:
        known = {"authorization": "x"}
        assert (await http.post("/", content=b"")).content == b"1:"
        assert (await http.post("/", content=b"hi")).content == b"1:hi"
        assert (await http.post("/", content=b"x" * 200_000, headers=known)).content == b"1:" + b"x" * 200_000
        assert (await http.post("/", content=pieces(200_000), headers=known)).content == b"1:" + b"x" * 200_000
        for content in (b"x" * 200_001, pieces(201_000)):
            assert (await http.post("/", content=content, headers=known)).status_code == 413
        for path in ("/", "/large"):
            assert (await http.head(path)).content == b""
        assert (await http.get("/large")).content == LARGE


async def test_half_sent() -> None:
    """None takes a place, more than may arrive make room, and in time all of them are gone."""
    loop = asyncio.get_running_loop()
    async with served() as http:
        with held(http, HALF, 30) as clients:
            for _ in range(3):
                assert (await http.post("/", content=b"hi")).content == b"1:hi"
            statuses = []
            for client in clients:
                client.setblocking(False)
                statuses.append((await loop.sock_recv(client, 65536)).split(b" ")[1])
                assert await loop.sock_recv(client, 65536) == b""
        assert set(statuses[:10]) == {b"503"}
        assert statuses[-1] == b"408"


async def test_unread() -> None:
    """None keeps its place, and those too many are cut off; who reads gets all of it."""
    get = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"
    async with served() as http:
        with held(http, get, 15) as clients:
            assert (await http.get("/large")).content == LARGE
            for client in clients:
                client.setblocking(False)
            taken = await asyncio.gather(*(_taken(client, len(LARGE)) for client in clients))
        whole = [size > len(LARGE) for size in taken]
        assert any(whole)
        assert whole.count(False) >= 5


async def _taken(client: socket.socket, least: int) -> int:
    """Bytes until the answer is whole, or the connection ends."""
    loop, size = asyncio.get_running_loop(), 0
    while size <= least and (piece := await loop.sock_recv(client, 65536)):
        size += len(piece)
    return size


RAISING = """
import resource, sys
from eventboard.web.descriptors import raise_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
raise_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "warned"), [(200, True), (4096, False)])
def test_descriptors(hard: int, warned: bool) -> None:
    """As many as there may be; where that is little, somebody hears of it."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine has fewer")
    command = [sys.executable, "-c", RAISING, str(hard)]
    told = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert told.stdout == f"{hard}\n"
    assert ("this process may have no more than 200 files and connections open" in told.stderr) == warned
