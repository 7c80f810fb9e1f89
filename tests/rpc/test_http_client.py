"""Connections to other processes, against peers that answer in every way a peer can: over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from eventboard.core import request_context
from eventboard.rpc import http_client
from eventboard.rpc.errors import LostError, NeverReachedError
from eventboard.rpc.http_client import Answer, HttpClient, TooLargeError
from eventboard.rpc.replicas import Replica
from tests.support.black_hole import black_hole
from tests.support.processes import PATIENCE

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 4\r\n\r\ntold"


class Peer:
    """What listens: of each request the number of its connection; of each connection whether it has ended."""

    def __init__(self) -> None:
        self.url = ""
        self.asked_on: list[int] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.ended: list[asyncio.Event] = []

    @property
    def replica(self) -> Replica:
        return Replica(self.url, self.url)


Asked = Callable[[], Awaitable[None]]
Serve = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Peer]:
    """`serve` is run for each connection, with what waits for the next request on it."""
    peer, tasks = Peer(), []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(peer.ended)
        peer.ended.append(asyncio.Event())

        async def asked() -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            peer.bodies.append(await reader.readexactly(int(length or 0)))
            peer.heads.append(head)
            peer.asked_on.append(number)

        tasks.append(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await serve(asked, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            peer.ended[number].set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    peer.url = "http://127.0.0.1:{}".format(*server.sockets[0].getsockname()[1:2])
    try:
        yield peer
    finally:
        server.close()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*filter(None, tasks))


def peer(*answers: bytes | None) -> AbstractAsyncContextManager[Peer]:
    """Answers each request with the next of these, whatever its connection; None ends it."""
    left = iter(answers)

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked()
            answer = next(left)
            if answer is None:
                return
            writer.write(answer)

    return serving(serve)


def ending(answer: bytes) -> AbstractAsyncContextManager[Peer]:
    """Answers one request with this, and ends the connection."""

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asked()
        writer.write(answer)

    return serving(serve)


@asynccontextmanager
async def clienting(
    *, connect_timeout: float = PATIENCE, keep_alive: float = 30, max_answer: int = 1000
) -> AsyncIterator[HttpClient]:
    client = HttpClient(connect_timeout=connect_timeout, keep_alive=keep_alive, max_answer=max_answer)
    try:
        yield client
    finally:
        await client.close()


async def send(client: HttpClient, there: Replica, body: bytes = b"hi") -> Answer:
    async with asyncio.timeout(PATIENCE):
        return await client.send(there, "POST", "/rpc/desk.tell", {"x-one": "1"}, body)


async def assert_lost(client: HttpClient, there: Replica) -> None:
    with pytest.raises(LostError):
        await send(client, there)


async def test_what_is_sent() -> None:
    """The request has what it was given, under the name that the replica is known by, and asks for no compression."""
    async with peer(GOOD) as there, clienting() as client:
        name = Replica(there.url, "http://events:3002")
        await client.send(name, "POST", "/rpc/desk.tell", {"x-one": "1"}, b"hi")
    line, *headers = there.heads[0].decode().strip().split("\r\n")
    assert line == "POST /rpc/desk.tell HTTP/1.1"
    assert {"host: events:3002", "accept-encoding: identity", "content-length: 2", "x-one: 1"} <= {
        header.lower() for header in headers
    }
    assert not any(header.lower().startswith(("cookie", "authorization")) for header in headers)


async def test_large_body() -> None:
    """It arrives whole."""
    body = bytes(range(256)) * 6000
    async with peer(GOOD) as there, clienting() as client:
        assert (await send(client, there.replica, body)).body == b"told"
    assert there.bodies == [body]


async def test_kept() -> None:
    """One call after the other goes over one connection; names of headers have no case."""
    async with peer(GOOD, GOOD, GOOD) as there, clienting() as client:
        for _ in range(3):
            answer = await send(client, there.replica)
            assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/plain", b"told")
    assert there.asked_on == [0, 0, 0]


async def test_at_once() -> None:
    """Calls at the same time have a connection each, and their own answers."""
    numbered = [GOOD.replace(b"told", b"%04d" % number) for number in range(5)]
    async with peer(*numbered) as there, clienting() as client:
        answers = await asyncio.gather(*(send(client, there.replica) for _ in range(5)))
        assert sorted(answer.body for answer in answers) == [b"%04d" % number for number in range(5)]
    assert sorted(there.asked_on) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nto\r\n2\r\nld\r\n0\r\n\r\n", 200, b"told"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n" + GOOD, 200, b"told"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", 503, b""),
    ],
)
async def test_forms_of_an_answer(answer: bytes, status: int, body: bytes) -> None:
    """Each is understood, in one piece and byte by byte, and the connection is kept."""

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asked()
        writer.write(answer)
        await asked()
        for number in range(len(answer)):
            writer.write(answer[number : number + 1])
            await writer.drain()
            await asyncio.sleep(0)
        await asked()

    async with serving(serve) as there, clienting() as client:
        for _ in range(2):
            told = await send(client, there.replica)
            assert (told.status, told.body) == (status, body)
    assert there.asked_on == [0, 0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", id="a length that is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\na\nb: c\r\n\r\n", id="a broken header"),
    ],
)
async def test_no_answer(answer: bytes | None) -> None:
    """The call is lost, and the next one has another connection."""
    async with peer(answer, GOOD) as there, clienting() as client:
        await assert_lost(client, there.replica)
        assert (await send(client, there.replica)).body == b"told"
    assert there.asked_on == [0, 1]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", id="by its length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n" + 1001 * b"x",
            id="in chunks",
        ),
    ],
)
async def test_answer_that_is_too_large(answer: bytes) -> None:
    """It is an error of its own, for the same call would meet the same; the next call has another connection."""
    async with peer(answer, GOOD) as there, clienting() as client:
        with pytest.raises(TooLargeError):
            await send(client, there.replica)
        assert (await send(client, there.replica)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_headers_that_never_end() -> None:
    """They are no answer."""
    async with peer(b"HTTP/1.1 200 OK\r\nx-long: " + 200_000 * b"x") as there, clienting() as client:
        await assert_lost(client, there.replica)


async def test_upgrade() -> None:
    """Nobody asked for it: the connection isn't used again."""
    upgrade = b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx"
    async with peer(upgrade, GOOD) as there, clienting() as client:
        assert (await send(client, there.replica)).status == 101
        assert (await send(client, there.replica)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_part_of_an_answer() -> None:
    """What ends in the middle is none."""
    for part in range(1, len(GOOD)):
        async with ending(GOOD[:part]) as there, clienting() as client:
            await assert_lost(client, there.replica)


async def test_answer_without_a_length() -> None:
    """It could be the half of one: nothing of it is read."""
    async with ending(GOOD.replace(b"content-length: 4\r\n", b"")) as there, clienting() as client:
        assert (await send(client, there.replica)).body == b""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), id="it says so"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), id="an old peer"),
        pytest.param(GOOD + GOOD, id="two answers"),
    ],
)
async def test_not_kept(answer: bytes) -> None:
    """The answer is good, and the connection isn't used again."""
    async with peer(answer, GOOD) as there, clienting() as client:
        for _ in range(2):
            assert (await send(client, there.replica)).body == b"told"
        await there.ended[0].wait()
    assert there.asked_on == [0, 1]


async def test_answer_of_a_call_that_was_given_up() -> None:
    """It is nobody's: the next call has another connection, and its own answer."""
    received, late = asyncio.Event(), asyncio.Event()

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asked()
        if not late.is_set():
            received.set()
            await late.wait()
            writer.write(GOOD.replace(b"told", b"late"))
        else:
            writer.write(GOOD)
        await asked()

    async with serving(serve) as there, clienting() as client:
        call = asyncio.ensure_future(send(client, there.replica))
        await received.wait()
        call.cancel()
        await asyncio.wait([call])
        late.set()
        assert (await send(client, there.replica)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_peer_that_closed_meanwhile() -> None:
    """A kept connection that the peer has closed is noticed, and no call is lost on it."""
    async with ending(GOOD) as there, peer(GOOD) as other, clienting() as client:
        await send(client, there.replica)
        await there.ended[0].wait()
        await send(client, other.replica)  # the client's loop has its turn meanwhile
        assert (await send(client, there.replica)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_idle() -> None:
    """What isn't used for long is closed by this side, and not used any more."""
    async with peer(GOOD, GOOD) as there, clienting(keep_alive=0.05) as client:
        await send(client, there.replica)
        await there.ended[0].wait()
        await send(client, there.replica)
    assert there.asked_on == [0, 1]


@pytest.mark.parametrize("silent", [False, True], ids=["closed", "silent until the deadline"])
async def test_idle_connections_after_a_loss(silent: bool) -> None:
    """When one is lost, so may be the others to that replica: the next call makes a connection of its own."""
    lost, over = False, asyncio.Event()

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked()
            if lost and there.asked_on[-1] < 3:
                if silent:
                    await over.wait()
                return
            writer.write(GOOD)

    async with serving(serve) as there, clienting() as client:
        await asyncio.gather(*(send(client, there.replica) for _ in range(3)))
        lost = True
        if silent:
            with pytest.raises(TimeoutError), request_context.budget(0.1) as deadline:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await send(client, there.replica)
        else:
            await assert_lost(client, there.replica)
        for _ in range(2):
            assert (await send(client, there.replica)).body == b"told"
        assert there.asked_on[-2:] == [3, 3]
        over.set()
        for ended in there.ended[:3]:
            await ended.wait()


async def test_never_reached() -> None:
    """Nobody listens, or nobody hears: nothing was sent, and it is known in time."""
    async with peer() as there:
        url = there.url
    async with clienting(connect_timeout=0.1) as client:
        with pytest.raises(NeverReachedError):
            await send(client, Replica(url, url))
        with black_hole() as nobody, pytest.raises(NeverReachedError):
            await send(client, Replica(nobody, nobody))


async def test_peer_that_closes_at_once() -> None:
    """It is an error either way, and nobody waits."""

    async def serve(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(serve) as there, clienting() as client:
        for _ in range(20):
            with pytest.raises((NeverReachedError, LostError)):
                await send(client, there.replica)


async def test_replicas_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a replica ends some time after its last call, and its connections with it."""
    monkeypatch.setattr(http_client, "SESSION_KEPT", 0.0)
    async with peer(GOOD) as there, peer(GOOD) as other, clienting() as client:
        await send(client, there.replica)
        await send(client, other.replica)
        await there.ended[0].wait()


async def test_close() -> None:
    """Ends calls that are under way, and every connection."""
    received = asyncio.Event()

    async def serve(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asked()
        writer.write(GOOD)
        await asked()
        received.set()
        await asked()

    async with serving(serve) as there, clienting() as client:
        await send(client, there.replica)
        under_way = asyncio.ensure_future(send(client, there.replica))
        await received.wait()
        await client.close()
        with pytest.raises(LostError):
            await under_way
        for ended in there.ended:
            await ended.wait()
