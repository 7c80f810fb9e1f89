"""What the server's sessions do in PostgreSQL, and how to keep them waiting."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tests.support.board import Board
from tests.support.processes import PATIENCE

# Connections of auth's and events' pools, as config/base.toml has them, and the sweeper's one.
POOLED = 2 * 20 + 1
# Seconds that a transaction takes at most: a log-in whose client has gone runs to the end of its budget, 10 s, at most.
SOON = 12.0
# In words for pg_stat_activity: every session of the modules' pools; the tests' own have no such name.
_POOLS = "datname = current_database() AND application_name LIKE 'eventboard_%'"


@contextmanager
def locked(database_url: str, table: str = "events.events") -> Iterator[None]:
    """Whoever reads or writes the table waits until the end of the block."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database_url))
        runner.run(connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        try:
            yield
        finally:
            runner.run(connection.close())


def busy(board: Board) -> list[str]:
    """The statements that run, or hold a transaction open, now."""
    rows = board.sql(f"SELECT query FROM pg_stat_activity WHERE {_POOLS} AND state <> 'idle'")
    return [row["query"] for row in rows]


def waiting(board: Board) -> int:
    """How many statements wait for a lock."""
    rows = board.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {_POOLS} AND wait_event_type = 'Lock'")
    return int(rows[0][0])


def assert_whole(board: Board) -> None:
    """Soon nothing runs and no transaction is open, and no pool has grown beyond its size.

    What a busy machine still works at may take longer, but no single transaction does.
    """
    end = time.monotonic() + PATIENCE
    # What goes on beside requests (leases, session checks) may outlive the last of them by a moment.
    while queries := busy(board):
        old = board.sql(
            "SELECT query FROM pg_stat_activity"
            f" WHERE {_POOLS} AND state <> 'idle' AND now() - xact_start > make_interval(secs => {SOON})"
        )
        assert [row["query"] for row in old] == []
        assert time.monotonic() < end, queries
    assert board.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {_POOLS}")[0][0] <= POOLED
