"""Deletes what is over, a batch at a time, in one process at a time.

What is over counts as none already, by the clock of whoever looks it up: sweeping only gives the space back.
"""

from loguru import logger
from msgspec import Struct

from eventboard.platform import context
from eventboard.platform.database import Database, LockedError, Statement
from eventboard.platform.rounds import Rounds

# Seconds that one batch may take before it is given up until next time.
BUDGET = 10.0


class Sweep(Struct, frozen=True, kw_only=True):
    """`delete` takes at most `batch` rows away and returns one for each; `count` says how many are over.

    `lock` is the number of its own advisory lock; `what` names the rows, and `name` is for a metric.
    """

    name: str
    what: str
    lock: int
    batch: int
    delete: Statement
    count: Statement


class Sweeper:
    """`every` is in seconds. `backlog` is how many rows the last round left, or None before the first."""

    def __init__(self, database: Database, sweep: Sweep, *, every: float) -> None:
        self._database = database
        self._sweep = sweep
        self._rounds = Rounds(self.sweep, every=every, name=f"sweeping {sweep.what}")
        self.backlog: int | None = None

    async def open(self) -> None:
        await self._rounds.open()

    async def close(self) -> None:
        await self._rounds.close()

    async def sweep(self) -> int:
        """One round: how many rows were deleted. None at all where another process is at it."""
        swept = 0
        try:
            while deleted := await self._batch():
                swept += deleted
        except LockedError:
            return swept
        with context.budget(BUDGET):
            async with self._database.reading(None) as connection:
                (row,) = await connection.all(self._sweep.count)
        self.backlog = row[0]
        if swept:
            logger.info("swept {} {}, {} are left", swept, self._sweep.what, self.backlog)
        return swept

    async def _batch(self) -> int:
        with context.budget(BUDGET):
            async with self._database.transaction(None, lock=self._sweep.lock) as connection:
                return len(await connection.all(self._sweep.delete, most=self._sweep.batch))
