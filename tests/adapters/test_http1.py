"""Connections to other processes, against peers that answer in every way a peer can: over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from eventboard.adapters.http1 import Answer, Client, EndedError, NeverMadeError
from tests.support.black_hole import black_hole
from tests.support.processes import PATIENCE

REQUEST = b"POST /rpc/desk.tell HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 4\r\n\r\ntold"


class Peer:
    """What listens: of each request the number of its connection; of each connection whether it has ended."""

    def __init__(self) -> None:
        self.url = ""
        self.asked_on: list[int] = []
        self.ended: list[asyncio.Event] = []


Serve = Callable[[Callable[[], Awaitable[None]], asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Peer]:
    """`serve` is run for each connection, with what waits for the next request on it."""
    peer, tasks = Peer(), []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(peer.ended)
        peer.ended.append(asyncio.Event())

        async def asked() -> None:
            assert await reader.readexactly(len(REQUEST)) == REQUEST
            peer.asked_on.append(number)

        tasks.append(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await serve(asked, writer)
        finally:
            peer.ended[number].set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

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

    async def serve(asked: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
        while True:
            await asked()
            answer = next(left)
            if answer is None:
                return
            writer.write(answer)

    return serving(serve)


def ending(answer: bytes) -> AbstractAsyncContextManager[Peer]:
    """Answers one request with this, and ends the connection."""

    async def serve(asked: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
        await asked()
        writer.write(answer)

    return serving(serve)


@asynccontextmanager
async def clienting(*, connect_timeout: float = 1, idle: float = 30, most: int = 1000) -> AsyncIterator[Client]:
    client = Client(connect_timeout=connect_timeout, idle=idle, most=most)
    try:
        yield client
    finally:
        await client.close()


async def refused(sent: Awaitable[Answer]) -> str:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(EndedError) as error:
            await sent
    return str(error.value)


async def test_kept() -> None:
    """One call after the other goes over one connection; names of headers have no case."""
    async with peer(GOOD, GOOD, GOOD) as there, clienting() as client:
        for _ in range(3):
            answer = await client.send(there.url, REQUEST)
            assert (answer.status, answer.header("content-type"), answer.body) == (200, "text/plain", b"told")
            assert answer.header("x-nothing") is None
    assert there.asked_on == [0, 0, 0]


async def test_at_once() -> None:
    """Calls at the same time have a connection each, and their own answers."""
    numbered = [GOOD.replace(b"told", b"%04d" % number) for number in range(5)]
    async with peer(*numbered) as there, clienting() as client:
        answers = await asyncio.gather(*(client.send(there.url, REQUEST) for _ in range(5)))
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

    async def serve(asked: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
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
            told = await client.send(there.url, REQUEST)
            assert (told.status, told.body) == (status, body)
    assert there.asked_on == [0, 0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", id="a length that is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\na\nb: c\r\n\r\n", id="a broken header"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx", id="an upgrade"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + 1000 * b"x", id="a body that is too large"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx-long: " + 1000 * b"x", id="headers that never end"),
    ],
)
async def test_no_answer(answer: bytes | None) -> None:
    """It is told as a connection that ended, and the next call has another."""
    async with peer(answer, GOOD) as there, clienting() as client:
        await refused(client.send(there.url, REQUEST))
        assert (await client.send(there.url, REQUEST)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_part_of_an_answer() -> None:
    """What ends in the middle is none; nor is one without a length, which could be the half of one."""
    for answer in (*(GOOD[:part] for part in range(1, len(GOOD))), GOOD.replace(b"content-length: 4\r\n", b"")):
        async with ending(answer) as there, clienting() as client:
            await refused(client.send(there.url, REQUEST))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(GOOD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), id="it says so"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), id="an old peer"),
        pytest.param(GOOD + b"HTTP/1.1 200 OK\r\n", id="it says more"),
        pytest.param(GOOD + GOOD, id="two answers"),
    ],
)
async def test_not_kept(answer: bytes) -> None:
    """The answer is good, and the connection isn't used again."""
    async with peer(answer, GOOD) as there, clienting() as client:
        for _ in range(2):
            assert (await client.send(there.url, REQUEST)).body == b"told"
        await there.ended[0].wait()
    assert there.asked_on == [0, 1]


async def test_answer_of_a_call_that_was_given_up() -> None:
    """It is nobody's: the next call has another connection, and its own answer."""
    late = asyncio.Event()

    async def serve(asked: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
        await asked()
        if not late.is_set():
            await late.wait()
            writer.write(GOOD.replace(b"told", b"late"))
        else:
            writer.write(GOOD)
        await asked()

    async with serving(serve) as there, clienting() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.send(there.url, REQUEST)
        late.set()
        assert (await client.send(there.url, REQUEST)).body == b"told"
    assert there.asked_on == [0, 1]


async def test_peer_that_closed_meanwhile() -> None:
    """A kept connection that the peer has closed is noticed, and no call is lost on it."""
    async with peer(GOOD + b"?", GOOD) as there, clienting() as client:
        await client.send(there.url, REQUEST)
        await there.ended[0].wait()
        assert (await client.send(there.url, REQUEST)).body == b"told"


async def test_idle() -> None:
    """What isn't used for long is closed by this side, and not used any more."""
    async with peer(GOOD, GOOD) as there, clienting(idle=0.05) as client:
        await client.send(there.url, REQUEST)
        await there.ended[0].wait()
        await client.send(there.url, REQUEST)
    assert there.asked_on == [0, 1]


async def test_never_made() -> None:
    """Nobody listens, or nobody hears: nothing was sent, and it is known in time."""
    async with peer() as there, clienting(connect_timeout=0.1) as client:
        url = there.url
    async with clienting(connect_timeout=0.1) as client:
        with pytest.raises(NeverMadeError):
            await client.send(url, REQUEST)
        with black_hole() as nobody, pytest.raises(NeverMadeError):
            async with asyncio.timeout(PATIENCE):
                await client.send(nobody, REQUEST)


async def test_peer_that_closes_at_once() -> None:
    """It is told in one way or the other, and nobody waits."""

    async def serve(_: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(serve) as there, clienting() as client:
        for _ in range(20):
            with pytest.raises((NeverMadeError, EndedError)):
                async with asyncio.timeout(PATIENCE):
                    await client.send(there.url, REQUEST)


async def test_close() -> None:
    """Ends calls that are under way, and every connection."""
    received = asyncio.Event()

    async def serve(asked: Callable[[], Awaitable[None]], writer: asyncio.StreamWriter) -> None:
        await asked()
        writer.write(GOOD)
        await asked()
        received.set()
        await asked()

    async with serving(serve) as there, clienting() as client:
        await client.send(there.url, REQUEST)
        under_way = asyncio.ensure_future(client.send(there.url, REQUEST))
        await received.wait()
        await client.close()
        await refused(under_way)
        for ended in there.ended:
            await ended.wait()
