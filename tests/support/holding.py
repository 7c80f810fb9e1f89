"""Locks that a test holds in the database, so that a request of its own stands still."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from tests.support.processes import PATIENCE


class Holder:
    """Another connection, in the middle of a transaction."""

    def __init__(self, runner: asyncio.Runner, connection: Any) -> None:
        self._runner = runner
        self._connection = connection

    def until_waited_for(self, waiting: int = 1) -> None:
        """Returns once so many others wait for what it holds."""
        self._until(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pg_backend_pid() = ANY (pg_blocking_pids(pid))",
            waiting,
        )

    def until_in_line(self, waiting: int) -> None:
        """Returns once so many wait for what it holds, or for somebody who does."""
        self._until(
            "WITH RECURSIVE line (pid) AS (SELECT pg_backend_pid() UNION SELECT activity.pid FROM pg_stat_activity"
            " AS activity JOIN line ON line.pid = ANY (pg_blocking_pids(activity.pid)))"
            " SELECT count(*) - 1 FROM line",
            waiting,
        )

    def _until(self, counting: str, waiting: int) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            # In a transaction pg_stat_activity stays as it was first read.
            self._runner.run(self._connection.execute("SELECT pg_stat_clear_snapshot()"))
            if self._runner.run(self._connection.fetchval(counting)) >= waiting:
                return
            time.sleep(0.01)  # between two looks at other processes, which can't call back
        raise AssertionError(f"nobody waited for it: {waiting} should")

    def commit(self) -> None:
        """What it has changed is there, and nobody waits any more."""
        self._runner.run(self._connection.execute("COMMIT"))

    def release(self) -> None:
        self._runner.run(self._connection.close())


@contextmanager
def holding(database_url: str, statement: str, *arguments: Any) -> Iterator[Holder]:
    """Runs the statement in a transaction that stays open until `release`, or the end of the block."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        runner.run(connection.execute("BEGIN"))
        runner.run(connection.fetch(statement, *arguments))
        holder = Holder(runner, connection)
        try:
            yield holder
        finally:
            holder.release()
