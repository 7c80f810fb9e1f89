"""Several replicas of events: calls spread, a dead one is left out, and one that comes back is used."""

import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.black_hole import black_hole
from tests.support.board import Board, Member
from tests.support.load import load
from tests.support.services import Replicas, Service, replicas
from tests.support.stopwatch import Stopwatch

# Seconds: within which a dead replica is left out (the connect timeout, and some for a busy machine), and one that is
# back used; what a call takes when it waits for nobody.
LEFT_OUT, USED, PROMPT = 1.3, 4.0, 0.5
# Seconds that clients go on then.
LATER = 3.0
CLIENTS = 6


@pytest.fixture(scope="module")
def deployed(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with clusters.database(cluster_url) as url, replicas(url, folder, events=2) as deployed:
        yield deployed


@pytest.fixture
def user(deployed: Replicas) -> Iterator[Member]:
    with closing(Board(deployed.gateways[0].url, deployed.database_url)) as board:
        yield board.organization().user


def served(replica: Service) -> int:
    """How many calls it has answered since its start."""
    return replica.process.output.count("POST /rpc/events.")


def until_used(replica: Service) -> None:
    back = Stopwatch()
    while not served(replica):
        assert back.seconds < USED


def test_spread(deployed: Replicas, user: Member) -> None:
    """In turns."""
    before = [served(replica) for replica in deployed.events]
    for _ in range(20):
        assert user.http.get("/events").status_code == 200
    begun = Stopwatch()
    # Their lines come a moment after the answers.
    while (
        sum(answered := [served(replica) - count for replica, count in zip(deployed.events, before, strict=True)]) < 20
    ):
        assert begun.seconds < USED, answered
    assert answered == [10, 10]


def test_killed(deployed: Replicas, user: Member) -> None:
    """No request fails; soon none waits either; and it is used again when it is back."""
    _, victim = deployed.events

    def read() -> httpx.Response:
        return user.http.get("/events")

    with load([read] * CLIENTS) as clients:
        victim.kill()
        time.sleep(LEFT_OUT)  # the time it has
        with load([read] * CLIENTS) as later:
            time.sleep(LATER)  # the clients' time
        victim.start()
        until_used(victim)
    assert clients.failures == later.failures == []
    assert later.slower_than(PROMPT) == 0


def test_swallowed(deployed: Replicas, user: Member) -> None:
    """Connections are neither made nor refused, as when its machine is gone: one call at a time finds that out."""
    _, victim = deployed.events

    def read() -> httpx.Response:
        return user.http.get("/events")

    victim.stop()
    with black_hole(victim.port), load([read] * CLIENTS) as clients:
        time.sleep(LEFT_OUT)  # the time it has
        with load([read] * CLIENTS) as later:
            time.sleep(LATER)  # the clients' time
    victim.start()
    assert clients.failures == later.failures == []
    # A try takes the connect timeout of a second, and the next one comes a second after it.
    assert later.slower_than(PROMPT) <= 2
    with load([read]):
        until_used(victim)
