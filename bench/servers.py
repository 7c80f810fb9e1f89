"""The servers that are measured, each by itself and pinned to one core."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from msgspec import Struct

from bench.data import MIDDLE, OURS, ROOT, THEIRS, WRITER, Data, organization
from bench.limit import BUN, FASTIFY, FOLDER, limits
from eventboard.dev.demo import demo_id
from eventboard.modules.auth.keys import KeyRing

SERVER_CORE, LOAD_CORE = "0", "1"
PORT = int(os.environ.get("BENCH_PORT", "4600"))
SECRET = "a secret of the usual baseline's, for as long as it is measured"  # noqa: S105 - signs nothing of value
START = 30.0  # seconds

ONE, THREE, BARE, USUAL = "one process", "three processes", "bare", "usual"
BASELINES = {BARE: "bench.baselines.bare:app", USUAL: "bench.baselines.usual:app"}
LIMITS = (FASTIFY, BUN)


class Server(Struct, frozen=True):
    name: str
    url: str
    ready_after: float
    processes: tuple[int, ...]
    postmaster: int

    def cpu(self) -> float:
        """Seconds of processor time so far, of all its processes."""
        return sum(_cpu(process) for process in self.processes)

    def database_cpu(self) -> "Spent":
        """Likewise, of what PostgreSQL runs now."""
        return Spent({process: _cpu(process) for process in _children([self.postmaster])})

    def memory(self) -> list[float]:
        """Resident MiB of each process."""
        return [_memory(process) for process in self.processes]


def environment(data: Data, folder: Path) -> dict[str, str]:
    """Production's settings: everything on, one request in a hundred traced. The log is written, to nowhere."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTBOARD_", "OTEL_"))}
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    keys = folder / "keys"
    KeyRing(keys, create=True)
    return {
        **plain,
        "EVENTBOARD_ENVIRONMENT": "production",
        "EVENTBOARD_SERVER_HOST": "127.0.0.1",
        "EVENTBOARD_SERVER_TRUSTED_PROXIES": "none",
        "EVENTBOARD_DATABASE_URL": data.url(OURS),
        "EVENTBOARD_TOKENS_KEY_FILE": str(keys),
        # One member and one address send it all: everything is counted, and nothing is rejected.
        "EVENTBOARD_LIMITS_REQUESTS": "1000000000",
        "EVENTBOARD_LIMITS_LOGIN_BY_ADDRESS": "1000000000",
        "EVENTBOARD_LIMITS_LOGIN_BY_ACCOUNT": "1000000000",
        # The part `login` logs in often, and a session beyond the limit would end those that the other parts use.
        "EVENTBOARD_LIMITS_SESSIONS": "1000000000",
        "EVENTBOARD_RPC_CREDENTIAL": "as long as production asks for: 0123456789",
        "EVENTBOARD_PEERS_AUTH": f"http://127.0.0.1:{PORT + 1}",
        "EVENTBOARD_PEERS_EVENTS": f"http://127.0.0.1:{PORT + 2}",
        "BENCH_POSTMASTER": str(data.postmaster()),
        "BENCH_DATABASE_URL": data.url(THEIRS),
        "BENCH_ORGANIZATION": str(organization(MIDDLE)),
        "BENCH_AUTHOR": str(demo_id(WRITER)),
        "BENCH_SECRET": SECRET,
    }


class Spent(Struct, frozen=True):
    """Seconds of processor time by process: they come and go."""

    of: dict[int, float]

    def __sub__(self, before: "Spent") -> float:
        return sum(seconds - before.of.get(process, 0.0) for process, seconds in self.of.items())


@contextmanager
def running(
    name: str,
    environ: Mapping[str, str],
    source: Path = ROOT,
    program: str = "eventboard",
    port: int = PORT,
) -> Iterator[Server]:
    """The server, once it is ready; `source` is the checkout that EventBoard is run from, `program` its module.

    `port` is its first one; three processes have three in a row.
    """
    environ = {**environ, "PYTHONPATH": str(source / "src")}
    serve = [sys.executable, "-m", program, "serve"]
    with ExitStack() as stack:
        begun = time.monotonic()
        if name in BASELINES:
            # Uvicorn's line for each request off: a baseline writes no log.
            bare = [sys.executable, "-m", "uvicorn", BASELINES[name], "--app-dir", str(ROOT), "--no-access-log"]
            processes = [stack.enter_context(_process([*bare, "--port", str(port)], environ, port))]
        elif name in LIMITS:
            environ["BENCH_LIMIT_PORT"] = str(port)
            processes = [stack.enter_context(_process(limits()[name], environ, port, FOLDER))]
        elif name == THREE:
            processes = [
                stack.enter_context(_process([*serve, "--target", part], environ, port + offset))
                for part, offset in (("auth", 1), ("events", 2), ("gateway", 0))
            ]
        else:
            processes = [stack.enter_context(_process(serve, environ, port))]
        baseline = name in (*BASELINES, *LIMITS)
        for offset in range(3 if name == THREE else 1):
            path = "/events/00000000-0000-0000-0000-000000000000" if baseline else "/health/ready"
            _wait(f"http://127.0.0.1:{port + offset}{path}", processes, any_status=baseline)
        ready_after = time.monotonic() - begun
        ids = [process.pid for process in processes]
        everyone = tuple(ids + _children(ids))
        yield Server(name, f"http://127.0.0.1:{port}", ready_after, everyone, int(environ["BENCH_POSTMASTER"]))


@contextmanager
def _process(
    command: Sequence[str], environ: Mapping[str, str], port: int, folder: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["/usr/bin/taskset", "-c", SERVER_CORE, *command],
        env={**environ, "EVENTBOARD_SERVER_PORT": str(port)},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        # No request is left: it needn't wait for any.
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, processes: Sequence[subprocess.Popen[bytes]], *, any_status: bool) -> None:
    end = time.monotonic() + START
    while True:
        try:
            with urlopen(url):  # noqa: S310 - the address is ours
                return
        except HTTPError as answer:
            if any_status:
                return
            reason: Any = answer
        except OSError as error:
            reason = error
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            sys.exit(f"{url} did not get ready: {reason}")
        time.sleep(0.01)


def _children(parents: Sequence[int]) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent in parents:
            found.append(int(stat.parent.name))
    return found


def _cpu(process: int) -> float:
    """To the microsecond, of all its threads: /proc/…/stat counts hundredths of a second."""
    seconds = 0.0
    for schedstat in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            seconds += int(schedstat.read_text().split()[0]) / 1e9
        except OSError:
            continue  # it has ended meanwhile
    return seconds


def _memory(process: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
