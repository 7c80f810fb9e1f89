"""Counters that all processes share, each for a window of time that begins with its first count."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

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


class Question(Struct, frozen=True):
    """What the database is asked, as `user`, together with a count."""

    database: Database
    statement: store.Beside
    values: dict[str, Any]
    user: UUID | None = None

    async def alone(self) -> Any | None:
        """The row, or None."""
        return await self.database.row(None, self.user, self.statement.alone, **self.values)


class Counters(Protocol):
    """Each raises `unavailable` where the store can't be reached."""

    async def add(self, *steps: Step) -> list[Count]:
        """Counts, and says what each makes, up to the first that makes more than its `most`: what comes after it
        isn't counted. Below zero is zero.
        """
        ...

    async def add_and_ask(self, steps: Sequence[Step], question: Question) -> tuple[list[Count], Any | None]:
        """Counts, whatever the answer is; and the answer, a row or None, whatever the counts are.

        In one round trip, where both are the database's. What can't be answered isn't counted.
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
        rows = await self._database.rows(None, None, store.COUNT, **_values(steps))
        return [Count(*row) for row in rows]

    async def add_and_ask(self, steps: Sequence[Step], question: Question) -> tuple[list[Count], Any | None]:
        if not steps:
            return [], await question.alone()
        asked = question.values | _values(steps)
        (row,) = await self._database.rows(None, question.user, question.statement.counting, **asked)
        totals, ends, first = row[0], row[1], row[2]
        return list(map(Count, totals, ends)), None if first is None else row

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


def _values(steps: Sequence[Step]) -> dict[str, list[Any]]:
    """The parameters of COUNT."""
    keys, windows, amounts, mosts, renewed = map(list, zip(*map(astuple, steps), strict=True))
    return {"keys": keys, "windows": windows, "amounts": amounts, "mosts": mosts, "renewed": renewed}
