"""What strangers begin and don't finish, and what they ask for and don't read: others are answered as before."""

import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support import raw
from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.load import at_once, gateway_seconds, timed
from tests.support.problems import assert_problem
from tests.support.processes import PATIENCE, Process, admin_of
from tests.support.sessions import locked, waiting
from tests.support.shapes import Deployment, deployed
from tests.support.stopwatch import Stopwatch

# Requests that each process here works at, and bodies that may be on their way to it at once.
MOST, MOST_INCOMING = 5, 40
# Seconds in which a body has to arrive: in fewer, all the halves of a test have been sent, on a busy machine too.
BODY_TIMEOUT = 5.0
MOST_BY_USER, MOST_BY_ORGANIZATION = 2, 3
# Seconds within which a call too many is rejected.
AT_ONCE = 0.02

NARROW = {
    "SERVER_MAX_REQUESTS": str(MOST),
    "SERVER_MAX_INCOMING": str(MOST_INCOMING),
    "SERVER_MAX_INCOMING_BYTES": "400000",
    "SERVER_MAX_OUTGOING_BYTES": "2000000",
    "SERVER_BODY_TIMEOUT": str(BODY_TIMEOUT),
    "SERVER_TRUSTED_PROXIES": "127.0.0.1",
    # What a test keeps waiting for a lock waits until it lets go.
    "BUDGETS_WRITE": "60",
    "LIMITS_CALLS_BY_USER": str(MOST_BY_USER),
    "LIMITS_CALLS_BY_ORGANIZATION": str(MOST_BY_ORGANIZATION),
}


@pytest.fixture(scope="module")
def narrow(shape: str, cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with (
        clusters.database(cluster_url) as url,
        deployed(shape, url, tmp_path_factory.mktemp("bounds"), **NARROW) as deployment,
    ):
        yield deployment


@pytest.fixture
def board(narrow: Deployment) -> Iterator[Board]:
    with closing(Board(narrow.public.url, narrow.database_url)) as board:
        yield board


@pytest.fixture
def organization(board: Board) -> Organization:
    return board.organization()


def connected(process: Process, *, window: int | None = None) -> socket.socket:
    """`window` is how many bytes the client's kernel takes for it."""
    where = urlsplit(process.url)
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(PATIENCE)
    client.connect((where.hostname or "", where.port or 0))
    return client


@contextmanager
def held(process: Process, data: bytes, count: int, *, window: int | None = None) -> Iterator[list[socket.socket]]:
    """So many connections have sent this, and nothing else happens on them."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(process, window=window)) for _ in range(count)]
        for client in clients:
            client.sendall(data)
        yield clients


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join(
        (f"{method} {path} HTTP/1.1", "Host: test", "Content-Type: application/json", *headers, "", "")
    ).encode()


def answer_on(client: socket.socket) -> httpx.Response:
    """All there is until the server closes the connection."""
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    begin, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    line, *lines = begin.decode().split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    return httpx.Response(
        int(line.split()[1]), headers=headers, content=body, request=httpx.Request("POST", "http://test")
    )


def rejected(process: Process, limit: str) -> float:
    metrics = httpx.get(f"{admin_of(process)}/metrics").text
    found = re.search(rf'^eventboard_rejected_total{{limit="{limit}"}} (\S+)$', metrics, re.MULTILINE)
    assert found, metrics
    return float(found[1])


HALVES = {
    "log-in": head("POST", "/auth/login", "Content-Length: 60") + b"{",
    "no byte of it": head("POST", "/auth/login", "Content-Length: 60"),
    "chunks": head("POST", "/auth/login", "Transfer-Encoding: chunked") + b"1\r\n{\r\n",
    "waiting to be asked": head("POST", "/auth/login", "Content-Length: 60", "Expect: 100-continue"),
    "a token that is none": head("POST", "/events", "Content-Length: 60", "Authorization: Bearer x") + b"{",
    "PATCH": head("PATCH", f"/events/{'0' * 8}-0000-0000-0000-{'0' * 12}", "Content-Length: 60") + b"{",
    "DELETE": head("DELETE", f"/auth/sessions/{'0' * 8}-0000-0000-0000-{'0' * 12}", "Content-Length: 60") + b"{",
    "nowhere": head("POST", "/nowhere", "Content-Length: 60") + b"{",
    "a method of their own": head("BREW", "/auth/login", "Content-Length: 60") + b"{",
    "GET": head("GET", "/problems", "Content-Length: 60") + b"{",
    "health": head("POST", "/health", "Content-Length: 60") + b"{",
    "an internal call": head("POST", "/rpc/auth.login", "Content-Length: 60", "Authorization: Bearer x") + b"\x80",
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_half_of_a_request(narrow: Deployment, board: Board, organization: Organization, half: bytes) -> None:
    """On every port of every process: it takes no place, so nobody else notices."""
    user = organization.user
    with ExitStack() as stack:
        for process in narrow.processes.values():
            stack.enter_context(held(process, half, 4 * MOST))
        for _ in range(3):
            assert user.http.get("/auth/me").status_code == 200
            assert user.http.post("/events", json=EVENT).status_code == 201
            log_in = {"email": user.email, "password": PASSWORD}
            assert board.client().post("/auth/login", json=log_in).status_code == 200
        for process in narrow.processes.values():
            assert httpx.get(f"{process.url}/health/ready").status_code == 200


def test_more_than_may_arrive(narrow: Deployment, board: Board, organization: Organization) -> None:
    """The ones that have waited longest make room, and hear of it; whoever sends a whole request is served."""
    user = organization.user
    log_in = {"email": user.email, "password": PASSWORD}
    before = rejected(narrow.public, "incoming")
    half = HALVES["log-in"]
    with held(narrow.public, half, MOST_INCOMING) as first, held(narrow.public, half, MOST_INCOMING // 2):
        for client in first[: MOST_INCOMING // 2]:
            answer = answer_on(client)
            assert assert_problem(answer, "unavailable")["retryable"]
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["connection"] == "close"
        assert board.client().post("/auth/login", json=log_in).status_code == 200
    assert rejected(narrow.public, "incoming") - before >= MOST_INCOMING // 2


def test_more_bytes_than_may_arrive(narrow: Deployment, organization: Organization) -> None:
    """However large each may be: together they have a bound."""
    large = head("POST", "/events", "Content-Length: 200000", "Authorization: Bearer x") + b" " * 100_000
    before = rejected(narrow.public, "incoming")
    with held(narrow.public, large, 10) as clients:
        assert answer_on(clients[0]).status_code == 503
        assert organization.user.http.post("/events", json=EVENT).status_code == 201
    assert rejected(narrow.public, "incoming") - before >= 5


def test_share_of_an_address(narrow: Deployment, organization: Organization) -> None:
    """Whoever fills the room makes it again: another client's body may take its time."""
    body = json.dumps({"email": organization.user.email, "password": PASSWORD}).encode()
    mine = head("POST", "/auth/login", f"Content-Length: {len(body)}", "X-Forwarded-For: 8.8.8.8", "Connection: close")
    theirs = head("POST", "/auth/login", "Content-Length: 60", "X-Forwarded-For: 9.9.9.9") + b"{"
    with held(narrow.public, mine, 1) as (client,), held(narrow.public, theirs, MOST_INCOMING) as others:
        assert answer_on(others[0]).status_code == 503
        client.sendall(body)
        assert answer_on(client).status_code == 200


def test_no_share_of_a_bridge(narrow: Deployment) -> None:
    """An address that many clients may have is nobody's: the oldest makes room, whoever it is."""
    one = head("POST", "/auth/login", "Content-Length: 60", "X-Forwarded-For: 172.17.0.1") + b"{"
    other = head("POST", "/auth/login", "Content-Length: 60", "X-Forwarded-For: 172.18.0.1") + b"{"
    with held(narrow.public, one, 1) as (client,), held(narrow.public, other, MOST_INCOMING):
        assert answer_on(client).status_code == 503


SLOW = {
    "byte by byte": (head("POST", "/auth/login", "Content-Length: 1000") + b"{", b" "),
    "chunk by chunk": (head("POST", "/auth/login", "Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    "to nowhere": (head("POST", "/nowhere", "Content-Length: 1000"), b" "),
}


def test_body_that_takes_too_long(narrow: Deployment) -> None:
    """However steadily it comes: the time counts from its beginning, not from the last byte."""

    def send(begun: bytes, byte: bytes) -> None:
        with held(narrow.public, begun, 1) as (client,):
            since = Stopwatch()
            # What comes once the server has closed would take the answer away.
            while time.monotonic() - since.begun < BODY_TIMEOUT * 0.9:
                client.sendall(byte)
                assert not select.select([client], [], [], 0.05)[0], answer_on(client).text
            answer = answer_on(client)
            assert since.seconds < BODY_TIMEOUT * 1.8
        assert assert_problem(answer, "request-timeout")["retryable"]
        assert answer.headers["connection"] == "close"

    with ThreadPoolExecutor(len(SLOW)) as pool:  # since each takes its time
        for sent in [pool.submit(send, *slow) for slow in SLOW.values()]:
            sent.result()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_large_body_without_a_token(narrow: Deployment, organization: Organization, chunked: bool) -> None:
    """A log-in needs a few hundred bytes, and may have some thousands; who shows a token may send more."""
    size = 9000
    framing = ("Transfer-Encoding: chunked",) if chunked else (f"Content-Length: {size}",)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size) if chunked else b" " * size
    for path in ("/auth/login", "/auth/signup", "/auth/refresh", "/auth/logout", "/events", "/nowhere"):
        answer = raw.request(narrow.public.url, "POST", path, headers=framing, body=body)
        assert_problem(answer, "too-large")
    answer = organization.user.http.post("/events", content=b" " * size, headers={"content-type": "application/json"})
    assert_problem(answer, "invalid-request")


def resident(process: Process) -> int:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.popen.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


def settled(process: Process) -> int:
    """Its memory in MiB, once that has stopped growing."""
    seen = [resident(process)]
    while len(seen) < 5 or seen[-1] > seen[-5]:
        select.select([], [], [], 0.1)  # between two looks at another process
        seen.append(resident(process))
    return seen[-1]


def bundle(process: Process) -> str:
    """The path of the largest file there is."""
    page = raw.request(process.url, "GET", "/schema/scalar").text
    return next(part for part in page.split('"') if part.endswith("scalar/standalone.js"))


def test_downloads_that_nobody_reads(narrow: Deployment, organization: Organization) -> None:
    """60 of 4 MB: they have the file in common, and take no place."""
    process, get = narrow.public, head("GET", bundle(narrow.public))
    whole = httpx.get(process.url + bundle(process), headers={"accept-encoding": "identity"})
    assert len(whole.content) == int(whole.headers["content-length"]) > 4_000_000
    before = settled(process)
    with held(process, get, 60, window=4096):
        assert settled(process) - before < 40
        assert organization.user.http.get("/auth/me").status_code == 200
        assert httpx.get(process.url + bundle(process)).content == whole.content


def test_lists_that_nobody_reads(narrow: Deployment, board: Board, organization: Organization) -> None:
    """40 of 500 kB, each of its own: those that have waited longest make room. Who reads, if slowly, gets all of it."""
    user = organization.user
    text = "x" * 5000
    board.sql(
        "INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone, status, "
        "created_by_id, created_by_name, version) SELECT $1, gen_random_uuid(), 'Chess night', $2, now(), "
        "now() + interval '1 hour', 'UTC', 'DRAFT', $3, 'Nia', 1 FROM generate_series(1, 100)",
        organization.id,
        text,
        user.id,
    )
    whole = user.http.get("/events?limit=100")
    assert len(whole.content) > 500_000
    get = head("GET", "/events?limit=100", f"Authorization: Bearer {user.token}")
    before, dropped = settled(narrow.public), rejected(narrow.public, "outgoing")
    with ExitStack() as stack:
        for _ in range(40):
            # One after the other: more at once of one user are rejected.
            (client,) = stack.enter_context(held(narrow.public, get, 1, window=4096))
            assert client.recv(12) == b"HTTP/1.1 200"
        assert settled(narrow.public) - before < 20
        assert user.http.get("/events?limit=100").json() == whole.json()
    assert rejected(narrow.public, "outgoing") > dropped


def create(organization: Organization, member: str) -> Callable[[], httpx.Response]:
    return lambda: getattr(organization, member).http.post("/events", json=EVENT)


def test_calls_at_once(narrow: Deployment, board: Board, organization: Organization) -> None:
    """So many of a user and of an organization are under way; one more is rejected at once. Others go on."""
    other = board.organization()
    before = [rejected(narrow.public, f"calls-by-{whose}") for whose in ("user", "organization")]
    with ThreadPoolExecutor(MOST) as pool, locked(board.database_url):
        first = [pool.submit(create(organization, "user")) for _ in range(MOST_BY_USER)]
        while waiting(board) < MOST_BY_USER:
            assert not any(call.done() for call in first)
        of_user = [timed(create(organization, "user")) for _ in range(10)]
        first.append(pool.submit(create(organization, "admin")))
        while waiting(board) < MOST_BY_ORGANIZATION:
            assert not any(call.done() for call in first)
        of_organization = [timed(create(organization, "moderator")) for _ in range(10)]
        assert other.user.http.get("/auth/me").status_code == 200
        theirs = pool.submit(create(other, "user"))
        while waiting(board) < MOST_BY_ORGANIZATION + 1:
            assert not theirs.done()
    assert [call.result().status_code for call in (*first, theirs)] == [201] * 4
    for calls, whose in ((of_user, "You have 2 calls"), (of_organization, "Your organization has 3 calls")):
        for call in calls:
            problem = assert_problem(call.answer, "too-many-requests")
            assert problem["detail"].startswith(whose)
            assert problem["retryable"]
            assert call.answer.headers["retry-after"] == "1"
        # By the gateway's clock, which leaves out what a busy machine does to this client; and here, once at least.
        assert sorted(gateway_seconds(call.answer) for call in calls)[5] < AT_ONCE
        assert min(call.own for call in calls) < AT_ONCE
    after = [rejected(narrow.public, f"calls-by-{whose}") for whose in ("user", "organization")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [10, 10]
    # What has ended, well or not, is under way no more.
    for _ in range(2 * MOST_BY_ORGANIZATION):
        assert organization.user.http.get("/events/none").status_code == 404
    calls = at_once([create(organization, "user")] * MOST_BY_USER + [create(organization, "other")])
    assert {call.status for call in calls} == {201}
