"""More requests than a process holds: those too many are told at once to come back, and health is answered still."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board
from tests.support.load import at_once, gateway_seconds, timed
from tests.support.problems import assert_problem
from tests.support.services import Service, running
from tests.support.sessions import locked, waiting
from tests.support.stopwatch import Stopwatch

MOST = 5
# Seconds within which one too many is told.
AT_ONCE = 0.02


@pytest.fixture(params=["gateway", "events"])
def full(request: pytest.FixtureRequest, cluster_url: str, tmp_path: Path) -> Iterator[tuple[Service, Board]]:
    """A process that takes so many requests, and a board on all three."""
    with clusters.database(cluster_url) as url:
        auth = Service("auth", url, tmp_path)
        events = Service("events", url, tmp_path, PEERS_AUTH=auth.url)
        gateway = Service("gateway", url, tmp_path, PEERS_AUTH=auth.url, PEERS_EVENTS=events.url)
        service = {"gateway": gateway, "events": events}[request.param]
        service.settings["SERVER_MAX_REQUESTS"] = str(MOST)
        for each in (events, gateway):
            # What a test keeps waiting for a lock waits until it lets go.
            each.settings["BUDGETS_WRITE"] = "60"
        with running(auth, events, gateway), closing(Board(gateway.url, url)) as board:
            yield service, board


def test_one_too_many(full: tuple[Service, Board]) -> None:
    """503 with Retry-After within 20 ms, safe to repeat. The others are served, and so is the next in time."""
    service, board = full
    user = board.organization().user

    def write() -> httpx.Response:
        return user.http.post("/events", json=EVENT)

    with ThreadPoolExecutor(MOST) as pool, locked(board.database_url):
        held = [pool.submit(write) for _ in range(MOST)]
        while waiting(board) < MOST:
            assert not any(write.done() for write in held)
        refused = [timed(write) for _ in range(20)]
        crowd = at_once([write] * 40)
        with httpx.Client(base_url=service.url) as prober:
            for path in ("/health", "/health/live", "/health/ready"):
                assert prober.get(path).status_code == 200
        assert not any(write.done() for write in held)
    assert [write.result().status_code for write in held] == [201] * MOST
    for call in refused + crowd:
        assert assert_problem(call.answer, "unavailable")["retryable"]
        assert call.answer.headers["retry-after"] == "1"
    # By the gateway's clock, which leaves out what a busy machine does to this client; and here, once at least.
    assert median(gateway_seconds(call.answer) for call in refused) < AT_ONCE
    assert min(call.own for call in refused) < AT_ONCE
    assert write().status_code == 201


def test_full_and_stuck(full: tuple[Service, Board]) -> None:
    """A process of which no request has ended for 5 s isn't ready, until one ends."""
    service, board = full
    user = board.organization().user
    with ThreadPoolExecutor(MOST) as pool, httpx.Client(base_url=service.url) as prober:
        with locked(board.database_url):
            held = [pool.submit(user.http.post, "/events", json=EVENT) for _ in range(MOST)]
            stuck = Stopwatch()
            while prober.get("/health/ready").status_code == 200:
                assert stuck.seconds < 9
                time.sleep(0.1)  # between two looks at another process
            assert prober.get("/health/live").status_code == 200
            assert not any(write.done() for write in held)
        assert [write.result().status_code for write in held] == [201] * MOST
        assert prober.get("/health/ready").status_code == 200
