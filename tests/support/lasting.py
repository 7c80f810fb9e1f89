"""A PostgreSQL of a test's own, which keeps what it has committed, and can be taken away and brought back."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from eventboard.dev import postgres
from tests.support.cluster import public_folder


class Lasting:
    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self.start()
        self.url = self._running.url()

    def start(self) -> None:
        chosen = os.environ.get("EVENTBOARD_POSTGRES_BIN")
        bin_dir = Path(chosen) if chosen else None
        self._running = postgres.start(self._folder, bin_dir=bin_dir, settings=self._settings)

    def stop(self) -> None:
        self._running.stop()

    def end_at_once(self) -> None:
        """`pg_ctl stop -m immediate`: every session ends where it is, and the next start recovers."""
        pid = int((self._folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self._running.stop()  # waits for its end, and frees the folder


@contextmanager
def lasting(**settings: str) -> Iterator[Lasting]:
    with public_folder() as folder:
        server = Lasting(folder / "postgres", settings)
        try:
            yield server
        finally:
            server.stop()
