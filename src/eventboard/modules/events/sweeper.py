"""Deletes expired idempotency keys, a batch at a time, in one process at a time.

An expired key is no key already, by the clock of whoever looks it up: sweeping only gives the space back.
"""

import asyncio

from loguru import logger

from eventboard.modules.events import store
from eventboard.platform import context
from eventboard.platform.database import Database, LockedError
from eventboard.platform.errors import ServiceError

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
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self.backlog: int | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

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

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.sweep()
            except ServiceError as error:
                logger.warning("sweeping idempotency keys must wait: {}", error.detail)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the sweeping for good
                logger.opt(exception=error).error("sweeping idempotency keys failed")
