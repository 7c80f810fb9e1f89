"""Clients that send too much, or too slowly, or don't take what they asked for: over real sockets, byte by byte."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support import raw
from tests.support.processes import PATIENCE, Process, address_of, spawned
from tests.support.shapes import CREDENTIAL

# Seconds that a client may take here, and bytes of headers.
CLIENT_TIMEOUT, MOST = 0.6, 8192
# Seconds between two bytes of a slow client: idle it is never.
PAUSE = 0.02

HEAD = b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Process]:
    """Alone: what is asked of it here needs no module, and no database."""
    nobody = {"PEERS_AUTH": "http://127.0.0.1:1", "PEERS_EVENTS": "http://127.0.0.1:1", "RPC_CREDENTIAL": CREDENTIAL}
    bounds = {"SERVER_CLIENT_TIMEOUT": str(CLIENT_TIMEOUT), "SERVER_MAX_HEADERS": str(MOST), "RETRIES_RETRIES": "0"}
    with spawned("serve", "--target", "gateway", SERVER_PORT="0", **nobody, **bounds) as process:
        process.url = address_of(process)
        yield process


@contextmanager
def connected(process: Process, *, window: int | None = None) -> Iterator[socket.socket]:
    """`window` is how many bytes the client's kernel takes for it."""
    where = urlsplit(process.url)
    with socket.socket() as client:
        if window is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.settimeout(PATIENCE)
        client.connect((where.hostname or "", where.port or 0))
        yield client


def answer_to(client: socket.socket) -> bytes:
    """All there is until the server closes the connection."""
    pieces = []
    try:
        while piece := client.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def dribble(client: socket.socket, begun: bytes, byte: bytes) -> tuple[bytes, float]:
    """Sends a byte at a time until the server has had enough; the answer, and the seconds that it took."""
    client.sendall(begun)
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        if select.select([client], [], [], PAUSE)[0]:
            return answer_to(client), time.monotonic() - start
        try:
            client.sendall(byte)
        except OSError:
            return answer_to(client), time.monotonic() - start
    raise AssertionError("it was never cut")


# ---------------------------------------------------------------------------------------------------------------------
# Too much


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(lambda size: (f"/{'x' * size}", ()), id="a long path"),
        pytest.param(lambda size: ("/health/live", (f"X-Long: {'x' * size}",)), id="one long header"),
        pytest.param(lambda size: ("/health/live", tuple(f"X-{n}: x" for n in range(size // 5))), id="many headers"),
        pytest.param(lambda size: ("/health/live", (f"X-{'x' * size}: x",)), id="a long name"),
    ],
)
def test_headers_too_large(gateway: Process, head: Callable[[int], tuple[str, tuple[str, ...]]]) -> None:
    """They are refused before anything looks at them; a little below the limit they are not."""
    target, headers = head(MOST)
    answer = raw.request(gateway.url, "GET", target, headers=headers)
    assert (answer.status_code, answer.headers["connection"]) == (431, "close")
    assert answer.text == "The request's line and headers are too large."
    target, headers = head(MOST // 2)
    assert raw.request(gateway.url, "GET", target, headers=headers).status_code in (200, 404)


def test_headers_without_end(gateway: Process) -> None:
    """Nobody waits for the end of a header that is too large already."""
    with connected(gateway) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        try:
            for _ in range(100):
                client.sendall(b"x" * MOST)
        except OSError:
            pass
        assert b" 200 " not in answer_to(client)
    assert raw.request(gateway.url, "GET", "/health/live").status_code == 200


def test_headers_too_large_in_the_second_request(gateway: Process) -> None:
    """What comes first is answered; the limit holds for each request by itself."""
    with connected(gateway) as client:
        small = b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Some: " + b"x" * (MOST // 2) + b"\r\n\r\n"
        client.sendall(small * 4)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 4:
            answers += client.recv(65536)
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Long: " + b"x" * MOST + b"\r\n\r\n")
        assert b"HTTP/1.1 431" in answer_to(client)


def test_large_body_after_small_headers(gateway: Process) -> None:
    """A body isn't counted with the headers, whichever way it comes."""
    with connected(gateway) as client:
        body = b'{"email": "nia@example.com", "password": "' + b"x" * (4 * MOST) + b'"}'
        head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.sendall(head + body)
        assert b"HTTP/1.1 400" in answer_to(client)


# ---------------------------------------------------------------------------------------------------------------------
# Too slowly


@pytest.mark.parametrize(
    ("begun", "byte"),
    [
        pytest.param(b"GET /", b"x", id="in the request line"),
        pytest.param(b"GET /health/live HTTP/1.1\r\nX-Slow: ", b"x", id="in a header"),
        pytest.param(b"\r\n", b"\r\n", id="before a request"),
        pytest.param(HEAD + b"Content-Length: 100000\r\n\r\n{", b" ", id="in the body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunk by chunk"),
    ],
)
def test_slow_request(gateway: Process, begun: bytes, byte: bytes) -> None:
    """However often a byte comes: a request that isn't whole in time is cut."""
    with connected(gateway) as client:
        answer, seconds = dribble(client, begun, byte)
    assert not answer or b"HTTP/1.1 408" in answer
    assert CLIENT_TIMEOUT * 0.9 < seconds < PATIENCE


def test_silent_request(gateway: Process) -> None:
    """The other half never comes: it is told so."""
    with connected(gateway) as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = answer_to(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert answer.endswith(b"\r\n\r\nThe request took too long to come.")


def test_slow_second_request(gateway: Process) -> None:
    """A connection that was good once has no more time than any other."""
    with connected(gateway) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"HTTP/1.1 200" in client.recv(65536)
        answer, _ = dribble(client, b"GET /", b"x")
    assert not answer or b"HTTP/1.1 408" in answer


def test_request_that_takes_its_time_and_comes(gateway: Process) -> None:
    """In two pieces, within its time, it is served like any other."""
    with connected(gateway) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: te")
        assert not select.select([client], [], [], CLIENT_TIMEOUT / 3)[0]
        client.sendall(b"st\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in answer_to(client)


# ---------------------------------------------------------------------------------------------------------------------
# Answers that nobody takes


def until_reset(client: socket.socket) -> None:
    """The server throws the connection away, with what it holds of the answer."""
    poll = select.poll()
    poll.register(client, select.POLLERR | select.POLLHUP)
    assert poll.poll(PATIENCE * 1000), "it was never cut"


def bundle(gateway: Process) -> bytes:
    """Asks for the largest file there is, as it is."""
    page = raw.request(gateway.url, "GET", "/schema/scalar").text
    path = next(part for part in page.split('"') if part.endswith("scalar/standalone.js"))
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_answer_that_is_not_taken(gateway: Process, more: bytes) -> None:
    """It isn't kept for ever for somebody who doesn't read, whether the connection would stay or not."""
    request = bundle(gateway).replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n")
    with connected(gateway, window=4096) as client:
        client.sendall(request)
        until_reset(client)
    assert raw.request(gateway.url, "GET", "/health/live").status_code == 200


def test_answer_that_is_taken_slowly(gateway: Process) -> None:
    """Who goes on taking it gets it whole, however long that takes."""
    with connected(gateway, window=65536) as client:
        client.sendall(bundle(gateway))
        begun, taken = time.monotonic(), 0
        head = client.recv(4096)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        taken = len(head.partition(b"\r\n\r\n")[2])
        while taken < length:
            piece = client.recv(65536)
            assert piece, f"it was cut after {taken} bytes of {length}"
            taken += len(piece)
            select.select([], [], [], 2.5 * CLIENT_TIMEOUT * len(piece) / length)  # so slow is this client
        assert time.monotonic() - begun > 2 * CLIENT_TIMEOUT
