"""Requests that can be read in two ways, and what comes beside a request: over real sockets, byte by byte."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.processes import PATIENCE, Process, address_of, spawned
from tests.support.shapes import CREDENTIAL

HEAD = b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"
LAST = b"GET /nope HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
CREDENTIALS = b'{"email": "nobody", "password": "x"}'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Process]:
    """Alone: what is asked of it here needs no module, and no database."""
    nobody = {"PEERS_AUTH": "http://127.0.0.1:1", "PEERS_EVENTS": "http://127.0.0.1:1", "RPC_CREDENTIAL": CREDENTIAL}
    others = {"RETRIES_RETRIES": "0", "SERVER_MAX_ANONYMOUS_BODY": "1048576", "SERVER_TRUSTED_PROXIES": "127.0.0.1"}
    with spawned("serve", "--target", "gateway", SERVER_PORT="0", **nobody, **others) as process:
        process.url = address_of(process)
        yield process


@contextmanager
def connected(process: Process) -> Iterator[socket.socket]:
    where = urlsplit(process.url)
    with socket.create_connection((where.hostname or "", where.port or 0), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def asked(process: Process, *pieces: bytes) -> bytes:
    """All there is until the server closes the connection."""
    with connected(process) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
        except OSError:
            pass  # it has heard enough
        return answer_to(client)


def statuses(answers: bytes) -> list[int]:
    return [int(line[:3]) for line in answers.split(b"HTTP/1.1 ")[1:]]


def test_one_host(gateway: Process) -> None:
    """RFC 9112, section 3.2; HTTP/1.0 needn't have one."""
    for hosts in (b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nhost: a\r\n"):
        answer = asked(gateway, b"GET /health/live HTTP/1.1\r\n" + hosts + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"\r\nconnection: close\r\n" in answer
        assert b'"code":"invalid-request"' in answer
    assert asked(gateway, b"GET /health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert asked(gateway, b"GET /health/live HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    one = b"GET /health/live HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"
    assert asked(gateway, one).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 36\r\n" + CHUNKED, 400),
        (CHUNKED.replace(b"chunked", b"gzip, chunked"), 501),
        (CHUNKED.replace(b"chunked", b"chunked, gzip"), 400),
        (CHUNKED.replace(b"chunked", b"chunked, chunked"), 400),
        (CHUNKED.replace(b"chunked", b"identity"), 400),
        (CHUNKED.replace(b"chunked", b"xchunked"), 400),
        (b"Transfer-Encoding: chunked\r\n" + CHUNKED, 400),
        (b"Content-Length: 36\r\nContent-Length: 36\r\n\r\n", 400),
        (b"Content-Length: 36, 36\r\n\r\n", 400),
        (b"Content-Length: +36\r\n\r\n", 400),
    ],
)
def test_where_a_body_ends(gateway: Process, framing: bytes, status: int) -> None:
    """Two who read it differently, a proxy and this process, would find different requests in it."""
    chunks = b"%x\r\n" % len(CREDENTIALS) + CREDENTIALS + b"\r\n0\r\n\r\n"
    answer = asked(gateway, HEAD + framing, chunks + LAST)
    assert statuses(answer) == [status]


def test_chunks_before_they_were_invented(gateway: Process) -> None:
    """HTTP/1.0 has none: who passes them on may have read the body in another way."""
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert asked(gateway, head + CHUNKED, b"0\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Forwarded-Proto", b"Authorization"])
def test_trailers_are_no_headers(gateway: Process, name: bytes, pieces: int) -> None:
    """What a proxy has set can't be set once more at a request's end."""
    head = b"POST /events HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
    body = (CHUNKED, b"2\r\n{}\r\n0\r\n" + name + b": 198.51.100.7\r\n\r\n")
    begun = head + name + b": 203.0.113.9\r\n"
    sent = (begun + body[0], body[1]) if pieces == 2 else (begun + body[0] + body[1],)
    # The head that has come alone is read before the trailers are here.
    assert statuses(asked(gateway, *sent)) in ([[400]] if pieces == 1 else [[400], [401]])
    assert statuses(asked(gateway, begun + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")) == [401]


def test_body_in_small_chunks(gateway: Process) -> None:
    """A byte at a time, each in a chunk of its own."""
    body = b'{"email": "nia@example.com", "password": "' + b"x" * 9000 + b'"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    pieces = [chunks[start : start + 1000] for start in range(0, len(chunks), 1000)]
    answer = asked(gateway, HEAD + b"Connection: close\r\n" + CHUNKED, *pieces, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"/password"' in answer


def test_many_on_one_connection(gateway: Process) -> None:
    """Sent before the first is answered, again and again."""
    with connected(gateway) as client:
        for _ in range(20):
            client.sendall(LIVE * 50)
            answers = b""
            while answers.count(b"HTTP/1.1 200") < 50 or not answers.endswith(b"}"):
                answers += client.recv(65536)


OFFERS = pytest.mark.parametrize("offer", [OFFER, OFFER.replace(b"h2c", b"websocket")], ids=["h2c", "websocket"])


@OFFERS
def test_offer_of_another_protocol(gateway: Process, offer: bytes) -> None:
    """RFC 9110, section 7.8: it is ignored, and the connection goes on."""
    offering = LIVE.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n")
    answer = asked(gateway, offering, offering + LAST)
    assert statuses(answer) == [200, 200, 404]
    assert b"upgrade" not in answer.lower()


@OFFERS
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_offer_with_a_body(gateway: Process, offer: bytes, *, chunked: bool) -> None:
    """As Java's HttpClient and curl make it. The body is the request's, however it comes, and so is what it holds."""
    inside = b'{"email": "nobody", "password": "%s"}' % (LIVE * 2).replace(b"\r\n", b"")
    framed = (
        CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (inside[:9], inside[9:])) + b"0\r\n\r\n"
        if chunked
        else b"Content-Length: %d\r\n\r\n" % len(inside) + inside
    )
    head, end, body = (HEAD + offer + framed).partition(b"\r\n\r\n")
    for pieces in (
        [head + end + body],
        [head + end, body],
        [head[:20], head[20:200], head[200:] + end + body[:5], body[5:40], body[40:]],
    ):
        with connected(gateway) as client:
            for piece in pieces:
                client.sendall(piece)
            first = client.recv(65536)
            client.sendall(head + end + body + LAST)
            answers = first + answer_to(client)
        assert statuses(answers) == [400, 400, 404]
        assert answers.count(b'"pointer":"/email"') == 2


def test_large_body_with_an_offer(gateway: Process) -> None:
    """It comes in many pieces."""
    body = b'{"email": "nobody", "password": "%s"}' % (b"x" * 500_000)
    head = HEAD + OFFER + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = asked(gateway, head, body)
    assert statuses(answer) == [400]
    assert b'"pointer":"/email"' in answer
    assert b'"pointer":"/password"' in answer


def test_offer_that_a_proxy_took_back(gateway: Process) -> None:
    """Without `Connection: Upgrade` it is none."""
    framed = b"Upgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(CREDENTIALS) + CREDENTIALS
    answers = asked(gateway, HEAD + framed + LAST)
    assert statuses(answers) == [400, 404]
    assert b'"pointer":"/email"' in answers


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_late_offer(gateway: Process, pieces: int, *, chunked: bool) -> None:
    """The parser that has the connection since its first request takes an offer's body for the other protocol's, and a
    request in it for the next one. So none is served."""
    inside = LIVE * 2
    framing = CHUNKED if chunked else b"Content-Length: %d\r\n\r\n" % len(inside)
    head = HEAD + OFFER + framing
    answers = asked(gateway, LIVE, *((head, inside + LAST) if pieces == 2 else (head + inside + LAST,)))
    assert statuses(answers) == [200, 400]
    assert b'"code":"invalid-request"' in answers


@pytest.mark.parametrize("beginning", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PING\r\n", b"\x16\x03\x01"])
def test_other_protocol(gateway: Process, beginning: bytes) -> None:
    """Whoever begins with another one, without an offer, is answered at once."""
    assert statuses(asked(gateway, beginning)) == [400]


def test_head_in_small_pieces(gateway: Process) -> None:
    """It is read to its end, byte by byte."""
    assert statuses(asked(gateway, *(LAST[index : index + 1] for index in range(len(LAST))))) == [404]
    long = LIVE.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x" * 40_000 + b"\r\nConnection: close\r\n\r\n")
    assert statuses(asked(gateway, long[:20_000], long[20_000:36_000], long[36_000:])) == [200]


def test_tunnel(gateway: Process) -> None:
    """Nobody builds one here; what would go through it is for somebody else."""
    (status,) = statuses(asked(gateway, b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n" + LIVE))
    assert 400 <= status < 500


@pytest.mark.parametrize("junk", [b"GARBAGE\r\n\r\n", b"\x00\x01", HEAD + b"Content-Length: x\r\n\r\n"])
def test_no_request(gateway: Process, junk: bytes) -> None:
    """It is answered, and the connection ends."""
    assert statuses(asked(gateway, junk)) == [400]
