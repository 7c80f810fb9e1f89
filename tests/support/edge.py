"""Proxies in front of the gateway; that of compose.yaml is HAProxy, with the configuration of the repository."""

import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, Process, admin_of

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "edge" / "haproxy" / "haproxy.cfg"
# Characters of a log that a failure shows.
LAST = 3000
GATEWAYS = "    server-template gateway 1-10 api:3000 resolvers containers init-addr none\n"


@dataclass
class Edge:
    """A running proxy; `output` is all it has printed, `tls` is whom its clients trust."""

    popen: subprocess.Popen[bytes]
    url: str
    tls: ssl.SSLContext
    _output: IO[bytes]

    @property
    def output(self) -> str:
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/live", verify=self.tls).status_code == 200
        return False


@contextmanager
def launched(
    command: Sequence[str | Path], url: str, environment: Mapping[str, str], tls: ssl.SSLContext = NO_TLS
) -> Iterator[Edge]:
    """It has found a gateway ready."""
    with tempfile.TemporaryFile() as output:
        variables = {**os.environ, **environment}
        popen = subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT)
        running = Edge(popen, url, tls, output)
        try:
            until(running, running.is_ready)
            yield running
        finally:
            # At once: HAProxy's SIGUSR1 would let connections go on.
            popen.terminate()
            try:
                popen.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                popen.kill()
                raise


def place(process: Process) -> str:
    """As HAProxy wants it: an address, and the port that is asked whether it is ready."""
    return f"{urlsplit(process.url).netloc} port {urlsplit(admin_of(process)).port}"


@contextmanager
def edge(*gateways: str, **environment: str) -> Iterator[Edge]:
    """It has found a gateway ready. `gateways` are like `127.0.0.1:3000 port 3900`, the admin port."""
    text = CONFIGURATION.read_text()
    assert GATEWAYS in text
    servers = "".join(f"    server gateway{number} {address}\n" for number, address in enumerate(gateways))
    listen = f"127.0.0.1:{free_port()}"
    # All of a test's clients have one address.
    fixed = {"EDGE_LISTEN": listen, "TRUSTED_PROXIES": "", "EDGE_REQUESTS_BY_ADDRESS": "1000000"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text.replace(GATEWAYS, servers))
        with launched(["haproxy", "-W", "-db", "-f", file], f"http://{listen}", {**fixed, **environment}) as running:
            yield running


def until(running: Edge, true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert running.popen.poll() is None, running.output[-LAST:]
        assert time.monotonic() < end, running.output[-LAST:]
        time.sleep(0.02)
