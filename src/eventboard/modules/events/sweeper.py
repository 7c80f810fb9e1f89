"""Deletes expired idempotency keys, a batch at a time, in one process at a time.

An expired key is no key already, by the clock of whoever looks it up: sweeping only gives the space back.
"""

from loguru import logger

from eventboard.modules.events import store
from eventboard.platform import context
from eventboard.platform.database import Database, LockedError
from eventboard.platform.rounds import Rounds

# Any number will do as long as no key's lock has it; those are 64 random bits.
LOCK = 0x6576_7377
# Rows of one transaction: some 10 ms of work, and short locks.
BATCH = 1_000
# Seconds that one batch may take before it is given up until next time.
BUDGET = 10.0


class Sweeper:
    """`every` is in seconds. `backlog` is how many expired keys the last round left, or None before the first."""

    def __init__(self, database: Database, *, every: float) -> None:
        self._database = database
        self._rounds = Rounds(self.sweep, every=every, name="sweeping idempotency keys")
        self.backlog: int | None = None

    async def open(self) -> None:
        await self._rounds.open()

    async def close(self) -> None:
        await self._rounds.close()

    async def sweep(self) -> int:
        """One round: how many keys were deleted. None at all where another process is at it."""
        swept = 0
        try:
            while deleted := await self._batch():
                swept += deleted
        except LockedError:
            return swept
        with context.budget(BUDGET):
            async with self._database.reading(None) as connection:
                (row,) = await connection.all(store.EXPIRED_KEYS)
        self.backlog = row[0]
        if swept:
            logger.info("swept {} expired idempotency keys, {} are left", swept, self.backlog)
        return swept

    async def _batch(self) -> int:
        with context.budget(BUDGET):
            async with self._database.transaction(None, lock=LOCK) as connection:
                return len(await connection.all(store.SWEEP_KEYS, most=BATCH))
