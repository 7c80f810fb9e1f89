"""Counters that all processes share, each for a window of time that begins with its first count."""

from typing import Protocol

from msgspec import Struct

from eventboard.modules.auth import store
from eventboard.platform import context
from eventboard.platform.database import Database
from eventboard.platform.rounds import Rounds

# Rows of one statement that sweeps: some 10 ms of work.
BATCH = 1_000
# Seconds that one batch may take, and between two rounds.
BUDGET = 10.0
SWEEP_EVERY = 60.0


class Count(Struct, frozen=True):
    """`ends_in` is in seconds, and no less than what is left of the window."""

    total: int
    ends_in: float


class Counters(Protocol):
    """Each raises `unavailable` where the store can't be reached, and is one atomic step in it."""

    async def add(self, key: bytes, window: int, amount: int = 1) -> Count:
        """Counts, and says what it makes. Below zero is zero."""
        ...

    async def remember(self, key: bytes, seconds: int) -> None:
        """From now on, whatever was remembered before."""
        ...

    async def remembered(self, key: bytes) -> bool: ...


class DatabaseCounters:
    """In PostgreSQL, by its clock. What is over is swept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sweeping = Rounds(self.sweep, every=SWEEP_EVERY, name="sweeping counters")

    async def open(self) -> None:
        await self._sweeping.open()

    async def close(self) -> None:
        await self._sweeping.close()

    async def add(self, key: bytes, window: int, amount: int = 1) -> Count:
        async with self._database.reading(None) as connection:
            (row,) = await connection.all(store.COUNT, key=key, amount=amount, lifetime=float(window))
        return Count(*row)

    async def remember(self, key: bytes, seconds: int) -> None:
        async with self._database.reading(None) as connection:
            await connection.run(store.REMEMBER, key=key, amount=1, lifetime=float(seconds))

    async def remembered(self, key: bytes) -> bool:
        async with self._database.reading(None) as connection:
            return await connection.one(store.REMEMBERED, key=key) is not None

    async def sweep(self) -> int:
        """How many were over."""
        swept = 0
        while True:
            with context.budget(BUDGET):
                async with self._database.reading(None) as connection:
                    deleted = len(await connection.all(store.SWEEP_COUNTERS, most=BATCH))
            swept += deleted
            if deleted < BATCH:
                return swept
