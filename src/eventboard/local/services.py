"""`make services`: gateway, auth and events as three processes on this machine, over real sockets."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from eventboard.app import ALL, admin_port_of
from eventboard.settings import PORTS, Settings

_COLOURS = {"gateway": "\033[36m", "auth": "\033[35m", "events": "\033[33m"}
# Seconds between two looks at the processes.
POLL = 0.1
# Seconds that a process's last lines may take to be printed: longer where nobody reads them.
PATIENCE = 1.0


def serve_as_services(settings: Settings, port: int, *, announce: str) -> int:
    """The gateway on `port`, auth and events on the two after it. `announce` is printed once all of them listen.

    Returns when Ctrl-C was pressed (0), or when one of them ended by itself (1).
    """
    after = {name: known - PORTS["gateway"] for name, known in PORTS.items()}
    ports = {name: port + more for name, more in after.items()}
    admin = admin_port_of(settings, ALL)
    environment = {
        **os.environ,
        "EVENTBOARD_DATABASE_URL": settings.database.url,
        # For this run only: nobody else needs to know it.
        "EVENTBOARD_RPC_CREDENTIAL": settings.rpc.credential or secrets.token_urlsafe(32),
        "EVENTBOARD_PEERS_AUTH": f"http://127.0.0.1:{ports['auth']}",
        "EVENTBOARD_PEERS_EVENTS": f"http://127.0.0.1:{ports['events']}",
    }
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if colour:
        # They write to a pipe, which is read for the terminal.
        environment["FORCE_COLOR"] = "1"
    services: list[_Service] = []
    try:
        # Services before the gateway, as in an upgrade.
        for name, host in (("auth", "127.0.0.1"), ("events", "127.0.0.1"), ("gateway", settings.server.host)):
            where = {
                "EVENTBOARD_SERVER_HOST": host,
                "EVENTBOARD_SERVER_PORT": str(ports[name]),
                "EVENTBOARD_SERVER_ADMIN_PORT": str(admin and admin + after[name]),
            }
            if name != "gateway":
                # TLS is for who comes from outside.
                where |= {"EVENTBOARD_SERVER_TLS_CERTIFICATE": "", "EVENTBOARD_SERVER_TLS_KEY": ""}
            with undisturbed():
                services.append(_Service(name, environment | where, colour=colour))
        told = False
        while not (ended := [service for service in services if service.process.poll() is not None]):
            if not told and all(service.listening.is_set() for service in services):
                told = True
                print(announce, flush=True)
            time.sleep(POLL)
    except KeyboardInterrupt:
        return 0
    else:
        for service in ended:
            print(f"eventboard: {service.name} ended with {service.process.returncode}", file=sys.stderr)
        return 1
    finally:
        # A second Ctrl-C must not leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # The gateway first: it lets nothing new in while the services finish.
        for service in reversed(services):
            service.stop()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the block is done: what has been started and isn't known yet would be left behind."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class _Service:
    """One of the processes, each line of its output labelled."""

    def __init__(self, name: str, environment: dict[str, str], *, colour: bool) -> None:
        self.name = name
        self._colour = colour
        self.listening = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eventboard", "serve", "--target", name, "--parent", str(os.getpid())],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which stops them in order.
            process_group=0,
        )
        self._labels = threading.Thread(target=self._label, args=(self.process.stdout,), daemon=True)
        self._labels.start()

    def stop(self) -> None:
        if self.process.poll() is None:
            # SIGINT spares the second in which a balancer looks away; before its first line Python would answer it
            # with a traceback.
            self.process.send_signal(signal.SIGINT if self.listening.is_set() else signal.SIGTERM)
        self.process.wait()
        self._labels.join(PATIENCE)

    def _label(self, lines: IO[bytes]) -> None:
        label = f"{self.name:<7} | "
        if self._colour:
            label = f"{_COLOURS[self.name]}{label}\033[0m"
        for line in lines:
            if b"listening on http" in line:
                self.listening.set()
            said = f"{label}{line.decode(errors='replace').rstrip()}\n"
            # Past Python's buffer: a thread that waits in there keeps the process from ending.
            os.write(sys.stdout.fileno(), said.encode())
