"""Starts PostgreSQL from PostgreSQL's own binaries, for development and tests. Linux and macOS.

A data folder holds `pgdata` (the cluster), `server.log` and `launcher.lock`. The launcher locks that file, and its
server inherits the lock: as long as one of the two lives, no other server starts on the folder.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import quote

from eventboard.core.signals import defer_signals
from eventboard.dev import postgres_programs as programs
from eventboard.dev.postgres_lock import Lock, acquire
from eventboard.dev.postgres_programs import SUPERUSER as SUPERUSER
from eventboard.dev.postgres_programs import Notify, PostgresError
from eventboard.web.server import listen

UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Of a server that doesn't listen on TCP: it only names the socket's file.
PORT = 5432
# Replaces the cluster's own, which rejects TCP, for a server with a port.
ACCESS = """\
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""
# Seconds. Recovery replays 1 GB (max_wal_size) at most, and a shutdown writes one checkpoint.
PATIENCE = 60.0
POLL = 0.01
# Becomes the server; a child of it waits for the end of the launcher.
SHUT_DOWN_WITH_LAUNCHER = 'exec 3<&0; (read _ <&3; kill -INT $$) & exec "$@" 3<&- </dev/null'


@dataclass(frozen=True)
class Postgres:
    """A running server. `data` isn't the folder asked for where `nobody` can't enter that one."""

    bin: Path
    data: Path
    version: str
    socket: Path
    port: int
    lock: Lock
    _process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres") -> str:
        """Holds no secret: whoever may enter the socket's folder (the server's account and root) may connect."""
        # The port is named, or a PGPORT of the environment would choose another.
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={self.socket}&port={self.port}"

    def stop(self) -> None:
        """Ends open sessions, waits until the server has ended, and unlocks the data folder. May be called again."""
        _end(self._process)
        shutil.rmtree(self.socket, ignore_errors=True)
        self.lock.close()


def start(
    data: Path,
    *,
    bin_dir: Path | None = None,
    port: int | None = None,
    durable: bool = True,
    settings: Mapping[str, str] = {},
    notify: Notify = print,
) -> Postgres:
    """Returns when the server accepts connections: with a `port`, by TCP from this machine, too.

    `notify` gets a line for what the caller may not expect.
    """
    if not durable:
        settings = {**UNSAFE_BUT_FAST, **settings}
    try:
        return _start(data.absolute(), bin_dir, port, durable, settings, notify)
    except OSError as error:
        raise PostgresError(
            f"PostgreSQL can't be started in {data}: {error}; EVENTBOARD_POSTGRES_DATA names another folder"
        ) from error


def _start(
    data: Path, bin_dir: Path | None, port: int | None, durable: bool, settings: Mapping[str, str], notify: Notify
) -> Postgres:
    account = programs.account_of_server()
    binaries = programs.find_binaries(bin_dir)
    if account:
        binaries = programs.reachable_binaries(binaries, account, notify)
    version = programs.version_of(binaries, account)
    data = programs.own_folder(data, account, notify)
    pgdata, log_file = data / "pgdata", data / "server.log"
    with ExitStack() as undo:
        lock = undo.enter_context(acquire(data))
        log = undo.enter_context(_open(log_file))
        # Fails on a full disk, where the server couldn't log why it didn't start.
        log.write(f"PostgreSQL {version} from {binaries}, started by process {os.getpid()}\n".encode())
        log_start = log.tell()
        options = programs.run_as(account) | {"stdout": log, "stderr": log}
        if not pgdata.exists():
            # Renamed when complete: an interrupted initdb leaves no half cluster behind. It may still be removing it.
            for unfinished in data.glob("pgdata.new*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            new = programs.give(Path(tempfile.mkdtemp(prefix="pgdata.new", dir=data)), account)
            if subprocess.run(programs.initdb_command(binaries, version, new, durable), **options).returncode != 0:
                raise PostgresError(f"initdb failed: {_reason(log_file, log_start)}")
            new.rename(pgdata)
        made_by = (pgdata / "PG_VERSION").read_text().strip()
        if made_by != str(programs.major(version)):
            raise PostgresError(
                f"{data} holds data of PostgreSQL {made_by}, and {binaries} is PostgreSQL {version}: "
                f"name a PostgreSQL {made_by} in EVENTBOARD_POSTGRES_BIN, or remove the folder to start with no data"
            )
        _remove_stale_pid_file(pgdata)
        socket = programs.socket_folder(data, account)
        undo.callback(shutil.rmtree, socket, ignore_errors=True)
        chosen = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(socket),
            "max_connections": "100",
            **settings,
        }
        if port:
            listen("127.0.0.1", port, "EVENTBOARD_POSTGRES").close()
            access = data / "pg_hba.conf"
            access.write_text(ACCESS)
            # The server's account has to read it, and it holds no secret.
            access.chmod(0o644)
            chosen |= {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(access)}
        server = [str(binaries / "postgres"), "-D", str(pgdata), *(f"--{name}={chosen[name]}" for name in chosen)]
        # The server inherits the lock, and a pipe from this process: its other end closes when this process ends.
        options |= {"stdin": subprocess.PIPE, "pass_fds": [lock.fileno()]}
        # A signal waits until the server is ready: a second at most, unless there is much to recover.
        with defer_signals():
            process = subprocess.Popen(["/bin/sh", "-c", SHUT_DOWN_WITH_LAUNCHER, "sh", *server], **options)
            undo.callback(_end, process)
            _wait_until_ready(process, pgdata, log_file, log_start)
        undo.pop_all()
        log.close()
    return Postgres(binaries, data, version, socket, port or PORT, lock, process)


def _open(path: Path) -> FileIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode=0o600), "a+b", buffering=0)


def _remove_stale_pid_file(pgdata: Path) -> None:
    """PostgreSQL would refuse to start where another process has the pid of a dead server by now.

    A server that somebody started by hand has its socket elsewhere: it keeps its file, and PostgreSQL refuses.
    """
    status = _status(pgdata)
    # Shorter than 8 lines where the server died in its first milliseconds, or the power failed.
    if len(status) < 8 or Path(status[4]).name.startswith(programs.SOCKET_FOLDER):
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def _status(pgdata: Path) -> list[str]:
    """The lines of postmaster.pid: pid, folder, start, port, socket's folder, address, shared memory, status."""
    try:
        return [line.strip() for line in os.fsdecode((pgdata / "postmaster.pid").read_bytes()).splitlines()]
    except FileNotFoundError:
        return []


def _wait_until_ready(process: subprocess.Popen[bytes], pgdata: Path, log: Path, log_start: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while (status := _status(pgdata))[:1] != [str(process.pid)] or status[7:8] != ["ready"]:
        if process.poll() is not None:
            raise PostgresError(f"PostgreSQL didn't start: {_reason(log, log_start)}")
        if time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL isn't ready after {PATIENCE:.0f} s (more in {log})")
        time.sleep(POLL)


def _reason(log: Path, start: int) -> str:
    """The first error after `start`, which others follow from; else the last line."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    errors = [found[1] for line in lines if (found := re.search(r"(?:FATAL|PANIC|ERROR|error): +(.+)", line))]
    reason = (errors[:1] or [line for line in lines if line.strip()] or ["it logged nothing"])[-1]
    return f"{reason} (more in {log})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown, else as in a crash: the next start recovers."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
