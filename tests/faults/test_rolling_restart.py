"""A new version comes in while clients go on: one replica after the other ends and starts, and no request fails."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from tests.support import cluster as clusters
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.load import Call, Load, load
from tests.support.processes import logged_so_far
from tests.support.services import Replicas, Service, replicas

# Clients that call all the time, each on connections of its own.
CLIENTS = 6
# Rounds in which each replica is restarted once.
ROUNDS = 2


class Balancer:
    """What stands before gateways: asks each whether it is ready, ten times a second, and takes turns."""

    def __init__(self, gateways: list[Service]) -> None:
        self._gateways = gateways
        self._ready = [gateway.url for gateway in gateways]
        self._turns = itertools.count()
        self._over = threading.Event()

    def next(self) -> str:
        ready = self._ready
        return ready[next(self._turns) % len(ready)]

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _look(self) -> None:
        with httpx.Client(timeout=1) as client:
            while not self._over.wait(0.1):
                self._ready = [gateway.url for gateway in self._gateways if self._is_ready(client, gateway)]

    def _is_ready(self, client: httpx.Client, gateway: Service) -> bool:
        try:
            return client.get(f"{gateway.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def busy(deployed: Replicas) -> Iterator[Load]:
    """Clients read, write and log in through the balancer."""
    with closing(Board(deployed.gateways[0].url, deployed.database_url)) as board:
        user = board.organization().user
        event = user.create()
        balancer = Balancer(deployed.gateways)

        def calls(client: httpx.Client) -> Iterator[Call]:
            body = {"email": user.email, "password": PASSWORD}
            yield lambda: client.get(f"{balancer.next()}/events/{event['id']}")
            yield lambda: client.post(f"{balancer.next()}/events", json=EVENT)
            yield lambda: client.get(f"{balancer.next()}/events")
            yield lambda: client.post(f"{balancer.next()}/auth/login", json=body)

        def client_of() -> Call:
            turns = itertools.cycle(calls(board.client(user.token)))
            return lambda: next(turns)()

        with balancer.looking(), load([client_of() for _ in range(CLIENTS)]) as clients:
            yield clients
            # And a moment of calm.
            calm = clients.total + 50
            while clients.total < calm:
                time.sleep(0.01)
        written = board.sql("SELECT count(*) FROM events.events")[0][0]
        assert written == 1 + clients.statuses[201]


def restart(*services: Service) -> None:
    for service in services:
        assert service.stop() == 0
        service.start()


def test_events(cluster_url: str, tmp_path: Path) -> None:
    """Two replicas of events."""
    with clusters.database(cluster_url) as url, replicas(url, tmp_path, events=2, LIMITS_SESSIONS="0") as deployed:
        with busy(deployed) as clients:
            for _ in range(ROUNDS):
                restart(*deployed.events)
        assert clients.failures == []
        # Nor did any wait for a retry: nobody was asked who was about to end.
        assert "; retry" not in logged_so_far(deployed.gateways[0].process)


def test_gateways(cluster_url: str, tmp_path: Path) -> None:
    """Two gateways."""
    # A balancer that shares its cores with the clients may look late.
    patient = {"LIMITS_SESSIONS": "0", "SERVER_DRAIN": "3"}
    with (
        clusters.database(cluster_url) as url,
        replicas(url, tmp_path, events=1, gateways=2, **patient) as deployed,
    ):
        with busy(deployed) as clients:
            for _ in range(ROUNDS):
                restart(*deployed.gateways)
        assert clients.failures == []
