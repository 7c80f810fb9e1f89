"""PostgreSQL goes away under load, and comes back."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from eventboard.db import migrations
from tests.faults.conftest import SMALL
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.lasting import Lasting, lasting
from tests.support.load import Call, at_once, load
from tests.support.problems import assert_problem
from tests.support.services import services
from tests.support.sessions import assert_whole
from tests.support.stopwatch import Stopwatch

# Seconds: how long it is away, and within which everything is served again.
AWAY, BACK = 1.0, 5.0


@pytest.mark.parametrize("end", [Lasting.stop, Lasting.end_at_once], ids=["stopped", "crashed"])
def test_down_and_up(tmp_path: Path, end: Callable[[Lasting], None]) -> None:
    """503 meanwhile, and nothing else; served within 5 s of its return, by the same processes, with whole pools."""
    with (
        migrated() as cluster,
        services(cluster.url, tmp_path, **SMALL) as three,
        closing(Board(three.gateway.url, cluster.url)) as board,
    ):
        user = board.organization().user
        event = user.create()
        login = {"email": user.email, "password": PASSWORD}
        calls: list[Call] = [
            lambda: user.http.get(f"/events/{event['id']}"),
            lambda: user.http.post("/events", json=EVENT),
            lambda: user.http.get("/events"),
            lambda: user.http.post("/auth/login", json=login),
        ]

        def served() -> bool:
            return all(call.answer.is_success for call in at_once(calls))

        with load(calls) as meanwhile:
            end(cluster)
            for call in at_once(calls):
                problem = assert_problem(call.answer, "unavailable")
                assert call.answer.headers["retry-after"] == "1"
                assert problem["retryable"] is (call.answer.request.method == "GET")
            assert ready(three.events.url, three.auth.url, three.gateway.url) == [503, 503, 200]
            time.sleep(AWAY)  # the fault itself
            cluster.start()
            back = Stopwatch()
            while not served():
                assert back.seconds < BACK
        assert meanwhile.statuses.keys() <= {200, 201, 503}
        assert all("/problems/unavailable" in failure for failure in meanwhile.failures)
        assert ready(three.events.url, three.auth.url, three.gateway.url) == [200, 200, 200]
        # More than the pools hold, at once.
        assert all(call.answer.is_success for call in at_once(calls[:2] * 15))
        assert_whole(board)


@contextmanager
def migrated() -> Iterator[Lasting]:
    with lasting() as cluster:
        asyncio.run(migrations.migrate(cluster.url))
        yield cluster


def ready(*urls: str) -> list[int]:
    return [httpx.get(f"{url}/health/ready", timeout=10).status_code for url in urls]
