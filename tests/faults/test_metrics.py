"""Metrics when things go wrong: what is retried, timed out, rejected and full."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Member
from tests.support.metrics import moves, scraped, series_of
from tests.support.processes import Process, patiently, serving
from tests.support.services import Services, services
from tests.support.sessions import locked, waiting

REQUESTS = "http_server_request_duration_seconds_count"
CALLS = "rpc_client_call_duration_seconds_count"
RETRIES = "eventboard_rpc_retries_total"
OPENED, REFUSED = "eventboard_breaker_opened_total", "eventboard_breaker_rejected_total"


def state(told: dict[str, float], module: str) -> str:
    """Of the breaker: the one state whose number is 1."""
    states = ("closed", "half-open", "open")
    (found,) = [each for each in states if told[series_of("eventboard_breaker_state", module=module, state=each)] == 1]
    return found


# Between processes


def test_retries_and_timeouts(three: Services, board: Board) -> None:
    """Each retry is counted by its reason, the call once by how it ended, with the status that the client was told."""
    user = board.organization().user
    event = user.create()
    gateway = three.gateway.process
    three.to_events.refuse()
    # The gateway may learn that a connection is gone by using it; the next call finds none.
    user.http.get(f"/events/{event['id']}")
    with moves([gateway]) as moved:
        answer = user.http.get(f"/events/{event['id']}")
    three.to_events.mend()
    assert answer.status_code == 503
    assert moved.of(REQUESTS) == {
        series_of(REQUESTS, http_request_method="GET", http_route="/events/{id}", http_response_status_code="503"): 1
    }
    assert moved.of(CALLS)[series_of(CALLS, rpc_method="events.findOne", error_type="unavailable")] == 1
    assert moved.of(RETRIES) == {series_of(RETRIES, rpc_method="events.findOne", reason="never-reached"): 3}
    with moves([gateway]) as moved, three.events.frozen():
        assert user.http.get(f"/events/{event['id']}").status_code == 504
    assert moved.of(CALLS)[series_of(CALLS, rpc_method="events.findOne", error_type="deadline-exceeded")] == 1
    assert moved.of(RETRIES) == {}


@pytest.fixture(scope="module")
def nervous(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Three processes whose breakers open at the third failure and stay open for the test."""
    settings = {
        "BREAKER_LEAST_CALLS": "3",
        "BREAKER_OPEN_FOR": "600",
        "RETRIES_RETRIES": "0",
        "BUDGETS_AUTH": "2",
        "BUDGETS_READ": "2",
    }
    folder = tmp_path_factory.mktemp("nervous")
    with clusters.database(cluster_url) as url, services(url, folder, **settings) as three:
        yield three


def test_breaker(nervous: Services) -> None:
    """Its state is a gauge; opening and refusing are counted."""
    gateway = nervous.gateway.process
    with closing(Board(nervous.gateway.url, nervous.database_url)) as board:
        user = board.organization().user
        assert user.http.get("/events").status_code == 200
        assert state(scraped(gateway), "auth") == "closed"
        nervous.auth.stop()
        other = board.client()
        account = {"email": user.email, "password": "wrong password"}
        with moves([gateway]) as moved:
            for _ in range(20):
                assert other.post("/auth/login", json=account).status_code == 503
        assert state(scraped(gateway), "auth") == "open"
        assert state(scraped(gateway), "events") == "closed"
        assert moved.of(OPENED) == {series_of(OPENED, module="auth"): 1}
        assert moved.of(REFUSED)[series_of(REFUSED, module="auth")] >= 2
        assert httpx.get(f"{nervous.gateway.url}/health").json()["parts"]["auth"]["breaker"] == "open"


# One process


@contextmanager
def small(cluster_url: str, folder: Path, **settings: str) -> Iterator[tuple[Process, Board, Member]]:
    with (
        clusters.database(cluster_url) as url,
        serving(url, folder, **settings) as process,
        closing(Board(process.url, url)) as board,
    ):
        yield process, board, board.organization().user


def test_pool_exhausted(cluster_url: str, tmp_path: Path) -> None:
    """Connections in use and idle, and the callers that wait; those who waited in vain are counted."""
    writes, pool = 5, 2
    count, events = "db_client_connection_count", {"db_client_connection_pool_name": "events"}
    with small(cluster_url, tmp_path, DATABASE_POOL_SIZE=str(pool), BUDGETS_WRITE="10") as (process, board, user):
        user.create()

        def write() -> int:
            with httpx.Client(headers=user.http.headers, timeout=30) as client:
                return client.post(f"{process.url}/events", json=EVENT).status_code

        with moves([process]) as moved, ThreadPoolExecutor(writes) as threads, locked(board.database_url):
            running = [threads.submit(write) for _ in range(writes)]
            while waiting(board) < pool:
                assert not any(each.done() for each in running)
            for _ in patiently(process):
                told = scraped(process)
                if told[series_of("db_client_connection_pending_requests", **events)] == writes - pool:
                    break
            assert told[series_of(count, **events, db_client_connection_state="used")] == pool
            assert told[series_of(count, **events, db_client_connection_state="idle")] == 0
            assert told[series_of("db_client_connection_max", **events)] == pool
            health = httpx.get(f"{process.url}/health").json()["parts"]["events"]
            assert health["pool"] == {"most": pool, "size": pool, "in_use": pool, "idle": 0, "waiting": writes - pool}
            assert {each.result() for each in running} == {504}
        # The health check gave up; the writes' time was up when the first ones' was, and with it came their turn.
        assert (
            moved.of("db_client_connection_timeouts_total")[series_of("db_client_connection_timeouts_total", **events)]
            >= 1
        )
        told = scraped(process)
        assert told[series_of("db_client_connection_pending_requests", **events)] == 0


def test_too_many_requests(cluster_url: str, tmp_path: Path) -> None:
    """What the process refuses for being full, and what it holds meanwhile."""
    with small(cluster_url, tmp_path, SERVER_MAX_REQUESTS="1", BUDGETS_READ="60") as (process, board, user):
        event = user.create()
        with ThreadPoolExecutor(1) as threads, moves([process]) as moved:
            with locked(board.database_url):
                held = threads.submit(user.http.get, f"/events/{event['id']}")
                while waiting(board) < 1:
                    assert not held.done()
                for _ in range(3):
                    assert board.client().get("/schema/openapi.json").status_code == 503
                assert scraped(process)["http_server_active_requests"] == 1
            assert held.result().status_code == 200
        assert moved.of("eventboard_rejected_total") == {'eventboard_rejected_total{limit="requests"}': 3}
