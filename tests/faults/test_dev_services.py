"""`eventboard dev --services`, that is `make services`: three processes and a PostgreSQL that end together."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from eventboard.settings import ADMIN_ABOVE
from tests.support.cluster import public_folder
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, Process, children, environment, patiently, spawned

ACCOUNT = {"email": "user@acme.com", "password": "Password123!"}


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """One data folder for all: whatever a test does to it, the next start must get along with it."""
    with public_folder() as folder:
        yield {
            "POSTGRES_DATA": str(folder / "postgres"),
            "POSTGRES_BIN": os.environ.get("EVENTBOARD_POSTGRES_BIN", ""),
            "TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
            # Gateway, auth and events have a port each, and one for operators.
            "SERVER_PORT": str(free_port(1, 2, ADMIN_ABOVE, ADMIN_ABOVE + 1, ADMIN_ABOVE + 2)),
        }


@contextmanager
def dev(settings: dict[str, str]) -> Iterator[Process]:
    """Up, by its own word."""
    with spawned("dev", "--services", **settings) as process:
        for _ in patiently(process):
            if "EventBoard is on" in process.output:
                break
        process.url = f"http://127.0.0.1:{settings['SERVER_PORT']}"
        yield process


def family(pid: int) -> list[int]:
    """All that it has started, and what those have."""
    return [one for child in children(pid) for one in (child, *family(child))]


def assert_gone(pids: list[int], settings: dict[str, str]) -> None:
    end = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
    first = int(settings["SERVER_PORT"])
    for port in range(first, first + 3):
        socket.create_server(("127.0.0.1", port)).close()


def test_up_and_down_and_up(settings: dict[str, str]) -> None:
    """Served when it says so; every line tells whose it is; one Ctrl-C ends all, and the data stays."""
    with dev(settings) as process:
        login = httpx.post(f"{process.url}/auth/login", json=ACCOUNT)
        assert login.status_code == 200
        headers = {"authorization": f"Bearer {login.json()['accessToken']}"}
        event = {
            "title": "To stay",
            "description": "It is there next time.",
            "startDate": "2027-01-01T10:00:00Z",
            "endDate": "2027-01-01T11:00:00Z",
        }
        created = httpx.post(f"{process.url}/events", json=event, headers=headers)
        assert created.status_code == 201
        started = family(process.popen.pid)
        assert process.stop(signal.SIGINT) == 0
        assert_gone(started, settings)
        lines = process.output.splitlines()
        assert any(line.startswith("gateway | ") and "POST /events 201" in line for line in lines)
        assert any(line.startswith("auth    | ") and "POST /rpc/auth.login 200" in line for line in lines)
        assert any(line.startswith("events  | ") and "POST /rpc/events.create 200" in line for line in lines)
        assert "Traceback" not in process.output
    with dev(settings) as process:
        assert httpx.get(f"{process.url}{created.headers['location']}", headers=headers).status_code == 200
        started = family(process.popen.pid)
        # As `kill` does, and whatever supervises a developer's processes.
        assert process.stop(signal.SIGTERM) == 0
        assert_gone(started, settings)


@pytest.mark.parametrize("after", [0, 0.3, 1, 2])
def test_ended_while_it_starts(settings: dict[str, str], after: float) -> None:
    """Ctrl-C leaves nothing behind, whatever has been started by then."""
    with spawned("dev", "--services", **settings) as process:
        for _ in patiently(process):
            if children(process.popen.pid):
                break
        started = family(process.popen.pid)
        time.sleep(after)  # the moment that is tried
        started += family(process.popen.pid)
        assert process.stop(signal.SIGINT) == 0
        assert_gone(started, settings)
        assert "Traceback" not in process.output


# `eventboard`, and Ctrl-C at the very moment when a service has been started.
INTERRUPTED = """
import os, signal, subprocess, sys

class Popen(subprocess.Popen):
    def __init__(self, command, *arguments, **options):
        super().__init__(command, *arguments, **options)
        if "events" in command:
            print("started", self.pid, flush=True)
            os.kill(os.getpid(), signal.SIGINT)

subprocess.Popen = Popen
from eventboard.__main__ import main
sys.exit(main())
"""


def test_ended_while_a_service_starts(settings: dict[str, str]) -> None:
    """What has just been started is known already, and ended before the command is."""
    with spawned("dev", "--services", program=("-c", INTERRUPTED), **settings) as process:
        assert process.popen.wait(PATIENCE) == 0
        [pid] = re.findall(r"^started (\d+)$", process.output, re.MULTILINE)
        assert not Path(f"/proc/{pid}").exists()
        assert_gone([], settings)
        assert "Traceback" not in process.output


@pytest.mark.parametrize("wanted", [True, False], ids=["colour", "NO_COLOR"])
def test_on_a_terminal(settings: dict[str, str], wanted: bool) -> None:
    """Label and level are coloured, unless nobody wants that."""
    values = environment({f"EVENTBOARD_{name}": value for name, value in settings.items()})
    values["NO_COLOR"] = "" if wanted else "1"
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "eventboard", "dev", "--services"]
    popen = subprocess.Popen(command, env=values, stdout=terminal, stderr=terminal, start_new_session=True)
    try:
        output = b""
        while b"Ctrl-C stops it" not in output:
            output += os.read(reader, 65_536)
        (line,) = [line for line in output.splitlines() if b"gateway" in line and b"listening on" in line]
        assert (b"\033[36mgateway | \033[0m" in line) is wanted
        assert (b"\033[1mINFO   \033[0m" in line) is wanted
        assert (b"\033" in output) is wanted
    finally:
        popen.send_signal(signal.SIGINT)
        assert popen.wait(PATIENCE) == 0
        os.close(reader)
        os.close(terminal)


def test_output_that_nobody_reads(settings: dict[str, str]) -> None:
    """One Ctrl-C ends all the same, though a line waits to be printed."""
    values = {f"EVENTBOARD_{name}": value for name, value in settings.items()}
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "eventboard", "dev", "--services"]
    popen = subprocess.Popen(command, env=environment(values), stdout=writer, stderr=writer, start_new_session=True)
    try:
        output = b""
        while b"Ctrl-C stops it" not in output:
            output += os.read(reader, 65_536)
        started = family(popen.pid)
        end = time.monotonic() + PATIENCE
        # As long as the pipe has room.
        while select.select([], [writer], [], 0)[1]:
            assert time.monotonic() < end
            httpx.get(f"http://127.0.0.1:{settings['SERVER_PORT']}/{'x' * 8_000}")
        popen.send_signal(signal.SIGINT)
        assert popen.wait(PATIENCE) == 0
        assert_gone(started, settings)
        assert b"Traceback" not in os.read(reader, 1024 * 1024)
    finally:
        popen.kill()
        popen.wait()
        os.close(reader)
        os.close(writer)


def test_service_killed(settings: dict[str, str]) -> None:
    """It is said whose end it was, and the others end too."""
    with dev(settings) as process:
        started = family(process.popen.pid)
        (events,) = [pid for pid in started if b"--target\0events\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(events, signal.SIGKILL)
        assert process.popen.wait(PATIENCE) == 1
        assert "eventboard: events was killed by SIGKILL, so all are stopped" in process.output
        assert_gone(started, settings)


def test_killed_and_started_again(settings: dict[str, str]) -> None:
    """After kill -9 the services end by themselves, and the next start finds free ports and its data."""
    with dev(settings) as process:
        services = [pid for pid in family(process.popen.pid) if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        process.popen.kill()
        process.popen.wait()
        assert len(services) == 3
        assert_gone(services, settings)
    with dev(settings) as process:
        assert httpx.post(f"{process.url}/auth/login", json=ACCOUNT).status_code == 200


def test_port_taken(settings: dict[str, str]) -> None:
    """It is said which, and nothing else was started for long."""
    taken = int(settings["SERVER_PORT"]) + 2
    with socket.create_server(("127.0.0.1", taken)), spawned("dev", "--services", **settings) as process:
        assert process.popen.wait(PATIENCE) == 1
        assert f"events  | eventboard: can't listen on 127.0.0.1:{taken}" in process.output
        assert "Traceback" not in process.output
