"""Many calls over few connections, cancelled and timed out at any point; none may see what another one has left.

`make test-faults` does it several times as often as `make test`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, text

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database, Statement
from eventboard.db.session import SIZE as SESSIONS
from eventboard.db.session import SessionFactory
from eventboard.modules.events.models import EventRow
from tests.support.database import SETTINGS, SIZE, SLEEP

_SETTINGS = text(SETTINGS.sql)
_SLEEP = text("SELECT pg_sleep(:seconds)")
_ADD = text("INSERT INTO events.tallies VALUES (:organization, 'DRAFT', 0, 1)")
_TALLIES = text("SELECT organization_id FROM events.tallies")
_EVENTS = Statement(select(EventRow.organization_id))


async def storm(database: Database, calls: int) -> None:
    """Reads and transactions."""
    chance = Random(1)

    async def call() -> None:
        organization, user = str(uuid4()), str(uuid4())
        opening = chance.choice((database.reading, database.transaction))
        with request_context.budget(chance.choice((0.002, 0.005, 30))):
            if chance.random() < 0.3:
                row = await database.row(UUID(organization), UUID(user), SETTINGS)
                assert row is not None
                assert (row[0], row[1]) == (organization, user)
            async with opening(UUID(organization), UUID(user)) as connection:
                row = await connection.one(SETTINGS)
                assert row is not None
                # Never those of a scope that had the connection before.
                assert (row[0], row[1]) == (organization, user)
                await connection.one(SLEEP, seconds=chance.choice((0, 0.002)))

    await _storm(call, calls, 5 * SIZE, 0.004, chance)


async def storm_of_sessions(sessions: SessionFactory, calls: int) -> None:
    """The same of SQLAlchemy's sessions."""
    chance = Random(1)

    async def call() -> None:
        organization, user = uuid4(), uuid4()
        with request_context.budget(chance.choice((0.005, 0.01, 30))):
            async with sessions.begin(organization, user) as session:
                row = (await session.execute(_SETTINGS)).one()
                assert tuple(row)[:2] == (str(organization), str(user))
                await session.execute(_SLEEP, {"seconds": chance.choice((0, 0.002))})

    await _storm(call, calls, SESSIONS + 2, 0.01, chance)


async def _storm(
    call: Callable[[], Coroutine[Any, Any, None]], calls: int, workers: int, soon: float, chance: Random
) -> None:
    """Half of the calls are cancelled after `soon` seconds at most. Each of the ways to end was taken often."""
    outcomes = Counter[str]()

    async def worker() -> None:
        for _ in range(calls // workers):
            task = asyncio.create_task(call())
            if chance.random() < 0.5:
                asyncio.get_running_loop().call_later(chance.uniform(0, soon), task.cancel)
            try:
                await task
                outcomes["done"] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except ServiceError as error:
                outcomes[error.code] += 1

    await asyncio.gather(*(worker() for _ in range(workers)))
    assert outcomes.total() == calls
    # Or nothing was tried.
    assert outcomes.keys() == {"done", "cancelled", Code.DEADLINE_EXCEEDED}
    assert min(outcomes.values()) > calls // 50, outcomes


async def look_around(database: Database, organizations: Sequence[UUID], scopes: int) -> None:
    """Every scope sees rows of its organization, and no others; each organization has an event."""
    chance = Random(5)

    async def look(organization: UUID) -> set[UUID]:
        opening = database.reading if chance.random() < 0.5 else database.transaction
        async with opening(organization) as connection:
            return {row[0] for row in await connection.all(_EVENTS)}

    await _look_around(look, organizations, scopes, 20, 0.002, chance)


async def look_around_by_sessions(sessions: SessionFactory, scopes: int) -> None:
    """The same, for twenty new organizations."""
    organizations = [uuid4() for _ in range(20)]
    for organization in organizations:
        async with sessions.begin(organization) as session:
            await session.execute(_ADD, {"organization": organization})

    async def look(organization: UUID) -> set[UUID]:
        async with sessions.begin(organization) as session:
            return set((await session.execute(_TALLIES)).scalars().all())

    await _look_around(look, organizations, scopes, 10, 0.004, Random(5))


async def _look_around(
    look: Callable[[UUID], Coroutine[Any, Any, set[UUID]]],
    organizations: Sequence[UUID],
    scopes: int,
    workers: int,
    soon: float,
    chance: Random,
) -> None:
    """A fifth of the looks are cancelled after `soon` seconds at most."""
    seen = 0

    async def worker() -> None:
        nonlocal seen
        for _ in range(scopes // workers):
            organization = chance.choice(organizations)
            task = asyncio.create_task(look(organization))
            if chance.random() < 0.2:
                await asyncio.wait([task], timeout=chance.random() * soon)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert task.result() == {organization}
                seen += 1

    await asyncio.gather(*(worker() for _ in range(workers)))
    assert seen > scopes // 2
