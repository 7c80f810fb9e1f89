"""Each proxy of deploy/edge in front of real gateways: what clients get, what it bounds, and when a gateway ends."""

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from tests.deploy.engines import edges
from tests.deploy.engines.edges import NAMES, Behind
from tests.shapes.alike import differences
from tests.shapes.recording import Exchange, Recording
from tests.shapes.walk import story
from tests.support import cluster as clusters
from tests.support.board import EVENT, Board
from tests.support.edge import Edge, until
from tests.support.load import load
from tests.support.ports import free_port
from tests.support.problems import assert_problem
from tests.support.processes import PATIENCE, serving
from tests.support.services import Service
from tests.support.services import running as started

# Clients that write all the time, each on a connection of its own.
CLIENTS = 4
# The edges' time-outs, so short that a test reaches them.
SHORT = {
    "haproxy": {"timeout server 15s": "timeout server 1s"},
    "traefik": {
        "readTimeout: 15s": "readTimeout: 1s",
        "writeTimeout: 120s": "writeTimeout: 6s",
        "responseHeaderTimeout: 15s": "responseHeaderTimeout: 1s",
    },
    "envoy": {
        "request_headers_timeout: 10s": "request_headers_timeout: 1s",
        "request_timeout: 15s": "request_timeout: 1s",
        "stream_idle_timeout: 20s": "stream_idle_timeout: 2s",
        "idle_timeout: 60s\n                  max": "idle_timeout: 1s\n                  max",
        "transport_socket_connect_timeout: 10s": "transport_socket_connect_timeout: 1s",
        "timeout: 15s }": "timeout: 1s }",
    },
    "caddy": {
        "read_header 10s": "read_header 1s",
        "read_body 15s": "read_body 1s",
        "write_idle 20s": "write_idle 1s",
        "idle 60s": "idle 1s",
        "response_header_timeout 15s": "response_header_timeout 1s",
    },
}
SHORT_OF_HAPROXY = {"EDGE_REQUEST_TIMEOUT": "1s", "EDGE_CLIENT_TIMEOUT": "1s"}


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    edges.program(request.param)
    return str(request.param)


def place(*addresses: str) -> Behind:
    return Behind(addresses, free_port(), free_port())


def settings(behind: Behind, address: str) -> dict[str, str]:
    """Of a gateway there."""
    return {
        "SERVER_HOST": address,
        "SERVER_PORT": str(behind.port),
        "SERVER_ADMIN_HOST": address,
        "SERVER_ADMIN_PORT": str(behind.admin_port),
        "SERVER_TRUSTED_PROXIES": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def database(cluster_url: str) -> Iterator[str]:
    with clusters.database(cluster_url) as url:
        yield url


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signing key's folder: tokens of two gateways differ by nothing else."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def behind(database: str, keys: Path) -> Iterator[Behind]:
    """One process, for all tests that only look."""
    there = place("127.58.0.1")
    with serving(database, keys, **settings(there, "127.58.0.1")):
        yield there


@pytest.fixture(scope="module")
def as_it_is(name: str, behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """With the limits of the repository."""
    with edges.edge(name, tmp_path_factory.mktemp(name) / "edge", behind) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(name: str, behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp(name) / "edge"
    with edges.edge(name, folder, behind, changes=SHORT[name], **SHORT_OF_HAPROXY) as running:
        yield running


def client_of(running: Edge, **arguments: object) -> httpx.Client:
    return httpx.Client(base_url=running.url, verify=running.tls, timeout=PATIENCE, **arguments)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# What it is


def test_configuration(name: str, tmp_path: Path, behind: Behind) -> None:
    """The program's own check finds nothing wrong. Traefik has none: it starts, and reports no error."""
    if name == "traefik":
        with edges.edge(name, tmp_path / "edge", behind) as running:
            assert '"level":"error"' not in running.output
        return
    tls = edges.tls_folder(tmp_path)
    edges.written(name, tmp_path, behind, 443, tls, {})
    environment = {"EDGE_TLS": str(tls), "TRUSTED_PROXIES": "", "HOME": str(tmp_path)}
    done = subprocess.run(edges.checking(name, tmp_path), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if re.search(r'\[warning\]|"warn"', line, re.IGNORECASE)
    ]
    # The test's own certificate.
    assert [line for line in found if "expires within 1 day" not in line] == []


def test_tls_and_http2(as_it_is: Edge) -> None:
    """HTTP/2 for those who offer it; no TLS before 1.2, and no plain HTTP."""
    curl = ["curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"]
    assert subprocess.check_output([*curl, "--http2", f"{as_it_is.url}/health/live"], text=True) == "2 200"
    assert subprocess.check_output([*curl, "--http1.1", f"{as_it_is.url}/health/live"], text=True) == "1.1 200"
    assert isinstance(as_it_is.tls, ssl.SSLContext)
    where = urlsplit(as_it_is.url)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = socket.create_connection((where.hostname or "", where.port or 0), PATIENCE)
    with closing(plain), pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(plain)
    with suppress(httpx.TransportError):
        assert httpx.get(as_it_is.url.replace("https:", "http:") + "/health/live").status_code in (400, 404)


# ---------------------------------------------------------------------------------------------------------------------
# What clients get

# Of the connection, not of the answer. The edge and the gateway each write their own.
OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}


# As docs/operations/edges.md has them: path and header. Traefik unpacks a file for a client that takes no gzip.
DOCUMENTED = {"traefik": ("GET /schema/static/", "content-length")}


def comparable(recording: Recording, behind: str) -> Recording:
    """Without the case and the order of headers' names, and the phrase behind a status: none of them has a meaning."""
    return replace(recording, exchanges=[_comparable(exchange, behind) for exchange in recording.exchanges])


def _comparable(exchange: Exchange, behind: str) -> Exchange:
    path, documented = DOCUMENTED.get(behind, ("", ""))
    left_out = OF_A_CONNECTION | ({documented} if path in exchange.request else set())
    headers = sorted((name.lower(), value) for name, value in exchange.headers)
    kept = tuple((name, value) for name, value in headers if name not in left_out)
    return replace(exchange, headers=kept, status=" ".join(exchange.status.split()[:2]))


@pytest.fixture(scope="module")
def bare(cluster_url: str, keys: Path) -> Recording:
    """What a gateway answers without any edge."""
    with clusters.database(cluster_url) as url, serving(url, keys) as gateway:
        return story(gateway.url, url, "bare")


def test_answers_of_the_gateway(bare: Recording, name: str, cluster_url: str, keys: Path, tmp_path: Path) -> None:
    """A story through the whole API, with the matrix of rights, is answered as without the edge, headers too."""
    there = place("127.58.0.2")
    with ExitStack() as stack:
        url = stack.enter_context(clusters.database(cluster_url))
        stack.enter_context(serving(url, keys, **settings(there, "127.58.0.2")))
        unlimited = {"haproxy": {}, "traefik": {"burst: 1000": "burst: 100000"}, "caddy": {}}
        unlimited["envoy"] = {"max_tokens: 1000,": "max_tokens: 100000,"}
        more = {"EDGE_REQUESTS_BY_ADDRESS": "100000"}
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there, changes=unlimited[name], **more))
        assert isinstance(running.tls, ssl.SSLContext)
        here = story(running.url, url, name, running.tls)
    found = differences(comparable(bare, name), comparable(here, name))
    assert not found, "\n".join([f"{len(found)} differences", *found[:20]])


def test_below_a_path(name: str, database: str, keys: Path, tmp_path: Path) -> None:
    """A gateway that knows its path: the edge leaves the path as it is, and every link leads through it."""
    there = place("127.58.0.3")
    told = {**settings(there, "127.58.0.3"), "SERVER_PUBLIC_URL": "https://example.com/board"}
    with ExitStack() as stack:
        stack.enter_context(serving(database, keys, **told))
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there))
        client = stack.enter_context(client_of(running))
        assert client.get("/board/docs").headers["location"] == "/board/schema/swagger"
        page = client.get("/board/schema/swagger").text
        files = [part for part in page.split('"') if "/schema/static/" in part]
        assert files
        assert [client.get(file).status_code for file in files] == [200] * len(files)


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's line and headers, as it came; everything is ready."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.requestline}\n{self.headers}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    with ThreadingHTTPServer((address, port), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


FORGED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Prefix": "/board",
    "X-Real-IP": "198.51.100.7",
    "Forwarded": "for=198.51.100.7",
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
}


def test_what_a_client_says(name: str, tmp_path: Path) -> None:
    """Of where it comes from, and by which way, nothing reaches the gateway, and no offer; its path and query do."""
    there = place("127.58.0.4")
    with ExitStack() as stack:
        for port in (there.port, there.admin_port):
            stack.enter_context(listening("127.58.0.4", port, Echo))
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there))
        # 127.0.0.1 itself Envoy replaces by an address of its machine.
        transport = httpx.HTTPTransport(verify=running.tls, local_address="127.0.0.2")
        client = stack.enter_context(httpx.Client(base_url=running.url, transport=transport, timeout=PATIENCE))
        said = client.get("/", headers=FORGED).text.lower()
        paths = ("/events/%2Fx//y;z?a=1&b=%3B&c=%20", "/a%00?%zz")
        seen = [client.get(httpx.URL(running.url).copy_with(raw_path=path.encode())).text for path in paths]
    headers = dict(re.findall(r"^([\w-]+): (.*?)\r?$", said, re.MULTILINE))
    assert headers["x-forwarded-for"] == "127.0.0.2"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["host"] == urlsplit(running.url).netloc
    assert not headers.keys() & {"x-forwarded-prefix", "forwarded", "upgrade"}
    assert headers.get("x-real-ip", "127.0.0.2") == "127.0.0.2"
    assert [text.splitlines()[0] for text in seen] == [f"GET {path} HTTP/1.1" for path in paths]


# ---------------------------------------------------------------------------------------------------------------------
# What it bounds


def connected(running: Edge, *, window: int | None = None) -> ssl.SSLSocket:
    """`window` is how many bytes the client's kernel takes for it."""
    where = urlsplit(running.url)
    plain = socket.socket()
    if window is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    plain.settimeout(PATIENCE)
    plain.connect((where.hostname or "", where.port or 0))
    assert isinstance(running.tls, ssl.SSLContext)
    return running.tls.wrap_socket(plain, server_hostname=where.hostname)


def answer_on(client: ssl.SSLSocket) -> bytes:
    """All there is until the edge closes the connection."""
    pieces = []
    with suppress(ConnectionError, ssl.SSLError):
        while piece := client.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


HEAD = b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("begun", "byte"),
    [
        pytest.param(b"", b"", id="nothing at all"),
        pytest.param(b"GET /health/live HTTP/1.1\r\nX-Slow: ", b"x", id="in a header"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n{", b" ", id="in the body"),
        pytest.param(HEAD + b"Content-Length: 1000\r\n\r\n{", b"", id="half of a body"),
    ],
)
def test_slow_request(impatient: Edge, begun: bytes, byte: bytes) -> None:
    """It is cut off in time: the gateway's own bound is ten seconds."""
    with connected(impatient) as client:
        start = time.monotonic()
        client.sendall(begun)
        client.settimeout(0.1)
        answer = b""
        while True:
            assert time.monotonic() - start < 8, "it was never cut off"
            try:
                piece = client.recv(65536)
            except TimeoutError:
                if byte:
                    with suppress(OSError):
                        client.sendall(byte)
                continue
            except OSError:
                break
            if not piece:
                break
            answer += piece
        assert time.monotonic() - start > 0.9
    # Traefik and Caddy report a body that ended too early in several ways.
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 50"))


def big_file(client: httpx.Client) -> str:
    page = client.get("/schema/scalar").text
    return next(part for part in page.split('"') if part.endswith("scalar/standalone.js"))


def test_answer_that_is_not_read(impatient: Edge) -> None:
    """Its connection is closed."""
    with client_of(impatient) as client:
        path = big_file(client)
    with connected(impatient, window=4096) as slow:
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        slow.recv(1)
        port = slow.getsockname()[1]
        assert edges.holds(impatient, port)
        until(impatient, lambda: not edges.holds(impatient, port))


def test_answer_that_is_read_slowly(impatient: Edge) -> None:
    """The edge waits longer than for anything else, as long as its client goes on reading."""
    with client_of(impatient) as client:
        path = big_file(client)
        start = time.monotonic()
        with client.stream("GET", path) as answer:
            length, taken = int(answer.headers["content-length"]), 0
            for piece in answer.iter_raw(65536):
                taken += len(piece)
                # A reader of some megabytes in 3 s.
                time.sleep(max(0.0, start + 3 * taken / length - time.monotonic()))
    assert taken == length
    assert time.monotonic() - start >= 2.9


def test_headers_too_large(as_it_is: Edge) -> None:
    """They are rejected there; a little below the limit they aren't."""
    with client_of(as_it_is) as client:
        with suppress(httpx.RemoteProtocolError, httpx.WriteError):  # answered and closed while they are sent
            assert client.get("/health/live", headers={"X-Long": "x" * 40_000}).status_code in (400, 431)
        assert client.get("/health/live", headers={"X-Long": "x" * 24_000}).status_code == 200


def test_body_too_large(name: str, as_it_is: Edge) -> None:
    """It is 413, as a problem. Traefik and Envoy would have to hold a whole body, and leave it to the gateway."""
    with client_of(as_it_is) as client:
        for bytes_, own in ((1_500_000, False), (3_000_000, name == "haproxy")):
            headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
            try:
                answer = client.post("/events", content=b" " * bytes_, headers=headers)
            except (httpx.WriteError, httpx.RemoteProtocolError):  # answered and closed while it is sent
                continue
            assert_problem(answer, "too-large")
            # Caddy counts a body as it passes, and may be before the gateway or after it.
            if name != "caddy":
                assert ("edge" in answer.json()["detail"]) == own


RATES = {
    "haproxy": {},
    "traefik": {"average: 100": "average: 1", "burst: 1000": "burst: 20"},
    "envoy": {"max_tokens: 1000, tokens_per_fill: 100": "max_tokens: 20, tokens_per_fill: 1"},
}


def test_requests_of_one_address(name: str, behind: Behind, tmp_path: Path) -> None:
    """More than its share is 429. Caddy's stock program has no such limit."""
    if name == "caddy":
        modules = subprocess.check_output([edges.program(name), "list-modules"], text=True)
        assert "http.handlers.reverse_proxy" in modules
        assert "rate_limit" not in modules
        return
    few = {"EDGE_REQUESTS_BY_ADDRESS": "20"}
    with (
        edges.edge(name, tmp_path / "edge", behind, changes=RATES[name], **few) as running,
        client_of(running) as client,
    ):
        answers = [client.get("/health/live") for _ in range(40)]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses[:10] == [200] * 10
    limited = answers[statuses.index(429)]
    assert int(limited.headers["retry-after"]) >= (0 if name == "traefik" else 1)
    if name != "traefik":
        assert_problem(limited, "too-many-requests")


# ---------------------------------------------------------------------------------------------------------------------
# What it does about gateways


def test_gateway_that_does_not_answer(name: str, tmp_path: Path) -> None:
    """504, and nobody is asked a second time."""
    there, asked, over = place("127.58.0.5", "127.58.0.6"), [], threading.Event()

    class Silent(Echo):
        def do_GET(self) -> None:
            if self.path.startswith("/health"):
                super().do_GET()
                return
            asked.append(self.path)
            over.wait(PATIENCE)

    with ExitStack() as stack:
        stack.callback(over.set)
        for address in there.addresses:
            for port in (there.port, there.admin_port):
                stack.enter_context(listening(address, port, Silent))
        running = stack.enter_context(
            edges.edge(name, tmp_path / "edge", there, changes=SHORT[name], **SHORT_OF_HAPROXY)
        )
        answer = stack.enter_context(client_of(running)).get("/silent")
        assert answer.status_code == 504
        if name != "traefik":
            assert_problem(answer, "deadline-exceeded")
        assert asked == ["/silent"]


def test_lost_request(name: str, tmp_path: Path) -> None:
    """A gateway took a request and hung up: it isn't sent again. Go repeats a GET if the connection was an old one."""
    there, asked = place("127.58.0.5", "127.58.0.6"), []

    class HangingUp(Echo):
        def do_GET(self) -> None:
            if self.path.startswith("/health"):
                super().do_GET()
                return
            asked.append(self.command)
            self.close_connection = True

        do_POST = do_GET  # noqa: N815 - of the standard library

    with ExitStack() as stack:
        for address in there.addresses:
            for port in (there.port, there.admin_port):
                stack.enter_context(listening(address, port, HangingUp))
        client = stack.enter_context(client_of(stack.enter_context(edges.edge(name, tmp_path / "edge", there))))
        for method in ("GET", "POST"):
            # HAProxy closes an old connection without an answer, as the gateway did.
            with suppress(httpx.RemoteProtocolError):
                assert client.request(method, "/lost").status_code in (502, 503, 504)
    assert asked.count("POST") == 1
    assert asked.count("GET") <= (2 if name in ("traefik", "caddy") else 1)


def test_gateway_that_cannot_be_reached(name: str, tmp_path: Path) -> None:
    """It seems ready and refuses connections: nothing was sent, so the other one gets the request. No request fails."""
    there = place("127.58.0.5", "127.58.0.6")
    with ExitStack() as stack:
        stack.enter_context(listening("127.58.0.5", there.port, Echo))
        for address in there.addresses:
            stack.enter_context(listening(address, there.admin_port, Echo))
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there))
        client = stack.enter_context(client_of(running))
        assert [client.get("/").status_code for _ in range(20)] == [200] * 20


def test_no_gateway(name: str, database: str, keys: Path, tmp_path: Path) -> None:
    """503, with when to come again."""
    there = place("127.58.0.7")
    with ExitStack() as stack:
        gateway = stack.enter_context(serving(database, keys, **settings(there, "127.58.0.7")))
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there))
        client = stack.enter_context(client_of(running))
        assert client.get("/health/live").status_code == 200
        gateway.stop()
        until(running, lambda: client.get("/health/live").status_code == 503)
        answer = client.get("/health/live")
        if name != "traefik":
            assert_problem(answer, "unavailable")
            assert answer.headers["retry-after"] == "1"


def test_rolling_restart(name: str, cluster_url: str, tmp_path: Path) -> None:
    """Two gateways and three of events, one of each at a time, under keyed writes: none fails, none happens twice."""
    there = place("127.58.1.1", "127.58.1.2")
    with ExitStack() as stack:
        url = stack.enter_context(clusters.database(cluster_url))
        auth = Service("auth", url, tmp_path)
        peers = {"PEERS_AUTH": auth.url}
        events = [Service("events", url, tmp_path, **peers) for _ in range(3)]
        peers["PEERS_EVENTS"] = ",".join(service.url for service in events)
        gateways = [
            Service("gateway", url, tmp_path, **peers, **settings(there, address)) for address in there.addresses
        ]
        stack.enter_context(started(auth, *events, *gateways))
        unlimited = {"haproxy": {}, "traefik": {"average: 100": "average: 0"}, "caddy": {}}
        unlimited["envoy"] = {"max_tokens: 1000, tokens_per_fill: 100": "max_tokens: 100000, tokens_per_fill: 100000"}
        more = {"EDGE_REQUESTS_BY_ADDRESS": "100000"}
        running = stack.enter_context(edges.edge(name, tmp_path / "edge", there, changes=unlimited[name], **more))
        with closing(Board(gateways[0].process.url, url)) as board:
            token = board.organization().user.token
            clients = [stack.enter_context(client_of(running)) for _ in range(CLIENTS)]
            with load([partial(_write, client, token) for client in clients]) as writes:
                with ThreadPoolExecutor(2) as pool:
                    restarts = [pool.submit(_restart, gateways, running), pool.submit(_restart, events)]
                for restart in restarts:
                    restart.result()
                # And a moment of calm.
                calm = writes.total + 50
                until(running, lambda: writes.total >= calm)
            assert writes.failures == []
            assert board.sql("SELECT count(*) FROM events.events")[0][0] == writes.statuses[201]
        print(f"{name}: {writes.total} writes, the slowest took {max(writes.seconds):.2f} s")


def _write(client: httpx.Client, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex}
    return client.post("/events", json=EVENT, headers=headers)


def _restart(services: list[Service], running: Edge | None = None) -> None:
    """With an edge: the next one ends when the edge has found the last one ready, and uses it."""
    for service in services:
        assert service.stop() == 0
        service.start()
        if running is not None:
            until(running, partial(_is_used, service))


def _is_used(service: Service) -> bool:
    return "POST /events" in service.process.output
