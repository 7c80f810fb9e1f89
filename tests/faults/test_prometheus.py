"""The real Prometheus watches the three processes while things go wrong: alerts fire and end, every panel has data."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.faults.conftest import SMALL
from tests.support import cluster as clusters
from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.load import load
from tests.support.processes import admin_of
from tests.support.prometheus import HERE, Prometheus, prometheus
from tests.support.services import Services, services

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus is installed")


@pytest.fixture(scope="module")
def watched(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """With the breaker's own numbers, quick retries, and two connections to the database for each pool."""
    settings = {**SMALL, "RETRIES_FIRST_WAIT": "0.05", "BREAKER_LEAST_CALLS": "20", "DATABASE_POOL_SIZE": "2"}
    folder = tmp_path_factory.mktemp("watched")
    with clusters.database(cluster_url) as url, services(url, folder, **settings) as three:
        yield three


@pytest.fixture
def three(watched: Services) -> Iterator[Services]:
    yield watched
    watched.mend()


@pytest.fixture
def watcher(three: Services, tmp_path: Path) -> Iterator[Prometheus]:
    targets = {
        service.target: [admin_of(service.process).partition("://")[2]]
        for service in (three.gateway, three.auth, three.events)
    }
    with prometheus(tmp_path, targets) as watcher:
        yield watcher


def test_day_of_an_operator(three: Services, board: Board, organization: Organization, watcher: Prometheus) -> None:
    begun = time.time()
    with load(_traffic(board, organization)):
        watcher.until_over("EventBoardErrorBurnFast", "EventBoardDown")

        # First, since quick requests, once there are many, outweigh the slow ones of a minute.
        with _locked(three.database_url, again=True):
            watcher.until_firing("EventBoardLatencyBurnFast")
        watcher.until_over("EventBoardLatencyBurnFast")

        three.to_events.refuse()
        watcher.until_firing("EventBoardErrorBurnFast", "EventBoardBreakerOpen", "EventBoardRetries")
        three.to_events.mend()
        watcher.until_over("EventBoardErrorBurnFast", "EventBoardBreakerOpen", "EventBoardRetries")

        with _locked(three.database_url, again=False):
            watcher.until_firing("EventBoardPoolExhausted", "EventBoardDeadlines")
        watcher.until_over("EventBoardPoolExhausted", "EventBoardDeadlines")

        with three.auth.frozen():
            watcher.until_firing("EventBoardSessionChecksUnanswered")
        three.events.kill()
        watcher.until_firing("EventBoardDown")
        three.events.start()
        watcher.until_over("EventBoardDown", "EventBoardSessionChecksUnanswered")
    empty = [f"{panel}: {expression}" for panel, expression in _panels() if not watcher.query(expression, since=begun)]
    assert not empty, "\n".join(empty)


def _traffic(board: Board, organization: Organization) -> list[Callable[[], httpx.Response]]:
    user, event = organization.user, organization.event_in("APPROVED")
    path, anonymous = f"/events/{event['id']}", board.client()
    account = {"email": user.email, "password": PASSWORD}

    def create() -> httpx.Response:
        key = {"idempotency-key": uuid4().hex}
        user.http.post("/events", json=EVENT, headers=key)
        return user.http.post("/events", json=EVENT, headers=key)

    def log_in() -> httpx.Response:
        anonymous.post("/auth/login", json={**account, "password": "wrong"})
        return anonymous.post("/auth/login", json=account)

    def read() -> httpx.Response:
        return organization.other.http.get(path)

    return [create, log_in, *[read] * 4]


@contextmanager
def _locked(database_url: str, *, again: bool) -> Iterator[None]:
    """Whoever reads or writes events waits: for half a second, again and again, or all the time."""

    async def lock() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            while True:
                await connection.execute("BEGIN; LOCK TABLE events.events; SELECT pg_sleep(0.5)")
                if again:
                    await connection.execute("COMMIT")
        finally:
            connection.terminate()

    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        loop = runner.get_loop()
        task = loop.create_task(lock())
        ended = thread.submit(lambda: loop.run_until_complete(asyncio.wait([task])))
        try:
            yield
        finally:
            loop.call_soon_threadsafe(task.cancel)
            ended.result()


def _panels() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard that is Prometheus' to answer, as Grafana would send it."""
    dashboard: dict[str, Any] = json.loads((HERE / "grafana" / "dashboards" / "eventboard.json").read_text())
    log_fields = dashboard["annotations"]["list"]
    asked = [*dashboard["panels"], *({**note, "title": note["name"], "targets": [note]} for note in log_fields)]
    for panel in asked:
        if panel.get("datasource", {}).get("uid") == "prometheus":
            for target in panel["targets"]:
                yield panel["title"], target["expr"].replace("$__rate_interval", "5s")
