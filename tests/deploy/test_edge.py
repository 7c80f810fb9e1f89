"""The edge of compose.yaml, in front of a gateway: HAProxy itself, with the configuration of the repository."""

import re
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support import edge as edges
from tests.support import raw
from tests.support.board import PASSWORD, Board
from tests.support.edge import Edge, place, until
from tests.support.problems import assert_problem
from tests.support.processes import PATIENCE, Process, logged_so_far, serving

# Seconds for a request to arrive, and for a client to go on; connections of one address.
REQUEST_TIMEOUT, CLIENT_TIMEOUT, CONNECTIONS = 0.6, 1.0, 20
# Seconds after which a client is cut off late, on any machine.
AT_LAST = 30.0

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy is installed")


@contextmanager
def edge(*gateways: str, **environment: str) -> Iterator[Edge]:
    """With limits so low that a test reaches them."""
    limits = {
        "EDGE_REQUEST_TIMEOUT": f"{REQUEST_TIMEOUT * 1000:.0f}ms",
        "EDGE_CLIENT_TIMEOUT": f"{CLIENT_TIMEOUT * 1000:.0f}ms",
        "EDGE_CONNECTIONS_BY_ADDRESS": str(CONNECTIONS),
    }
    with edges.edge(*gateways, **{**limits, **environment}) as running:
        yield running


@pytest.fixture(scope="module")
def database(cluster_url: str) -> Iterator[str]:
    with clusters.database(cluster_url) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    limits = {"SERVER_TRUSTED_PROXIES": "127.0.0.1", "LIMITS_LOGIN_BY_ADDRESS": "3", "LIMITS_NETWORK_FACTOR": "0"}
    limits["SERVER_BODY_TIMEOUT"] = str(CLIENT_TIMEOUT)
    with serving(database, tmp_path_factory.mktemp("gateway"), **limits) as process:
        yield process


@pytest.fixture(scope="module")
def in_front(gateway: Process) -> Iterator[Edge]:
    with edge(place(gateway)) as running:
        yield running


@pytest.fixture
def url(in_front: Edge) -> str:
    return in_front.url


def connected(url: str, *, window: int | None = None) -> socket.socket:
    """`window` is how many bytes the client's kernel takes for it."""
    where = urlsplit(url)
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(PATIENCE)
    try:
        client.connect((where.hostname or "", where.port or 0))
    except OSError:
        client.close()
        raise
    return client


def answer_on(client: socket.socket) -> bytes:
    """All there is until the edge closes the connection."""
    pieces = []
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def sent_by(begun: bytes, byte: bytes, url: str) -> tuple[bytes, float]:
    """A client that sends a byte now and then: what it gets until it is cut off, and the seconds until then."""
    with connected(url) as client:
        start = time.monotonic()
        client.sendall(begun)
        while not select.select([client], [], [], 0.05)[0]:
            assert time.monotonic() - start < AT_LAST, "it was never cut off"
            if byte:
                with suppress(OSError):
                    client.sendall(byte)
        answer = answer_on(client)
        return answer, time.monotonic() - start


HEAD = b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("begun", "byte"),
    [
        pytest.param(b"", b"", id="nothing at all"),
        pytest.param(b"GET /", b"x", id="in the request line"),
        pytest.param(b"GET /health/live HTTP/1.1\r\nX-Slow: ", b"x", id="in a header"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n{", b" ", id="in the body"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n{", b"", id="half of a body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunk by chunk"),
    ],
)
def test_slow_request(gateway: Process, url: str, begun: bytes, byte: bytes) -> None:
    """It is cut off in time, and no gateway has heard of it."""
    before = logged_so_far(gateway).count("POST /auth/login")
    answer, seconds = sent_by(begun, byte, url)
    assert not answer or answer.startswith(b"HTTP/1.1 408 ")
    assert REQUEST_TIMEOUT * 0.9 < seconds < AT_LAST
    assert logged_so_far(gateway).count("POST /auth/login") == before


def test_large_body_that_stops(url: str) -> None:
    """More than the edge holds: it is the gateway's, and the client's next byte is waited for no longer."""
    answer, seconds = sent_by(HEAD + b"Content-Length: 900000\r\nAuthorization: x\r\n\r\n" + b" " * 100_000, b"", url)
    assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 413 "))
    assert seconds < AT_LAST


@pytest.mark.parametrize(
    "headers", [(f"X-Long: {'x' * 32_000}",), tuple(f"X-{n}: x" for n in range(150))], ids=["long", "many"]
)
def test_headers_too_large(url: str, headers: tuple[str, ...]) -> None:
    """They are rejected there; a little below the limit they aren't."""
    answer = raw.request(url, "GET", "/health/live", headers=headers)
    assert (answer.status_code, answer.headers["connection"]) == (400, "close")
    few = tuple(header[:24_000] for header in headers[:80])
    assert raw.request(url, "GET", "/health/live", headers=few).status_code == 200


def test_too_many_connections_of_one_address(in_front: Edge, url: str) -> None:
    """All that an address may have are served, and one more is closed; which one, the edge's threads decide."""

    def all_but_one() -> bool:
        clients, answers = [], []
        with ExitStack() as stack:
            for _ in range(CONNECTIONS + 1):
                # One that is closed at once may be reset while it is being made.
                with suppress(ConnectionResetError):
                    clients.append(stack.enter_context(connected(url)))
            for client in clients:
                with suppress(ConnectionError):
                    client.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
                    answers.append(client.recv(12))
        return answers.count(b"HTTP/1.1 200") == CONNECTIONS

    # The edge still counts connections of the tests before this one until it has seen their end.
    until(in_front, all_but_one)


def test_answer_that_is_not_read(in_front: Edge) -> None:
    """It isn't kept for somebody who reads nothing of it."""
    page = raw.request(in_front.url, "GET", "/schema/scalar").text
    path = next(part for part in page.split('"') if part.endswith("scalar/standalone.js"))
    with connected(in_front.url, window=4096) as client:
        # How HAProxy logs that a client's time was up while data was sent.
        before = in_front.output.count(" cD")
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        until(in_front, lambda: in_front.output.count(" cD") > before)
        assert 0 < len(answer_on(client)) < 4_000_000
    assert raw.request(in_front.url, "GET", "/health/live").status_code == 200


def test_forged_address(gateway: Process, url: str, database: str) -> None:
    """What a client says of where it comes from isn't believed: it is held to one address' limit."""
    with closing(Board(gateway.url, database)) as board:
        user = board.organization().user
    log_in = {"email": user.email, "password": PASSWORD}
    statuses = [
        httpx.post(
            f"{url}/auth/login",
            json=log_in if number < 3 else {**log_in, "email": "nobody@example.com"},
            headers={"X-Forwarded-For": f"8.8.8.{number}", "Forwarded": f"for=8.8.4.{number}"},
        ).status_code
        for number in range(5)
    ]
    assert statuses[-1] == 429


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers that have come."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port} port {server.server_port}"
        finally:
            server.shutdown()


SENT = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Prefix": "/board",
    "X-Real-IP": "198.51.100.7",
    "Forwarded": "for=198.51.100.7",
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
}


def passed_on(url: str) -> dict[str, str]:
    text = httpx.get(f"{url}/", headers=SENT).text
    return dict(re.findall(r"^([\w-]+): (.*?)\r?$", text.lower(), re.MULTILINE))


def test_what_a_client_says() -> None:
    """Of where it comes from, and by which way, nothing reaches the gateway; nor does an offer of another protocol."""
    with echo() as behind, edge(behind) as running:
        headers = passed_on(running.url)
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert not headers.keys() & {"x-forwarded-prefix", "x-real-ip", "forwarded", "upgrade"}


def test_what_a_proxy_says() -> None:
    """A proxy in front that is named: the gateway gets its word, and where it is."""
    with echo() as behind, edge(behind, TRUSTED_PROXIES="10.0.0.0/8 127.0.0.0/8") as running:
        headers = passed_on(running.url)
        assert headers["x-forwarded-for"] == "198.51.100.7, 127.0.0.1"
        assert (headers["x-forwarded-proto"], headers["x-forwarded-prefix"]) == ("gopher", "/board")
        assert "x-forwarded-for" not in httpx.get(f"{running.url}/").text.lower()


def test_gateway_that_is_about_to_end(database: str, tmp_path: Path) -> None:
    """It is left out as soon as it isn't ready, and no request fails; without any gateway it is 503."""
    keys = "/.well-known/jwks.json"
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(serving(database, tmp_path, SERVER_TRUSTED_PROXIES="127.0.0.1", SERVER_DRAIN="3"))
            for _ in range(2)
        )
        running = stack.enter_context(edge(place(first), place(second)))
        client = stack.enter_context(httpx.Client(base_url=running.url, timeout=PATIENCE))
        until(running, lambda: client.get(keys).status_code == 200 and all(keys in p.output for p in (first, second)))
        first.popen.send_signal(signal.SIGTERM)
        statuses: list[int] = []
        while first.popen.poll() is None or len(statuses) < 50:
            statuses.append(client.get(keys).status_code)
        assert (set(statuses), first.popen.returncode) == ({200}, 0)
        second.stop()
        problem = client.get(keys)
        assert assert_problem(problem, "unavailable")["retryable"]
        assert problem.headers["retry-after"] == "1"
