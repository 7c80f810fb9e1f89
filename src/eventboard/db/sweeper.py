"""Deletes expired rows in batches, in one process at a time.

Queries ignore expired rows, so the sweeper only frees their space.
"""

from collections.abc import Iterable
from typing import Any

from loguru import logger
from msgspec import Struct
from sqlalchemy import Select, func, select

from eventboard.core import request_context
from eventboard.core.periodic import PeriodicTask
from eventboard.db.database import Database, LockedError, Statement
from eventboard.observability.metrics import Metrics

# Seconds that a batch may take; what it didn't delete is left to the next round.
BUDGET = 10.0
# Seconds by which PostgreSQL's own limit on a statement is longer than the longest budget.
BACKSTOP_MARGIN = 1.0
# Rows are counted up to this number.
MOST = 200_000


def statement_timeout(budgets: Iterable[float]) -> float:
    """PostgreSQL's own limit on a statement, given the budgets of calls; all of them are in seconds."""
    return max(BUDGET, *budgets) + BACKSTOP_MARGIN


def counting(expired: Select[Any]) -> Statement:
    """Counts the rows, up to `MOST`."""
    return Statement(select(func.count()).select_from(expired.limit(MOST).subquery()))


class Sweep(Struct, frozen=True, kw_only=True):
    """`delete` deletes up to `batch` expired rows and returns a row for each; `count` counts them (see `counting`).

    `role` can do nothing else, and `lock` is the number of the advisory lock; `what` names the rows in the log, and
    `name` in metrics.
    """

    name: str
    role: str
    what: str
    lock: int
    batch: int
    delete: Statement
    count: Statement


class Sweeper:
    """`every` is in seconds. `backlog` is the last count of expired rows, or None before the first round."""

    def __init__(self, database: Database, sweep: Sweep, *, every: float, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._database = database
        self._sweep = sweep
        self._task = PeriodicTask(self.sweep, every=every, name=f"sweeping {sweep.what}")
        self.backlog: int | None = None
        metrics.backlog(sweep.name, sweep.what).set_function(lambda: self.backlog or 0)
        self._failures = metrics.sweep_failures.labels(sweep.name)

    async def open(self) -> None:
        await self._task.open()

    async def close(self) -> None:
        await self._task.close()

    async def sweep(self) -> int:
        """One round. Returns the number of deleted rows: 0 while another process sweeps them."""
        with self._failures.count_exceptions():
            return await self._round()

    async def _round(self) -> int:
        deleted = 0
        # Also at the beginning, as a round may fail or take long.
        self.backlog = await self._count()
        try:
            while batch := await self._delete_batch():
                deleted += batch
        except LockedError:
            return deleted
        self.backlog = await self._count()
        if deleted:
            logger.info("deleted {} {}, {} are left", deleted, self._sweep.what, self.backlog)
        return deleted

    async def _count(self) -> int:
        with request_context.budget(BUDGET):
            async with self._database.transaction_as(self._sweep.role) as connection:
                (row,) = await connection.all(self._sweep.count)
        return int(row[0])

    async def _delete_batch(self) -> int:
        with request_context.budget(BUDGET):
            async with self._database.transaction_as(self._sweep.role, lock=self._sweep.lock) as connection:
                return len(await connection.all(self._sweep.delete, most=self._sweep.batch))
