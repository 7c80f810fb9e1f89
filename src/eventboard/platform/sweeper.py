"""Deletes what is over, a batch at a time, in one process at a time.

What is over counts as none already, by the clock of whoever looks it up: sweeping only gives the space back.
"""

from typing import Any

from loguru import logger
from msgspec import Struct
from sqlalchemy import Select, func, select

from eventboard.platform import context
from eventboard.platform.database import Database, LockedError, Statement
from eventboard.platform.metrics import Metrics
from eventboard.platform.rounds import Rounds

# Seconds that one batch may take before it is given up until next time.
BUDGET = 10.0
# Rows that are counted: more is as bad.
MOST = 200_000


def counting(over: Select[Any]) -> Statement:
    """How many rows these are, up to `MOST`."""
    return Statement(select(func.count()).select_from(over.limit(MOST).subquery()))


class Sweep(Struct, frozen=True, kw_only=True):
    """`delete` takes at most `batch` rows away and returns one for each; `count` is `counting` those
    that are over.

    `lock` is the number of its own advisory lock; `what` names the rows, and `name` is for a metric.
    """

    name: str
    what: str
    lock: int
    batch: int
    delete: Statement
    count: Statement


class Sweeper:
    """`every` is in seconds. `backlog` is how many rows were over when last counted, or None before the first round."""

    def __init__(self, database: Database, sweep: Sweep, *, every: float, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._database = database
        self._sweep = sweep
        self._rounds = Rounds(self.sweep, every=every, name=f"sweeping {sweep.what}")
        self.backlog: int | None = None
        told = f"Rows that are over, when a round of sweeping begins and when it has ended: {sweep.what}."
        backlog = metrics.gauge(f"eventboard_{sweep.name}_backlog", told, of_workers="max")
        metrics.sampling(lambda: backlog.set(self.backlog or 0))
        self._failures = metrics.counter(
            "eventboard_sweep_failures_total", "Rounds of sweeping that failed, by what they sweep.", ("sweep",)
        )
        self._failures.index((sweep.name,))

    async def open(self) -> None:
        await self._rounds.open()

    async def close(self) -> None:
        await self._rounds.close()

    async def sweep(self) -> int:
        """One round: how many rows were deleted. None at all where another process is at it."""
        try:
            return await self._round()
        except Exception:
            self._failures.add(self._sweep.name)
            raise

    async def _round(self) -> int:
        swept = 0
        # Before, too: a round that fails, or takes long, doesn't get to its end.
        self.backlog = await self._count()
        try:
            while deleted := await self._batch():
                swept += deleted
        except LockedError:
            return swept
        self.backlog = await self._count()
        if swept:
            logger.info("swept {} {}, {} are left", swept, self._sweep.what, self.backlog)
        return swept

    async def _count(self) -> int:
        with context.budget(BUDGET):
            async with self._database.reading(None) as connection:
                (row,) = await connection.all(self._sweep.count)
        return int(row[0])

    async def _batch(self) -> int:
        with context.budget(BUDGET):
            async with self._database.transaction(None, lock=self._sweep.lock) as connection:
                return len(await connection.all(self._sweep.delete, most=self._sweep.batch))
