"""Gateway, auth and events as three processes that can be killed, frozen and brought back; proxies between them."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, address_of, spawned, until_ready
from tests.support.proxy import Proxy, proxied
from tests.support.shapes import CREDENTIAL


class Service:
    """One process at an address that stays its own, so that it can come back after its end."""

    def __init__(self, target: str, database_url: str, folder: Path, **settings: str) -> None:
        self.target = target
        self.port = free_port()
        self.settings = {
            "DATABASE_URL": database_url,
            "TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
            "SERVER_PORT": str(self.port),
            "SERVER_ADMIN_PORT": str(free_port()),
            "RPC_CREDENTIAL": CREDENTIAL,
            **settings,
        }
        self._running = ExitStack()
        self.process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def launch(self) -> None:
        """Returns when it listens, ready or not."""
        self.process = self._running.enter_context(spawned("serve", "--target", self.target, **self.settings))
        self.process.url = address_of(self.process)

    def start(self) -> None:
        """Returns when it is ready."""
        self.launch()
        until_ready(self.process)

    def kill(self) -> None:
        """As a crash does, and the kernel's memory killer."""
        self.process.popen.kill()
        self.close()

    def stop(self) -> int:
        """As an orchestrator does; returns the exit code."""
        code = self.process.stop(signal.SIGTERM)
        self.close()
        return code

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.process.popen.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.popen.pid, signal.SIGCONT)

    def close(self) -> None:
        self._running.close()


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """All of them, ready, started in this order."""
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.close)
            service.start()
        yield


@dataclass
class Services:
    """`to_auth` and `to_events` are the ways between the processes; nobody calls without them."""

    auth: Service
    events: Service
    gateway: Service
    to_auth: Proxy
    to_events: Proxy
    database_url: str

    def mend(self) -> None:
        self.to_auth.mend()
        self.to_events.mend()


@contextmanager
def services(database_url: str, folder: Path, **settings: str) -> Iterator[Services]:
    """All three, ready; `settings` as for `spawned`, for each of them."""
    auth = Service("auth", database_url, folder, **settings)
    with proxied(auth.address) as to_auth:
        events = Service("events", database_url, folder, PEERS_AUTH=to_auth.url, **settings)
        with proxied(events.address) as to_events:
            peers = {"PEERS_AUTH": to_auth.url, "PEERS_EVENTS": to_events.url}
            gateway = Service("gateway", database_url, folder, **peers, **settings)
            with running(auth, events, gateway):
                yield Services(auth, events, gateway, to_auth, to_events, database_url)


@dataclass
class Replicas:
    """Without proxies: a process that isn't there refuses, and one that ends resets."""

    auth: Service
    events: list[Service]
    gateways: list[Service]
    database_url: str


@contextmanager
def replicas(
    database_url: str, folder: Path, *, events: int = 1, gateways: int = 1, **settings: str
) -> Iterator[Replicas]:
    """One auth and so many of the others, ready; `settings` as for `spawned`, for each of them."""
    auth = Service("auth", database_url, folder, **settings)
    peers = {"PEERS_AUTH": auth.url}
    several = [Service("events", database_url, folder, **peers, **settings) for _ in range(events)]
    peers["PEERS_EVENTS"] = ",".join(service.url for service in several)
    faces = [Service("gateway", database_url, folder, **peers, **settings) for _ in range(gateways)]
    with running(auth, *several, *faces):
        yield Replicas(auth, several, faces, database_url)
