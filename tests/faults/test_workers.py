"""`eventboard serve --workers N`: several processes behind one port, and one that looks after them."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Member
from tests.support.processes import PATIENCE, Process, address_of, children, patiently, spawned, until_ready
from tests.support.sessions import locked, waiting

WORKERS = 2
# Writes that are under way while something happens.
WRITES = 12


@dataclass
class Crew:
    """A supervisor and its workers. `user` is somebody with an account."""

    supervisor: Process
    user: Member
    board: Board

    @property
    def port(self) -> int:
        return int(self.supervisor.url.rpartition(":")[2])

    def workers(self) -> list[int]:
        return children(self.supervisor.popen.pid)

    def write(self) -> httpx.Response:
        """On a connection of its own."""
        with httpx.Client(headers=self.user.http.headers, timeout=PATIENCE) as client:
            return client.post(f"{self.supervisor.url}/events", json=EVENT)

    @contextmanager
    def writing(self) -> Iterator[list[Future[httpx.Response]]]:
        """The block runs while writes are under way; they go on after it."""
        with ThreadPoolExecutor(WRITES) as pool, locked(self.board.database_url):
            writes = [pool.submit(self.write) for _ in range(WRITES)]
            while waiting(self.board) < WRITES:
                assert not any(write.done() for write in writes)
            yield writes

    def connections(self, worker: int) -> int:
        """How many clients are connected to this worker."""
        sockets = {link.readlink().name for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = f":{self.port:04X}"
        return sum(row[1].endswith(mine) and row[3] == "01" and f"socket:[{row[9]}]" in sockets for row in rows)


@pytest.fixture
def settings(cluster_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    with clusters.database(cluster_url) as url:
        yield {
            "DATABASE_URL": url,
            "SERVER_PORT": "0",
            "SERVER_DRAIN": "0.2",
            "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
        }


@pytest.fixture
def crew(settings: dict[str, str]) -> Iterator[Crew]:
    with spawned("serve", "--workers", str(WORKERS), **settings) as supervisor:
        supervisor.url = address_of(supervisor)
        until_ready(supervisor)
        for _ in patiently(supervisor):
            if supervisor.output.count("listening on") == WORKERS:
                break
        with closing(Board(supervisor.url, settings["DATABASE_URL"])) as board:
            user = board.organization().user
        # Whatever is connected to a worker from here on is a write.
        yield Crew(supervisor, user, board)


def test_worker_killed(crew: Crew) -> None:
    """It is replaced within a second, and the others' requests don't notice."""
    before = crew.workers()
    assert len(before) == WORKERS
    with crew.writing() as writes:
        victim = max(before, key=crew.connections)
        its = crew.connections(victim)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        while len(set(crew.workers()) - {victim}) < WORKERS:
            assert time.monotonic() < killed + 1
        assert sum(write.exception(0.5) is not None for write in writes if write.done()) <= its
    assert sum(write.exception() is not None for write in writes) == its
    assert {write.result().status_code for write in writes if not write.exception()} <= {201}
    # The new one serves, too.
    for _ in patiently(crew.supervisor):
        if crew.supervisor.output.count("listening on") == WORKERS + 1:
            break
    assert crew.write().status_code == 201


def test_told_to_end(crew: Crew) -> None:
    """SIGTERM drains all workers: what is under way is finished, the exit code is 0, and the port is free."""
    workers = crew.workers()
    with crew.writing() as writes:
        crew.supervisor.popen.send_signal(signal.SIGTERM)
        until_refused(crew.port)
        assert not any(write.done() for write in writes)
    assert [write.result().status_code for write in writes] == [201] * WRITES
    assert crew.supervisor.popen.wait(PATIENCE) == 0
    assert_gone(workers, crew.port)


def test_second_ctrl_c(crew: Crew) -> None:
    """Nobody waits any more for what is under way."""
    workers = crew.workers()
    with crew.writing() as writes:
        crew.supervisor.popen.send_signal(signal.SIGINT)
        until_refused(crew.port)
        assert not any(write.done() for write in writes)
        crew.supervisor.popen.send_signal(signal.SIGINT)
        assert crew.supervisor.popen.wait(PATIENCE) == 0
        # uvicorn's answer to what it gives up, where it still comes.
        assert all(write.exception() or write.result().status_code == 500 for write in writes)
    assert_gone(workers, crew.port)


def test_worker_killed_while_the_others_drain(crew: Crew) -> None:
    """They finish all the same; the exit code tells of it."""
    workers = crew.workers()
    with crew.writing() as writes:
        crew.supervisor.popen.send_signal(signal.SIGTERM)
        until_refused(crew.port)
        victim = min(workers, key=crew.connections)
        its = crew.connections(victim)
        os.kill(victim, signal.SIGKILL)
        while victim in crew.workers():
            pass
    assert sum(write.exception() is not None for write in writes) == its
    assert crew.supervisor.popen.wait(PATIENCE) == 1
    assert_gone(workers, crew.port)


def test_supervisor_killed(crew: Crew) -> None:
    """Its workers end by themselves, having finished what is under way."""
    workers = crew.workers()
    with crew.writing() as writes:
        crew.supervisor.popen.kill()
        until_refused(crew.port)
    assert [write.result().status_code for write in writes] == [201] * WRITES
    assert_gone(workers, crew.port)


@pytest.mark.parametrize("after", [0, 0.4, 1.2])
def test_supervisor_killed_while_they_start(settings: dict[str, str], after: float) -> None:
    """The same for workers that aren't up yet, at whatever point."""
    with spawned("serve", "--workers", str(WORKERS), **settings) as supervisor:
        for _ in patiently(supervisor):
            if len(workers := children(supervisor.popen.pid)) == WORKERS:
                break
        time.sleep(after)  # the moment that is tried
        supervisor.popen.kill()
        assert_gone(workers)


@pytest.mark.parametrize("after", [0, 0.1, 0.3, 1])
def test_told_to_end_while_they_start(settings: dict[str, str], after: float) -> None:
    """Exit code 0, whichever of the processes is how far."""
    with spawned("serve", "--workers", str(WORKERS), **settings) as supervisor:
        for _ in patiently(supervisor):
            if workers := children(supervisor.popen.pid):
                break
        time.sleep(after)  # the moment that is tried
        assert supervisor.stop() == 0, supervisor.output
        assert_gone(workers)


def test_cannot_start(settings: dict[str, str], tmp_path: Path) -> None:
    """What keeps workers from starting is said once, in one line, and ends the supervisor."""
    key = tmp_path / "no-key.pem"
    key.write_text("nothing\n")
    with spawned("serve", "--workers", str(WORKERS), **{**settings, "TOKENS_KEY_FILE": str(key)}) as supervisor:
        assert supervisor.popen.wait(PATIENCE) == 1
        (line,) = supervisor.output.splitlines()
        assert line.startswith("eventboard: ")
        assert str(key) in line


def until_refused(port: int) -> None:
    """Nobody listens any more."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return
    raise AssertionError(f"somebody still listens on port {port}")


def assert_gone(workers: list[int], port: int | None = None) -> None:
    end = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end
    if port is not None:
        socket.create_server(("127.0.0.1", port)).close()
