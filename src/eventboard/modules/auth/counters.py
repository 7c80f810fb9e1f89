"""Counters that all processes share, each for a window of time that begins with its first count."""

from typing import Protocol

from msgspec import Struct
from msgspec.structs import astuple

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


class Step(Struct, frozen=True):
    """`renewed`: the window, of so many seconds, begins now, whether or not there is one."""

    key: bytes
    window: int
    amount: int = 1
    most: int | None = None
    renewed: bool = False


class Counters(Protocol):
    """Each raises `unavailable` where the store can't be reached."""

    async def add(self, *steps: Step) -> list[Count]:
        """Counts, and says what each makes, up to the first that makes more than its `most`: what comes after it
        isn't counted. Below zero is zero.
        """
        ...

    async def remembered(self, key: bytes) -> bool:
        """Whether something was counted, of a window that hasn't ended."""
        ...


class DatabaseCounters:
    """In PostgreSQL, by its clock. What is over is swept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sweeping = Rounds(self.sweep, every=SWEEP_EVERY, name="sweeping counters")

    async def open(self) -> None:
        await self._sweeping.open()

    async def close(self) -> None:
        await self._sweeping.close()

    async def add(self, *steps: Step) -> list[Count]:
        keys, windows, amounts, mosts, renewed = map(list, zip(*map(astuple, steps), strict=True))
        rows = await self._database.rows(
            None, None, store.COUNT, keys=keys, windows=windows, amounts=amounts, mosts=mosts, renewed=renewed
        )
        return [Count(*row) for row in rows]

    async def remembered(self, key: bytes) -> bool:
        return await self._database.row(None, None, store.REMEMBERED, key=key) is not None

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
