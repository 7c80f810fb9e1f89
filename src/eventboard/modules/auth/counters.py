"""Counters that all processes share, each for a window of time that begins with its first count."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import BigInteger, Boolean, Double, bindparam, case, delete, func, literal, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert

from eventboard.core import request_context
from eventboard.core.periodic import PeriodicTask
from eventboard.db.database import Connection, Database, Statement
from eventboard.modules.auth.models import Counter

# Rows that one statement deletes: some 10 ms of work.
BATCH = 1_000
# Seconds that one batch may take, and between two deletions.
BUDGET = 10.0
DELETE_EVERY = 60.0

# Where a window has ended, the next one begins with the next increment.
_AMOUNT = bindparam("amount", type_=BigInteger())
_EXPIRED = Counter.ends_at <= func.now()
_NEW_COUNTER = insert(Counter).values(
    key=bindparam("key"),
    total=func.greatest(literal_column("0"), _AMOUNT),
    ends_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("window", type_=Double())),
)
COUNT = Statement(
    _NEW_COUNTER.on_conflict_do_update(
        index_elements=[Counter.key],
        set_={
            "total": case(
                (_EXPIRED, _NEW_COUNTER.excluded.total),
                else_=func.greatest(literal_column("0"), Counter.total + _AMOUNT),
            ),
            "ends_at": case(
                (or_(_EXPIRED, bindparam("restart", type_=Boolean())), _NEW_COUNTER.excluded.ends_at),
                else_=Counter.ends_at,
            ),
        },
    ).returning(Counter.total, func.extract("epoch", Counter.ends_at - func.now()).label("ends_in"))
)
_EXISTS = Statement(select(Counter.key).where(Counter.key == bindparam("key"), Counter.ends_at > func.now()))
# A batch; a counter that is being used is left to the next one.
_BATCH_OF_EXPIRED = (
    select(Counter.key)
    .where(_EXPIRED)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("expired")
)
_DELETE_EXPIRED = Statement(delete(Counter).where(Counter.key == _BATCH_OF_EXPIRED.c.key).returning(literal(1)))


class Count(Struct, frozen=True):
    """`ends_in` is in seconds, and no less than what is left of the window."""

    total: int
    ends_in: float


class Increment(Struct, frozen=True):
    """`most` is the highest total that is allowed. `window` is in seconds; `restart`: it begins now in any case."""

    key: bytes
    window: int
    amount: int = 1
    most: int | None = None
    restart: bool = False


class Query(Struct, frozen=True):
    """A statement of at most one row that is executed in the transaction of a count, as `user`."""

    database: Database
    statement: Statement
    values: dict[str, Any]
    user: UUID | None = None

    async def execute(self) -> Any | None:
        """The row, or None."""
        return await self.database.row(None, self.user, self.statement, **self.values)


class Counters(Protocol):
    """Each method raises `unavailable` where the store can't be reached."""

    async def add(self, *increments: Increment) -> list[Count]:
        """Returns the counts up to the first that exceeds its `most`; those after it aren't counted.

        A total is never less than zero.
        """
        ...

    async def add_and_query(self, increments: Sequence[Increment], query: Query) -> tuple[list[Count], Any | None]:
        """As `add`, with the query's row or None. Where the query fails, nothing is counted."""
        ...

    async def exists(self, key: bytes) -> bool:
        """Whether something is counted in a window that hasn't ended."""
        ...


class DatabaseCounters:
    """In PostgreSQL, by its clock. Expired counters are deleted.

    Of the calls that count with the same key, one in each process has a connection, and the others wait without one:
    otherwise a burst of log-ins from one address would occupy the whole pool, waiting for one row.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._deletion = PeriodicTask(self.delete_expired, every=DELETE_EVERY, name="deleting expired counters")

    async def open(self) -> None:
        await self._deletion.open()

    async def close(self) -> None:
        await self._deletion.close()

    async def add(self, *increments: Increment) -> list[Count]:
        async with self._turn(increments), self._database.transaction(None) as connection:
            return await _count(connection, increments)

    async def add_and_query(self, increments: Sequence[Increment], query: Query) -> tuple[list[Count], Any | None]:
        if not increments:
            return [], await query.execute()
        async with self._turn(increments), self._database.transaction(None, query.user) as connection:
            return await _count(connection, increments), await connection.one(query.statement, **query.values)

    @asynccontextmanager
    async def _turn(self, increments: Sequence[Increment]) -> AsyncIterator[None]:
        async with AsyncExitStack() as locks:
            # In one order, so that no two calls wait for each other.
            for key in sorted({increment.key for increment in increments}):
                await locks.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
            yield

    async def exists(self, key: bytes) -> bool:
        return await self._database.row(None, None, _EXISTS, key=key) is not None

    async def delete_expired(self) -> int:
        """Returns how many were deleted."""
        total = 0
        while True:
            with request_context.budget(BUDGET):
                async with self._database.transaction(None) as connection:
                    deleted = len(await connection.all(_DELETE_EXPIRED, most=BATCH))
            total += deleted
            if deleted < BATCH:
                return total


async def _count(connection: Connection, increments: Sequence[Increment]) -> list[Count]:
    """Within a transaction, which locks the counters in the order of the increments."""
    counts: list[Count] = []
    for increment in increments:
        (row,) = await connection.all(COUNT, **asdict(increment))
        counts.append(Count(row["total"], float(row["ends_in"])))
        if increment.most is not None and row["total"] > increment.most:
            break
    return counts
