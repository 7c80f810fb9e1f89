"""SQLAlchemy's sessions are held to what connections are: their scope, the deadline, cancellation, a database in
trouble.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from eventboard.core import request_context
from eventboard.core.contract import Budget, operation
from eventboard.core.errors import Code, ServiceError
from eventboard.db.session import SIZE, SessionFactory
from eventboard.dev.postgres import SUPERUSER
from eventboard.rpc.client import client
from eventboard.rpc.local import LocalTransport
from tests.db.test_budgets import cancelled_at
from tests.support.cancellations import look_around_by_sessions, storm_of_sessions
from tests.support.database import (
    BACKSTOP,
    BUDGET,
    LATE,
    ROLE,
    Pauses,
    asked,
    assert_idle,
    assert_nothing_open,
    refusal,
    too_late,
)
from tests.support.outages import Server, answered_too_late, until_asleep
from tests.support.pooler import pooler_without
from tests.support.processes import PATIENCE
from tests.support.proxy import Proxy, proxied
from tests.support.stopwatch import Stopwatch

SLEEP = text("SELECT pg_sleep(:seconds)")
SETTINGS = text(
    "SELECT current_setting('eventboard.organization_id', true), current_setting('eventboard.user_id', true),"
    " current_setting('statement_timeout'), current_user::text"
)
ADD = text("INSERT INTO events.tallies VALUES (:organization, :status, 0, 1)")
SEEN = text("SELECT count(*) FROM events.tallies")
OF_ONE = text("SELECT count(*) FROM events.tallies WHERE organization_id = :asked")


@asynccontextmanager
async def opened(url: str, *, role: str = ROLE, connect_timeout: float = PATIENCE) -> AsyncIterator[SessionFactory]:
    sessions = SessionFactory(url, role=role, connect_timeout=connect_timeout)
    await sessions.open()
    try:
        yield sessions
    finally:
        await sessions.close()


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[SessionFactory]:
    async with opened(database_url) as sessions:
        yield sessions


async def settings(session: AsyncSession) -> tuple[Any, ...]:
    return tuple((await session.execute(SETTINGS)).one())


async def assert_whole(sessions: SessionFactory, url: str) -> None:
    """All connections can be had at once, with nobody's settings, and the server knows of no open transaction."""
    everybody = asyncio.Barrier(SIZE)

    async def hold() -> None:
        async with sessions.begin(None) as session:
            await asyncio.wait_for(everybody.wait(), PATIENCE)
            assert await settings(session) == ("", "", BACKSTOP, ROLE)

    await asyncio.gather(*(hold() for _ in range(SIZE)))
    await assert_nothing_open(url, SIZE)


class Slow(Protocol):
    @operation("slow.work", budget=Budget.READ, repeatable=True)
    async def work(self, query: Pauses) -> Pauses: ...


class SlowService:
    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    async def work(self, query: Pauses) -> Pauses:
        async with self._sessions.begin(None) as session:
            for seconds in query.seconds:
                await session.execute(SLEEP, {"seconds": seconds})
        return query


def slow(sessions: SessionFactory, budget: float = PATIENCE) -> Callable[[Pauses], Coroutine[Any, Any, Pauses]]:
    return client(Slow, LocalTransport(SlowService(sessions)), {Budget.READ: budget}).work


# ---------------------------------------------------------------------------------------------------------------------
# The scope


async def test_settings_of_the_scope(sessions: SessionFactory) -> None:
    """The first statement of a session finds its organization, its user and the module's role."""
    for _ in range(8):  # from the sixth time on, PostgreSQL plans a statement for any values
        organization, user = uuid4(), uuid4()
        async with sessions.begin(organization, user) as session:
            assert await settings(session) == (str(organization), str(user), BACKSTOP, ROLE)


async def test_nothing_of_a_tenant_is_left(sessions: SessionFactory) -> None:
    """A statement without a scope sees no organization's rows, whoever used its connection before, and however."""
    mine, user = uuid4(), uuid4()

    async def without_a_scope() -> list[Any]:
        # There is no other way to a connection without a scope.
        async with sessions._engine.connect() as connection:  # noqa: SLF001
            seen = (await connection.execute(SEEN)).scalar_one()
            # A new connection, which has never had the settings, says NULL.
            return [seen, *(setting or "" for setting in (await connection.execute(SETTINGS)).one())]

    none = [0, "", "", BACKSTOP, ROLE]
    async with sessions.begin(mine, user) as session:
        await session.execute(ADD, {"organization": mine, "status": "DRAFT"})
        await session.flush()
        assert (await session.execute(SEEN)).scalar_one() == 1
    assert await without_a_scope() == none
    with pytest.raises(ZeroDivisionError):
        async with sessions.begin(mine, user):
            raise ZeroDivisionError
    assert await without_a_scope() == none
    with pytest.raises(DBAPIError):
        async with sessions.begin(mine, user) as session:
            await session.execute(text("SELECT 1 / count(*) FROM events.events"))
    assert await without_a_scope() == none
    with request_context.budget(0.05), pytest.raises(ServiceError):
        async with sessions.begin(mine, user) as session:
            await session.execute(SLEEP, {"seconds": 1})
    assert await without_a_scope() == none


async def test_rows_of_two_organizations(sessions: SessionFactory) -> None:
    """The policies judge each session by its own organization, and it can add no row to another's."""
    mine, others = uuid4(), uuid4()
    for organization in (mine, others):
        async with sessions.begin(organization) as session:
            await session.execute(ADD, {"organization": organization, "status": "DRAFT"})
    for scope in (mine, others, None):
        for organization in (mine, others):
            async with sessions.begin(scope) as session:
                seen = (await session.execute(OF_ONE, {"asked": organization})).scalar_one()
            assert seen == (scope == organization)
    with pytest.raises(DBAPIError, match="row-level security"):
        async with sessions.begin(mine) as session:
            await session.execute(ADD, {"organization": others, "status": "PENDING"})


async def test_many_organizations_over_few_connections(sessions: SessionFactory) -> None:
    """Twenty organizations over three connections, cancelled at random: nobody sees another's rows."""
    await look_around_by_sessions(sessions, 300)


async def test_exception_in_the_block(sessions: SessionFactory, database_url: str) -> None:
    """Whatever the block raises rolls it back, and comes out as it is."""
    mine = uuid4()

    async def fail() -> None:
        async with sessions.begin(mine) as session:
            await session.execute(ADD, {"organization": mine, "status": "DRAFT"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with sessions.begin(mine) as session:
        assert (await session.execute(SEEN)).scalar_one() == 0
    await assert_whole(sessions, database_url)


@pytest.mark.parametrize(
    "statement", ["SELECT nonsense", "SELECT 1/0", "SELECT 'x'::int", "DELETE FROM events.history"]
)
async def test_bug(sessions: SessionFactory, database_url: str, statement: str) -> None:
    """A wrong statement isn't called an outage."""
    with pytest.raises(DBAPIError):
        async with sessions.begin(None) as session:
            await session.execute(text(statement))
    await assert_whole(sessions, database_url)


# ---------------------------------------------------------------------------------------------------------------------
# The deadline, and callers that go


async def test_call_beyond_its_budget(sessions: SessionFactory, database_url: str) -> None:
    """The answer comes in time, and PostgreSQL works no longer for a caller who has gone."""
    with too_late():
        await slow(sessions, BUDGET)(Pauses((30,)))
    await assert_idle(database_url)
    await assert_whole(sessions, database_url)


async def test_budget_that_an_earlier_statement_used(sessions: SessionFactory, database_url: str) -> None:
    """What a session's first statement took isn't there for its second."""
    with too_late():
        await slow(sessions, BUDGET)(Pauses((0.3, 30)))
    await assert_idle(database_url)
    await assert_whole(sessions, database_url)


async def test_nobody_cancels(sessions: SessionFactory, database_url: str) -> None:
    """A session ends with the budget that it is under, where nobody cancels the call."""
    with too_late(), request_context.budget(BUDGET):
        async with sessions.begin(None) as session:
            await session.execute(SLEEP, {"seconds": 30})
    await assert_idle(database_url)
    await assert_whole(sessions, database_url)


async def test_pool_exhausted(sessions: SessionFactory, database_url: str) -> None:
    """Who finds no connection free waits for one as long as its budget lasts."""
    released = asyncio.Event()
    all_held = asyncio.Barrier(SIZE + 1)

    async def hold() -> None:
        async with sessions.begin(None):
            await all_held.wait()
            await released.wait()

    holders = [asyncio.create_task(hold()) for _ in range(SIZE)]
    await all_held.wait()
    with too_late():
        await slow(sessions, BUDGET)(Pauses((0,)))
    waiting = asyncio.create_task(slow(sessions)(Pauses((0,))))
    released.set()
    await asyncio.gather(*holders, waiting)
    await assert_whole(sessions, database_url)


async def test_storm_of_cancellations(sessions: SessionFactory, database_url: str) -> None:
    """Cancelled and timed out at any point: every connection comes back, clean."""
    await storm_of_sessions(sessions, 500)
    await assert_whole(sessions, database_url)


async def test_cancelled_as_the_answer_comes(sessions: SessionFactory, database_url: str) -> None:
    """It leaves no transaction open, at whichever of its waits it is cancelled."""

    async def call(statement: str) -> None:
        with request_context.budget(30):
            async with sessions.begin(uuid4()) as session:
                await session.execute(text(statement))

    await call("SELECT 1")
    answers = 0
    going = True
    while going:
        answers += 1
        # Another one each time: the driver has it prepared first, which is an answer of its own.
        going = await cancelled_at(call(f"SELECT {answers}, 'new'"), answers)
        await assert_nothing_open(database_url, SIZE)
    assert answers > 5
    await assert_whole(sessions, database_url)


# ---------------------------------------------------------------------------------------------------------------------
# What PostgreSQL refuses


@pytest.mark.parametrize("options", ["?sslmode=nonsense", "?sesame"])
async def test_url_that_cannot_be_used(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away, and whoever asks learns what says why; nothing of the URL is shown."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where the driver looks for certificates
    async with opened(f"postgresql://me:sesame@127.0.0.1:1/eventboard{options}") as sessions:
        with pytest.raises(ServiceError) as raised:
            async with sessions.begin(None):
                pass
    assert raised.value.code is Code.UNAVAILABLE
    assert "sesame" not in raised.value.detail


async def test_role_that_gets_lost(database_url: str) -> None:
    """No statement is run as somebody else than the module's role: row-level security would be theirs."""
    async with pooler_without(database_url, "role") as url, opened(url) as sessions:
        with pytest.raises(ServiceError, match=f"doesn't work as {ROLE}") as raised:
            async with sessions.begin(None):
                pass
    assert raised.value.code is Code.UNAVAILABLE


async def test_role_that_is_not_there(database_url: str) -> None:
    """The database was never migrated, and says so."""
    async with opened(database_url, role="eventboard_nobody") as sessions:
        with pytest.raises(ServiceError, match="never migrated") as raised:
            await slow(sessions)(Pauses((0,)))
    assert raised.value.code is Code.UNAVAILABLE


async def end_sessions(url: str, condition: str = "true") -> list[Any]:
    """Of this database, those that fit the condition, as an administrator does."""
    return await asked(
        url,
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}",
    )


async def test_session_ended_by_an_administrator(sessions: SessionFactory, database_url: str) -> None:
    """The call is told that the database is away; the next one gets a connection that is whole."""
    call = asyncio.create_task(slow(sessions)(Pauses((30,))))
    while not await end_sessions(database_url, "query LIKE '%pg_sleep%'"):
        assert not call.done()
    assert await refusal(call) == Code.UNAVAILABLE
    await slow(sessions)(Pauses((0,)))
    await assert_whole(sessions, database_url)


async def test_idle_sessions_ended_by_an_administrator(sessions: SessionFactory, database_url: str) -> None:
    """A connection that died in the pool costs nobody a call."""
    for _ in range(2):
        await assert_whole(sessions, database_url)
        await end_sessions(database_url)
    await assert_whole(sessions, database_url)


async def test_storm_of_ended_sessions(sessions: SessionFactory, database_url: str) -> None:
    """At whichever point of a call its session is ended, it is told the same: the database is away."""
    outcomes = Counter[str]()
    over = asyncio.Event()

    async def worker() -> None:
        while not over.is_set():
            try:
                await slow(sessions)(Pauses((0, 0, 0)))
                outcomes["done"] += 1
            except ServiceError as error:
                outcomes[error.code] += 1

    workers = [asyncio.create_task(worker()) for _ in range(SIZE)]
    rounds = 0
    while rounds < 40 or len(outcomes) < 2:
        rounds += 1
        await end_sessions(database_url)
    over.set()
    await asyncio.gather(*workers)
    assert outcomes.keys() == {"done", Code.UNAVAILABLE}
    await assert_whole(sessions, database_url)


# ---------------------------------------------------------------------------------------------------------------------
# Connections that vanish without a word


@pytest.fixture
async def through(database_url: str) -> AsyncIterator[tuple[SessionFactory, Proxy]]:
    """All of its connections exist, and go through the proxy."""
    address = urlsplit(database_url)
    socket = Path(parse_qs(address.query)["host"][0], ".s.PGSQL.5432")
    with proxied(socket) as proxy:
        async with opened(f"postgresql://{SUPERUSER}@127.0.0.1:{proxy.port}{address.path}") as sessions:
            await assert_whole(sessions, database_url)
            yield sessions, proxy


async def assert_answered(sessions: SessionFactory) -> None:
    """Within a second: it waits for one dead connection at most."""
    with Stopwatch() as watch, request_context.budget(PATIENCE):
        async with sessions.begin(None) as session:
            await session.execute(SLEEP, {"seconds": 0})
    assert watch.seconds < 1


async def test_swallowed(through: tuple[SessionFactory, Proxy]) -> None:
    """No request fails, whether they come one at a time or all at once."""
    sessions, proxy = through
    for at_once in (False, True):
        assert proxy.swallow() > 0
        if at_once:
            await asyncio.gather(*(assert_answered(sessions) for _ in range(SIZE)))
        else:
            for _ in range(SIZE):
                await assert_answered(sessions)


# ---------------------------------------------------------------------------------------------------------------------
# PostgreSQL gone


async def test_stopped_and_back(mortal: Server) -> None:
    """UNAVAILABLE at once while it is away, and served again with its return: no request fails for the restart."""
    async with opened(mortal.url) as sessions:
        await assert_whole(sessions, mortal.url)
        running = asyncio.create_task(slow(sessions)(Pauses((30,))))
        await until_asleep(mortal.url, 1)
        mortal.stop()
        assert await refusal(running) == Code.UNAVAILABLE
        with Stopwatch() as watch, pytest.raises(ServiceError) as refused:
            await slow(sessions)(Pauses((0,)))
        assert (refused.value.code, refused.value.retry_after) == (Code.UNAVAILABLE, 1)
        assert watch.seconds < LATE
        mortal.start()
        await slow(sessions)(Pauses((0,)))
        await assert_whole(sessions, mortal.url)
        mortal.stop()
        mortal.start()
        await asyncio.gather(*(assert_answered(sessions) for _ in range(SIZE)))


async def test_not_there_yet(mortal: Server) -> None:
    """Sessions are opened before their database is there, and serve as soon as it is."""
    mortal.stop()
    async with opened(mortal.url) as sessions:
        assert await refusal(slow(sessions)(Pauses((0,)))) == Code.UNAVAILABLE
        mortal.start()
        await slow(sessions)(Pauses((0,)))


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_frozen(mortal: Server, warm: bool) -> None:
    """Even a database that answers nothing, not even a cancellation, delays no answer."""
    async with opened(mortal.url) as sessions:
        if warm:
            await assert_whole(sessions, mortal.url)
        with mortal.frozen():
            for _ in range(2):
                with too_late():
                    await slow(sessions, BUDGET)(Pauses((0,)))
            await asyncio.gather(*(answered_too_late(slow(sessions, BUDGET)(Pauses((0,)))) for _ in range(8)))
        with Stopwatch() as watch:
            await slow(sessions)(Pauses((0,)))
        assert watch.seconds < 5
        await assert_whole(sessions, mortal.url)


async def test_frozen_in_the_middle(mortal: Server) -> None:
    """The same for a call whose statement was running already."""
    async with opened(mortal.url) as sessions:
        # It would end with the budget, so whenever it is frozen it has ended soon after, and finds its client gone.
        call = asyncio.create_task(answered_too_late(slow(sessions, BUDGET)(Pauses((BUDGET,)))))
        await asyncio.sleep(0.1)  # it is on its way
        with mortal.frozen():
            await call
        await slow(sessions)(Pauses((0,)))
        await assert_whole(sessions, mortal.url)


@pytest.mark.parametrize("failing", [False, True], ids=["commit", "rollback"])
async def test_frozen_at_the_end(mortal: Server, failing: bool) -> None:
    """The same for one that is about to commit, or to roll back."""
    async with opened(mortal.url) as sessions:
        with ExitStack() as stack, too_late(), request_context.budget(BUDGET):
            async with sessions.begin(None) as session:
                await session.execute(SLEEP, {"seconds": 0})
                stack.enter_context(mortal.frozen())
                await (session.rollback() if failing else session.commit())
        await slow(sessions)(Pauses((0,)))
        await assert_whole(sessions, mortal.url)


async def test_frozen_for_longer_than_connecting_may_take(mortal: Server) -> None:
    """Where that is shorter than the budget it is 503, whose cause the request's line in the log says."""
    async with opened(mortal.url, connect_timeout=0.2) as sessions:
        with mortal.frozen(), pytest.raises(ServiceError) as raised:
            async with sessions.begin(None):
                pass
    assert raised.value.code is Code.UNAVAILABLE
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_closed_while_frozen(mortal: Server) -> None:
    """A process can end while its database hangs."""
    async with opened(mortal.url) as sessions:
        await assert_whole(sessions, mortal.url)
        with mortal.frozen():
            with Stopwatch() as watch:
                await sessions.close()
            assert watch.seconds < 1.5


async def test_no_connection_left(mortal: Server) -> None:
    """PostgreSQL has given all its connections to others: that passes, too."""
    others = [await asyncpg.connect(mortal.url) for _ in range(10)]
    async with opened(mortal.url) as sessions:
        assert await refusal(slow(sessions)(Pauses((0,)))) == Code.UNAVAILABLE
        for other in others:
            await other.close()
        await slow(sessions)(Pauses((0,)))
