"""The way to PostgreSQL is lost: without a word, as by a firewall, or because every session ends."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from eventboard.db import migrations
from eventboard.db.pool import PROBE_AFTER
from eventboard.dev.postgres import SUPERUSER
from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Member
from tests.support.lasting import lasting
from tests.support.load import TRIES, at_once
from tests.support.processes import Process, patiently, serving
from tests.support.proxy import proxied

# Requests at once, by which a pool comes to have connections.
WARM = 12


def pools(url: str) -> list[dict[str, Any]]:
    parts = httpx.get(f"{url}/health").json()["parts"]
    return [parts[module]["pool"] for module in ("auth", "events")]


def until_unused(process: Process) -> list[dict[str, Any]]:
    """What goes on beside requests (leases, session checks) may use a connection for a moment longer."""
    for _ in patiently(process):
        found = pools(process.url)
        if all((pool["in_use"], pool["waiting"]) == (0, 0) for pool in found):
            return found
    raise AssertionError


def warm(user: Member) -> None:
    assert all(call.answer.is_success for call in at_once([lambda: user.http.get("/events")] * WARM))


@pytest.mark.parametrize("idle", [PROBE_AFTER, 0], ids=["idle", "busy"])
def test_connections_that_vanish(cluster_url: str, tmp_path: Path, idle: float) -> None:
    """One request fails, 504 at the end of its budget; none where the connections were idle for a second."""
    with clusters.database(cluster_url) as url:
        address = urlsplit(url)
        socket = Path(parse_qs(address.query)["host"][0], ".s.PGSQL.5432")
        with (
            proxied(socket) as proxy,
            serving(
                f"postgresql://{SUPERUSER}@127.0.0.1:{proxy.port}{address.path}",
                tmp_path,
                BUDGETS_READ="1",
                BUDGETS_LIST="1",
                BUDGETS_WRITE="1",
            ) as process,
            closing(Board(process.url, url)) as board,
        ):
            user = board.organization().user
            requests: list[Callable[[], httpx.Response]] = [
                lambda: user.http.get("/events"),
                lambda: user.http.post("/events", json=EVENT),
            ]
            for _ in range(TRIES):
                begun = time.monotonic()
                warm(user)
                time.sleep(idle)  # what the probe goes by
                proxy.swallow()
                in_time = idle or time.monotonic() - begun < PROBE_AFTER / 2
                answers = [request().status_code for request in requests * WARM]
                if in_time:  # else a busy machine has let them be idle
                    break
            assert answers[:1] == [200 if idle else 504]
            assert answers[1:] == ([201, 200] * WARM)[: 2 * WARM - 1]
            until_unused(process)


def test_pools_after_a_restart(tmp_path: Path) -> None:
    """Health counts no connection that ended with the server, and none as in use that nobody uses."""
    with lasting() as server:
        asyncio.run(migrations.migrate(server.url))
        with serving(server.url, tmp_path) as process, closing(Board(process.url, server.url)) as board:
            user = board.organization().user
            warm(user)
            assert pools(process.url)[1]["size"] > 1
            for end in (server.stop, server.end_at_once):
                end()
                gone = pools(process.url)
                server.start()
                assert [(pool["size"], pool["in_use"], pool["waiting"]) for pool in gone] == [(0, 0, 0)] * 2
                warm(user)
                _, pool = until_unused(process)
                assert 0 < pool["idle"] == pool["size"]
