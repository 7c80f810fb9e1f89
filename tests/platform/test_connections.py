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


def chunked(begin: bytes, trailers: bytes) -> bytes:
    return begin + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + trailers + b"\r\n"


def test_trailers_are_no_headers(gateway: Process) -> None:
    """What a proxy took away, or set, isn't put back at a request's end."""
    create = b"POST /events HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
    told = b"Authorization: Bearer x\r\nX-Correlation-ID: of-a-trailer\r\n"
    for begin, end in ((create + told, b""), (create, told)):
        with connected(gateway) as client:
            client.sendall(chunked(begin, end))
            answer = answer_to(client)
        assert answer.startswith(b"HTTP/1.1 401"), answer
        assert (b"x-correlation-id: of-a-trailer" in answer) == (begin != create)
        assert (b"No access token was sent" in answer) == (begin == create)


@pytest.mark.parametrize(
    "trailers",
    [b"a: b\r\n" * 1000, b"x" * 8000, b"a: " + b"x" * 8000],
    ids=["many", "a long name", "a long value"],
)
def test_trailers_too_large(gateway: Process, trailers: bytes) -> None:
    """They don't fill the memory, though nobody looks at them."""
    with connected(gateway) as client:
        client.sendall(chunked(HEAD, b"")[:-2])
        try:
            for _ in range(100):
                client.sendall(trailers)
        except OSError:
            pass
        answers = answer_to(client)
    # Refused, or reset while more was on its way; not cut when its time was up.
    assert not answers or answers.startswith(b"HTTP/1.1 431")
    assert raw.request(gateway.url, "GET", "/health/live").status_code == 200


def test_small_chunks(gateway: Process) -> None:
    """A body may come a byte at a time, each in a chunk of its own, and be far more than headers may."""
    body = b'{"email": "nia@example.com", "password": "' + b"x" * (2 * MOST) + b'"}'
    with connected(gateway) as client:
        client.sendall(HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        for start in range(0, len(chunks), 1000):
            client.sendall(chunks[start : start + 1000])
        client.sendall(b"0\r\nx-trailer: none\r\n\r\n")
        answer = answer_to(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"/password"' in answer


# ---------------------------------------------------------------------------------------------------------------------
# One after another, before the first is answered

LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"
TO_NOBODY = HEAD.replace(b"/auth/login", b"/nope") + b"Content-Length: 2\r\n\r\n{}"


def statuses(answers: bytes) -> list[int]:
    return [int(line[:3]) for line in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no request"),
        pytest.param(b"\x00\x01", id="not even a letter"),
        pytest.param(HEAD + b"Content-Length: x\r\n\r\n", id="no length"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", id="a broken body"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 3])
def test_broken_after_good(gateway: Process, last: bytes, before: int) -> None:
    """What came first is answered first; then the client is told what is wrong."""
    with connected(gateway) as client:
        client.sendall(TO_NOBODY * before + last)
        answers = answer_to(client)
    assert statuses(answers) == [404] * before + [400]
    assert answers.endswith(b"\r\n\r\nThis is no HTTP request.")


def test_too_many_waiting(gateway: Process) -> None:
    """However many one client sends at once: those that wait are bounded, and answered in order."""
    with connected(gateway) as client:
        client.sendall(TO_NOBODY * 2 + LIVE * 1000)
        answers = answer_to(client)
    found = statuses(answers)
    assert found[:2] == [404, 404]
    assert found[-1] == 429
    assert set(found[2:-1]) == {200}
    assert len(found) < 300
    assert answers.endswith(b"\r\n\r\nToo many requests wait for the answers to those before them.")


def test_many_on_one_connection(gateway: Process) -> None:
    """As many as there may be wait for each other's answers, again and again."""
    with connected(gateway) as client:
        for _ in range(20):
            client.sendall(LIVE * 50)
            answers = b""
            while answers.count(b"HTTP/1.1 200") < 50 or not answers.endswith(b"}"):
                answers += client.recv(65536)


# ---------------------------------------------------------------------------------------------------------------------
# Offers of another protocol

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
CREDENTIALS = b'{"email": "nobody", "password": "x"}'


@pytest.mark.parametrize("pieces", [1, 2, 50])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("offer", [UPGRADE, UPGRADE.replace(b"h2c", b"websocket"), b""], ids=["h2c", "websocket", "-"])
def test_offer_of_another_protocol(gateway: Process, offer: bytes, framing: str, pieces: int) -> None:
    """It isn't taken, as a client has to expect: its request is served like any other, and so are those after it."""
    framed = b"Content-Length: %d\r\n\r\n" % len(CREDENTIALS) + CREDENTIALS
    if framing == "chunks":
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(CREDENTIALS) + CREDENTIALS + b"\r\n0\r\n\r\n"
    sent = (HEAD + offer + framed) * 2 + LIVE.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n") * 2
    sent += b"GET /nope HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    size = -(-len(sent) // pieces)
    with connected(gateway) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size):
            client.sendall(sent[start : start + size])
        answers = answer_to(client)
    assert statuses(answers) == [400, 400, 200, 200, 404]
    assert answers.count(b'"pointer":"/email"') == 2
    assert b"upgrade" not in answers.lower()


def test_no_request_inside_of_a_body(gateway: Process) -> None:
    """However it is offered: a body is a body, and what it holds is asked by nobody."""
    inside = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"
    with connected(gateway) as client:
        client.sendall(HEAD + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(inside))
        client.sendall(inside + b"GET /nope HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert statuses(answer_to(client)) == [400, 404]


def test_tunnel(gateway: Process) -> None:
    """Nobody builds one here; what would go through it is for somebody else."""
    with connected(gateway) as client:
        client.sendall(b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n" + LIVE)
        (status,) = statuses(answer_to(client))
    assert 400 <= status < 500


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
