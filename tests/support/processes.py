"""Real `eventboard` processes on free ports."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO
from uuid import uuid4

import httpx

from eventboard.dev.postgres import SHUT_DOWN_WITH_LAUNCHER, SUPERUSER
from tests.support.canaries import DATABASE_PASSWORD, leaks
from tests.support.forkserver import Forked, ForkServer
from tests.support.plain_http import NO_TLS
from tests.support.pooled import module_urls

# Seconds that a process may take to be ready or to end: some thirty times what it takes on two busy cores. Whoever
# waits for longer waits in vain.
PATIENCE = 90.0

_ADDRESS = r"https?://[\w.:\[\]]+"

# Argon2 with little work: a test logs in in a millisecond. What the real parameters are worth is tested by itself.
# And many tests at once ask one process: it has to keep the trace that one of them asks for. A test may call at once
# more often than any one client does.
QUICK = {
    "EVENTBOARD_PASSWORDS_MEMORY_KIB": "8",
    "EVENTBOARD_PASSWORDS_ITERATIONS": "1",
    "EVENTBOARD_TRACING_KEEP": "20000",
    "EVENTBOARD_LIMITS_CALLS_BY_USER": "1000",
    "EVENTBOARD_LIMITS_CALLS_BY_ORGANIZATION": "1000",
    # Or a developer's own database would be found.
    "EVENTBOARD_POSTGRES_DATA": "/no/such/folder",
}


@dataclass
class Process:
    """A running `eventboard` process; `output` is all it has printed."""

    popen: subprocess.Popen[bytes] | Forked
    url: str
    _output: IO[bytes] = field(repr=False)

    @property
    def output(self) -> str:
        # Without a seek: the process writes where this file, which it shares, was last left.
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Sends the signal, waits for the end, and returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(with_signal)
        return self.popen.wait(PATIENCE)


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """This process's, without settings of its own. The database's account gets a password, so that it can leak."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTBOARD_", "OTEL_"))}
    account, secret = f"://{SUPERUSER}@", f"://{SUPERUSER}:{DATABASE_PASSWORD}@"
    return {**mine, **QUICK, **{name: value.replace(account, secret) for name, value in values.items()}}


# The program itself, executed: for tests of how a process starts.
PROGRAM = ("-m", "eventboard")
fork_server = cache(ForkServer)


def _variable(name: str) -> str:
    return name if name.startswith("OTEL_") else f"EVENTBOARD_{name}"


def _secrets(settings: Mapping[str, str]) -> list[str]:
    """What is shorter would be found in innocent words."""
    return [value for name, value in settings.items() if name.endswith(("CREDENTIAL", "PASSWORD")) and len(value) > 7]


@contextmanager
def spawned(*arguments: str, program: Sequence[str] | None = None, **settings: str) -> Iterator[Process]:
    """`eventboard <arguments>`, just started; `settings` are EVENTBOARD_ variables without that prefix, or OTEL_ ones.

    It is forked from a process that has imported the program, or executed: what Python runs is `program` then.
    """
    with tempfile.TemporaryFile() as output:
        popen = _started(arguments, program, {_variable(name): value for name, value in settings.items()}, output)
        process = Process(popen, "", output)
        try:
            yield process
        finally:
            try:
                # As Ctrl-C does: without the second that a balancer would need to look away.
                process.stop(signal.SIGINT)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
                raise
        assert leaks(process.output, _secrets(settings)) == [], "it has printed a secret"


def _started(
    arguments: Sequence[str], program: Sequence[str] | None, variables: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes] | Forked:
    # OpenTelemetry reads this one while it is imported.
    if program is None and "OTEL_PROPAGATORS" not in variables:
        return fork_server().start(arguments, environment(variables), output.fileno())
    return subprocess.Popen(
        [sys.executable, *(program or PROGRAM), *arguments],
        env=environment(variables),
        stdout=output,
        stderr=subprocess.STDOUT,
        # A Ctrl-C at the terminal is for the tests, which then end it.
        start_new_session=True,
    )


@contextmanager
def serving(
    database_url: str, folder: Path, target: str = "all", *, program: Sequence[str] | None = None, **settings: str
) -> Iterator[Process]:
    """`eventboard serve` on a free port, ready; `program` and `settings` as for `spawned`."""
    values = {
        "DATABASE_URL": database_url,
        **module_urls(database_url),
        "SERVER_PORT": "0",
        "TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
        **settings,
    }
    with spawned("serve", "--target", target, program=program, **values) as process:
        process.url = address_of(process)
        until_ready(process)
        yield process


def children(pid: int) -> list[int]:
    """The processes that it has started and that haven't ended; as Linux tells it."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                # A name may hold blanks and brackets; the state comes after it.
                if not Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].startswith(" Z"):
                    found.append(int(child))
    return sorted(found)


def processes_with(text: str) -> list[str]:
    """Command lines, as `ps` tells them, without the shell that tells a PostgreSQL to end and then ends itself."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if text in line and SHUT_DOWN_WITH_LAUNCHER not in line]


def address_of(process: Process) -> str:
    """From the line in which the process says where it listens."""
    for _ in patiently(process):
        if said := re.search(rf"listening on ({_ADDRESS})", process.output):
            return said[1]
    raise AssertionError


def admin_of(process: Process) -> str:
    """Where it answers operators, from the same line."""
    for _ in patiently(process):
        if said := re.search(rf"for operators, on ({_ADDRESS})", process.output):
            return said[1]
    raise AssertionError


def until_said(process: Process, text: str) -> None:
    """A line of the log comes some milliseconds after what it tells of."""
    for _ in patiently(process):
        if text in process.output:
            return


def logged_so_far(process: Process) -> str:
    """Its output with every line about what has happened until now: lines are written late, but in order.

    For a process with a gateway.
    """
    correlation_id = uuid4().hex
    httpx.get(f"{process.url}/nowhere", headers={"x-correlation-id": correlation_id}, verify=NO_TLS, timeout=PATIENCE)
    until_said(process, correlation_id)
    return process.output


def until_it_hears(process: Process, number: int = signal.SIGTERM) -> None:
    """Python takes some 30 ms until the first line of ours: before that the kernel ends it, as any process."""
    status = Path(f"/proc/{process.popen.pid}/status")
    # SIGINT has Python's own handler before it has ours, which comes with the last of the three.
    for _ in patiently(process):
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if all(int(caught.split()[1], 16) >> wanted - 1 & 1 for wanted in (number, signal.SIGHUP)):
            return


def until_ready(process: Process) -> None:
    for _ in patiently(process):
        try:
            if httpx.get(f"{process.url}/health/ready", verify=NO_TLS).status_code == 200:
                return
        except httpx.TransportError:
            continue


def patiently(process: Process) -> Iterator[None]:
    """Goes on until the loop is left. Fails when that takes too long, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.popen.poll() is not None:
            raise AssertionError(f"it ended with {process.popen.returncode}: {process.output}")
        yield
        time.sleep(0.01)  # between two looks at another process, which can't call back
    raise AssertionError(f"it took longer than {PATIENCE:g} s: {process.output}")
