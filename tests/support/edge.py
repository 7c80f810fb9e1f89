"""The edge of compose.yaml: HAProxy itself, with the configuration of the repository."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import PATIENCE

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "edge" / "haproxy.cfg"
GATEWAYS = "    server-template gateway 1-10 api:3000 resolvers containers init-addr none\n"


@dataclass
class Edge:
    """A running HAProxy; `output` is all it has printed."""

    popen: subprocess.Popen[bytes]
    url: str
    _output: IO[bytes]

    @property
    def output(self) -> str:
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/live", verify=NO_TLS).status_code == 200
        return False


@contextmanager
def edge(*gateways: str, **environment: str) -> Iterator[Edge]:
    """It has found a gateway ready. `gateways` are like `127.0.0.1:3000 port 3900`, the admin port."""
    text = CONFIGURATION.read_text()
    assert GATEWAYS in text
    servers = "".join(f"    server gateway{number} {address}\n" for number, address in enumerate(gateways))
    listen = f"127.0.0.1:{free_port()}"
    fixed = {"EDGE_LISTEN": listen, "TRUSTED_PROXIES": ""}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text.replace(GATEWAYS, servers))
        popen = subprocess.Popen(
            ["haproxy", "-W", "-db", "-f", file],
            env={**os.environ, **fixed, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        running = Edge(popen, f"http://{listen}", output)
        try:
            until(running, running.is_ready)
            yield running
        finally:
            # At once: SIGUSR1 would let connections go on.
            popen.send_signal(signal.SIGTERM)
            popen.wait(PATIENCE)


def until(running: Edge, true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert running.popen.poll() is None, running.output
        assert time.monotonic() < end, running.output
        time.sleep(0.02)
