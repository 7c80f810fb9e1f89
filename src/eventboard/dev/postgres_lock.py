"""The lock on a folder with PostgreSQL's data, by which other processes find the server that runs on it.

The file holds the process id of the launcher and, once it is known, the URL of the database.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from eventboard.dev.postgres_programs import PostgresError, possible_folders

LOCK_FILE = "launcher.lock"
# Seconds that a server may take to shut down after its launcher was killed, on a busy machine too, before the folder
# counts as in use.
SHUTDOWN = 30.0
POLL = 0.01


class Lock(FileIO):
    def announce(self, url: str = "") -> None:
        self.truncate(0)
        self.write(f"{os.getpid()} {url}".encode())


@dataclass(frozen=True)
class Running:
    """`launcher` is a process id; `url` is empty while the server starts."""

    launcher: int
    url: str


def running(data: Path) -> Running | None:
    """The server on this data, unless its launcher has ended."""
    for folder in possible_folders(data.absolute()):
        try:
            with _open(folder) as lock:
                if not _try_lock(lock, fcntl.LOCK_SH) and (found := _launcher(lock)):
                    return found
        except FileNotFoundError:
            continue
        except PermissionError:
            raise PostgresError(f"{folder} belongs to another account of this machine") from None
        except OSError as error:
            # Such as a file in place of the folder, or a read-only file system.
            raise PostgresError(
                f"{folder} can't be used: {error.strerror}; EVENTBOARD_POSTGRES_DATA names another folder"
            ) from None
    return None


def acquire(data: Path) -> Lock:
    """Waits a moment for a server whose launcher was killed: it holds the lock until it has shut down."""
    lock = _open(data, os.O_CREAT)
    deadline = time.monotonic() + SHUTDOWN
    while not _try_lock(lock, fcntl.LOCK_EX):
        found = _launcher(lock)
        if found or time.monotonic() > deadline:
            lock.close()
            by = f"started by process {found.launcher}" if found else "whose launcher was killed"
            raise PostgresError(f"PostgreSQL is already running in {data}, {by}")
        time.sleep(POLL)
    lock.announce()
    return lock


def _open(data: Path, flags: int = 0) -> Lock:
    return Lock(os.open(data / LOCK_FILE, os.O_RDWR | os.O_APPEND | flags, mode=0o600), "a+b")


def _try_lock(lock: Lock, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _launcher(lock: Lock) -> Running | None:
    """The one that the file names, if it lives."""
    lock.seek(0)
    pid, _, url = lock.read().decode().partition(" ")
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        pass
    except (ValueError, ProcessLookupError):
        return None
    return Running(int(pid), url)
