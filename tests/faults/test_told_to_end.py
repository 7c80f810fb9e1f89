"""SIGTERM, at any moment: what is under way is finished, the exit code is 0, and it takes no longer than it may."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import create_connection
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.faults.conftest import SMALL
from tests.support import cluster as clusters
from tests.support.board import EVENT, PASSWORD, Board, Member
from tests.support.metrics import scraped
from tests.support.processes import PATIENCE, address_of, patiently, serving, spawned, until_it_hears
from tests.support.proxy import proxied
from tests.support.services import Service, Services, services
from tests.support.sessions import locked, waiting
from tests.support.shapes import CREDENTIAL
from tests.support.stopwatch import Stopwatch

# Seconds: how long a process goes on accepting here, and how long it may take to notice and to clear up.
DRAIN, PROMPT = 0.5, 1.5
# Seconds from the first line on at which a starting process is told to end. It listens after one or two.
MOMENTS = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.4, 2)
# What a test keeps waiting for a lock waits until it lets go.
PATIENT = {**SMALL, "BUDGETS_AUTH": "20", "BUDGETS_WRITE": "20", "SERVER_DRAIN": str(DRAIN), "SERVER_GRACE": "30"}
# Writes under way.
WRITES = 6


@pytest.mark.parametrize("target", ["all", "gateway", "auth", "events"])
def test_while_it_starts(cluster_url: str, tmp_path: Path, target: str) -> None:
    """Exit code 0, soon, and not a word of complaint."""
    settings = {
        "DATABASE_URL": cluster_url,
        "SERVER_PORT": "0",
        "SERVER_DRAIN": str(DRAIN),
        "RPC_CREDENTIAL": CREDENTIAL,
        "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
    }

    def tell(moment: float) -> None:
        with spawned("serve", "--target", target, **settings) as process:
            until_it_hears(process)
            time.sleep(moment)  # the moment that is tried
            told = Stopwatch()
            assert process.stop() == 0, process.output
            assert told.seconds < DRAIN + PROMPT
            assert "Traceback" not in process.output

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(tell, MOMENTS))


def test_as_soon_as_it_listens(cluster_url: str, tmp_path: Path) -> None:
    """It drains, as any other."""
    with spawned(
        "serve", DATABASE_URL=cluster_url, SERVER_PORT="0", TOKENS_KEY_FILE=str(tmp_path / "signing-key.pem")
    ) as process:
        address_of(process)
        assert process.stop() == 0


@pytest.fixture(scope="module")
def mortal(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("mortal")
    with (
        clusters.database(cluster_url) as url,
        services(url, folder, **PATIENT) as three,
    ):
        yield three


@pytest.fixture
def three(mortal: Services) -> Services:
    return mortal


@contextmanager
def writing(board: Board, user: Member) -> Iterator[list[Future[httpx.Response]]]:
    """The block runs while writes are under way, which end after it."""
    with ThreadPoolExecutor(WRITES) as pool, locked(board.database_url):
        writes = [pool.submit(user.http.post, "/events", json=EVENT) for _ in range(WRITES)]
        while waiting(board) < WRITES:
            assert not any(write.done() for write in writes)
        yield writes


@pytest.mark.parametrize("name", ["events", "gateway"])
def test_under_load(three: Services, board: Board, name: str) -> None:
    """It says that it isn't ready, goes on accepting for a while, finishes what is under way, and ends."""
    service: Service = getattr(three, name)
    user = board.organization().user
    with writing(board, user) as writes, httpx.Client(base_url=service.url) as balancer:
        assert balancer.get("/health/ready").status_code == 200
        told = Stopwatch()
        service.process.popen.send_signal(signal.SIGTERM)
        while (answer := balancer.get("/health/ready")).status_code == 200:
            assert told.seconds < 0.1
        assert answer.headers["connection"] == "close"
        # On a new connection, too, for as long as it was promised.
        accepted = 0.0
        while True:
            try:
                assert httpx.get(f"{service.url}/health/live").headers["connection"] == "close"
            except httpx.TransportError:
                break
            accepted = told.seconds
        assert time.monotonic() - told.begun > DRAIN - 0.1
        assert accepted < DRAIN + 0.4
        assert not any(write.done() for write in writes)
    assert [write.result().status_code for write in writes] == [201] * WRITES
    ended = Stopwatch()
    assert service.process.popen.wait(PATIENCE) == 0
    assert ended.seconds < PROMPT
    assert "Traceback" not in service.process.output
    service.close()
    service.start()


def test_connected_at_the_last_moment(cluster_url: str, tmp_path: Path) -> None:
    """Who was accepted is answered, though the request comes when nobody listens any more."""
    with (
        clusters.database(cluster_url) as url,
        serving(url, tmp_path, SERVER_DRAIN="0.3") as process,
        ExitStack() as connected,
    ):
        where = ("127.0.0.1", int(process.url.rpartition(":")[2]))
        process.popen.send_signal(signal.SIGTERM)
        for _ in patiently(process):
            try:
                last = connected.enter_context(create_connection(where))
            except ConnectionRefusedError:
                break
        last.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
        assert last.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        assert process.popen.wait(PATIENCE) == 0


def test_auth_under_load(three: Services, board: Board) -> None:
    """Log-ins that are under way are finished."""
    user = board.organization().user
    body = {"email": user.email, "password": PASSWORD}
    with ThreadPoolExecutor(WRITES) as pool:
        with locked(board.database_url, "auth.users"):
            logins = [pool.submit(user.http.post, "/auth/login", json=body) for _ in range(WRITES)]
            # One of an account waits in the database, and the others for it.
            while not waiting(board) or scraped(three.auth.process)["http_server_active_requests"] < WRITES:
                assert not any(login.done() for login in logins)
            three.auth.process.popen.send_signal(signal.SIGTERM)
            for _ in patiently(three.auth.process):
                try:
                    create_connection(three.auth.address).close()
                except ConnectionRefusedError:
                    break
        assert [login.result().status_code for login in logins] == [200] * WRITES
    assert three.auth.stop() == 0
    three.auth.start()


@pytest.mark.parametrize("grace", [0.5, 1.5])
def test_grace_is_over(cluster_url: str, tmp_path: Path, grace: float) -> None:
    """What isn't finished within the grace time is given up; the exit code is 0 still."""
    with (
        clusters.database(cluster_url) as url,
        serving(url, tmp_path, SERVER_DRAIN="0.1", SERVER_GRACE=str(grace)) as process,
        closing(Board(process.url, url)) as board,
        ExitStack() as under_way,
    ):
        user = board.organization().user
        writes = under_way.enter_context(writing(board, user))
        told = Stopwatch()
        assert process.stop() == 0
        assert grace < time.monotonic() - told.begun
        assert told.seconds < grace + PROMPT
        assert all(write.exception() or write.result().status_code >= 500 for write in writes)


def test_database_hangs(cluster_url: str, tmp_path: Path) -> None:
    """A PostgreSQL that answers nothing keeps no process from ending."""
    with clusters.database(cluster_url) as url:
        address = urlsplit(url)
        socket = Path(parse_qs(address.query)["host"][0], ".s.PGSQL.5432")
        with proxied(socket) as to_database:
            through = f"postgresql://eventboard@127.0.0.1:{to_database.port}{address.path}"
            with serving(through, tmp_path, SERVER_DRAIN="0.1", BUDGETS_READ="1") as process:
                with closing(Board(process.url, url)) as board:
                    user = board.organization().user
                    to_database.stall()
                    assert user.http.get("/events/0190a0a0-0000-7000-8000-000000000000").status_code == 504
                told = Stopwatch()
                assert process.stop() == 0
                assert told.seconds < 0.1 + 2 * PROMPT
