"""Connections, transactions and statements, on a real PostgreSQL, when things go wrong."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import Struct
from sqlalchemy import text

from eventboard.adapters.client import client
from eventboard.adapters.local import LocalTransport
from eventboard.local import postgres
from eventboard.platform import context
from eventboard.platform.contract import Budget, operation
from eventboard.platform.database import Connection, Database, Statement
from eventboard.platform.errors import Code, ServiceError
from tests.support.cluster import public_folder

ROLE = "eventboard_events"
SIZE = 8
# Seconds that a call may take here, and how late its answer may come.
BUDGET, LATE = 0.5, 0.1

SLEEP = Statement(text("SELECT pg_sleep(:seconds)"))
SETTINGS = Statement(
    text(
        "SELECT current_setting('eventboard.organization_id', true), current_setting('eventboard.user_id', true),"
        " current_setting('statement_timeout'), current_user"
    )
)
# Of this database, without the connection that asks.
SESSIONS = "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
OPEN = "SELECT state, xact_start FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


# What a text could hold to be more than that, and what an encoding could make of it.
TEXTS = (
    *(
        "",
        "a key",
        "9ebe9fe2-85dc-4494-8923-21e6be850115",
        "minted 0a1b",
        "a.b_c:d-e",
        "--",
        "$1",
        "${2}",
        "%s",
        ":value",
    ),
    *("it's", "''", "'; DROP TABLE events.events; --", '"', "\\", "\\'", "U&'\\0041'", "\\+000041", "$$", "/*", "a\nb"),
    *("é", "\u2019", "\uff07", "😀", "\x7f", "\ufeff"),
)


@asynccontextmanager
async def opened(
    url: str, *, role: str = ROLE, size: int = SIZE, connect_timeout: float = 2
) -> AsyncIterator[Database]:
    database = Database(url, role=role, size=size, connect_timeout=connect_timeout)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@pytest.mark.parametrize("options", ["?sslmode=verify-full", "?sslmode=nonsense", "?sesame"])
async def test_url_that_cannot_be_used(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away, and whoever asks is told who knows why; nothing of the URL is."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where the driver looks for certificates
    async with opened(f"postgresql://me:sesame@127.0.0.1:1/eventboard{options}") as database:
        with pytest.raises(ServiceError) as raised:
            async with database.transaction(None):
                pass
    assert raised.value.code is Code.UNAVAILABLE
    assert "eventboard check" in raised.value.detail
    assert "sesame" not in raised.value.detail


@asynccontextmanager
async def without_role(url: str) -> AsyncIterator[str]:
    """The URL of a pooler, as PgBouncer is where it is told to ignore parameters: `role` never gets to PostgreSQL."""
    (socket,) = parse_qs(urlsplit(url).query)["host"]

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            # A parameter that PostgreSQL takes for an extension's.
            writer.write(data.replace(b"\0role\0", b"\0a.bc\0"))
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.5432")
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{postgres.SUPERUSER}@127.0.0.1:{port}{urlsplit(url).path}?sslmode=disable"


async def test_role_that_gets_lost(database_url: str) -> None:
    """No statement is run as somebody else than the module's role: row-level security would be theirs."""
    async with without_role(database_url) as url, opened(url) as database:
        with pytest.raises(ServiceError) as raised:
            await database.row(None, None, SETTINGS)
    assert raised.value.code is Code.UNAVAILABLE
    assert f"doesn't work as {ROLE}" in raised.value.detail


async def asked(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def assert_whole(database: Database, url: str, size: int = SIZE) -> None:
    """All of the pool's connections can be had at once, and the server knows of no open transaction."""
    everybody = asyncio.Barrier(size)

    async def hold() -> None:
        async with database.transaction(None) as connection:
            await asyncio.wait_for(everybody.wait(), 5)
            row = await connection.one(SETTINGS)
            assert row is not None
            assert tuple(row) == ("", "", "0", ROLE)

    await asyncio.gather(*(hold() for _ in range(size)))
    # A session whose connection was given up ends when the server next looks at it.
    end = time.monotonic() + 5
    while len(found := await asked(url, SESSIONS)) > size:
        assert time.monotonic() < end, found
    assert {row["state"] for row in found} == {"idle"}


async def assert_idle(url: str) -> None:
    """No statement runs any more, 100 ms after it was to end."""
    await asyncio.sleep(LATE)
    assert [row["query"] for row in await asked(url, SESSIONS) if row["state"] == "active"] == []


# ---------------------------------------------------------------------------------------------------------------------
# As a service calls it: under a budget that a client holds


class Pauses(Struct, frozen=True):
    """Seconds that the statements of one call sleep, one after the other."""

    seconds: tuple[float, ...]


class Slow(Protocol):
    @operation("slow.read", budget=Budget.READ, repeatable=True)
    async def read(self, query: Pauses) -> Pauses: ...

    @operation("slow.write", budget=Budget.READ, repeatable=True)
    async def write(self, query: Pauses) -> Pauses: ...


class SlowService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, query: Pauses) -> Pauses:
        async with self._database.reading(None) as connection:
            return await _sleep(connection, query)

    async def write(self, query: Pauses) -> Pauses:
        async with self._database.transaction(None) as connection:
            return await _sleep(connection, query)


async def _sleep(connection: Connection, query: Pauses) -> Pauses:
    for seconds in query.seconds:
        await connection.one(SLEEP, seconds=seconds)
    return query


def slow(database: Database, kind: str) -> Callable[[Pauses], Coroutine[Any, Any, Pauses]]:
    method: Callable[[Pauses], Coroutine[Any, Any, Pauses]] = getattr(
        client(Slow, LocalTransport(SlowService(database)), {Budget.READ: BUDGET}), kind
    )
    return method


@contextmanager
def too_late() -> Iterator[None]:
    """The block ends as its budget does: neither before, nor later than promised."""
    begun = time.monotonic()
    with pytest.raises(ServiceError) as refusal:
        yield
    assert refusal.value.code == Code.DEADLINE_EXCEEDED
    assert BUDGET - LATE < time.monotonic() - begun < BUDGET + LATE


async def refusal(call: Awaitable[object]) -> Code:
    with pytest.raises(ServiceError) as refused:
        await call
    return refused.value.code


each_kind = pytest.mark.parametrize("kind", ["read", "write"])


@each_kind
async def test_call_beyond_its_budget(database: Database, database_url: str, kind: str) -> None:
    """The answer comes in time, and PostgreSQL works no longer for a caller who has gone."""
    with too_late():
        await slow(database, kind)(Pauses((30,)))
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_budget_that_an_earlier_statement_used(database: Database, database_url: str) -> None:
    """What a transaction's first statement took isn't there for its second."""
    with too_late():
        await slow(database, "write")(Pauses((0.3, 30)))
    await assert_idle(database_url)
    await assert_whole(database, database_url)


@pytest.mark.parametrize("kind", ["reading", "transaction"])
async def test_nobody_cancels(database: Database, database_url: str, kind: str) -> None:
    """PostgreSQL knows the budget, too, and ends the statement by itself."""
    with too_late(), context.budget(BUDGET):
        async with getattr(database, kind)(None) as connection:
            await connection.one(SLEEP, seconds=30)
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_nobody_cancels_a_single_row(database: Database, database_url: str) -> None:
    """The same for a statement that brings its settings along."""
    await database.row(None, None, SLEEP, seconds=0)
    with too_late(), context.budget(BUDGET):
        await database.row(None, None, SLEEP, seconds=30)
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def test_settings_come_before_the_rows(database_url: str) -> None:
    """What a single row's statement asks of its connection is answered for its own scope, whoever had it before."""
    async with opened(database_url, size=1) as one:
        for _ in range(8):  # from the sixth time on, PostgreSQL plans a statement for any values
            organization, user = uuid4(), uuid4()
            with context.budget(30):
                row = await one.row(organization, user, SETTINGS)
            assert row is not None
            assert tuple(row) == (str(organization), str(user), "30s", ROLE)
        row = await one.row(None, None, SETTINGS)
        assert row is not None
        assert tuple(row) == ("", "", "0", ROLE)


async def test_little_is_left(database_url: str) -> None:
    """A session keeps its time limit until the next scope's settings are made, which has to be possible within it."""
    async with opened(database_url, size=1) as one:
        for _ in range(2):  # with its settings, and bringing them along
            with context.budget(0.05):
                row = await one.row(None, None, SETTINGS)
            assert row is not None
            assert row[2] == "100ms"


async def test_rows_of_two_organizations(database_url: str) -> None:
    """The policies judge a single row's statement by its own organization, and not by the last one's."""
    mine, others = uuid4(), uuid4()
    seen = Statement(text("SELECT count(*) FROM events.tallies WHERE organization_id = :asked"))
    add = Statement(text("INSERT INTO events.tallies VALUES (:asked, 'DRAFT', 0, 1)"))
    async with opened(database_url, size=1) as one:
        for organization in (mine, others):
            async with one.transaction(organization) as connection:
                await connection.run(add, asked=organization)
        for _ in range(8):
            for scope in (mine, others, None):
                for asked_for in (mine, others):
                    row = await one.row(scope, None, seen, asked=asked_for)
                    assert row is not None
                    assert row[0] == (scope == asked_for)


async def test_write_by_one_statement(database: Database, database_url: str) -> None:
    """It is judged by its own scope, and committed; or nothing of it is there. Nothing of the scope is left."""
    mine, others = uuid4(), uuid4()
    add = Statement(text("INSERT INTO events.tallies VALUES (:asked, :status, 0, 1)"))
    seen = Statement(text("SELECT status FROM events.tallies WHERE organization_id = :asked"))
    async with opened(database_url, size=1) as one:
        await one.run(mine, None, add, asked=mine, status="DRAFT")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await one.run(mine, None, add, asked=others, status="DRAFT")
        with pytest.raises(asyncpg.UniqueViolationError):
            await one.run(mine, None, add, asked=mine, status="DRAFT")
        row = await one.row(None, None, SETTINGS)
        assert row is not None
        assert tuple(row[:2]) == ("", "")
        with too_late(), context.budget(BUDGET):
            await one.run(None, None, SLEEP, seconds=30)
        await one.run(others, None, add, asked=others, status="it's; COMMIT")
    assert [tuple(row) for row in await database.rows(mine, None, seen, asked=mine)] == [("DRAFT",)]
    assert [tuple(row) for row in await database.rows(others, None, seen, asked=others)] == [("it's; COMMIT",)]
    await assert_idle(database_url)
    await assert_whole(database, database_url)


@each_kind
async def test_pool_exhausted(database: Database, database_url: str, kind: str) -> None:
    """Who finds no connection free waits for one as long as its budget lasts."""
    released = asyncio.Event()

    async def hold() -> None:
        async with database.transaction(None):
            await released.wait()

    holders = [asyncio.create_task(hold()) for _ in range(SIZE)]
    await asyncio.sleep(BUDGET / 2)  # a little longer than connecting takes, or the call below takes one of them
    with too_late():
        await slow(database, kind)(Pauses((0,)))
    waiting = asyncio.create_task(slow(database, kind)(Pauses((0,))))
    released.set()
    await asyncio.gather(*holders, waiting)
    await assert_whole(database, database_url)


async def test_storm_of_cancellations(database: Database, database_url: str) -> None:
    """10,000 reads and transactions, cancelled and timed out at any point: every connection comes back, clean."""
    chance = random.Random(1)
    outcomes = Counter[str]()

    async def call() -> None:
        organization, user = str(uuid4()), str(uuid4())
        opening = chance.choice((database.reading, database.transaction))
        with context.budget(chance.choice((0.002, 0.005, 30))):
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

    async def worker(calls: int) -> None:
        for _ in range(calls):
            task = asyncio.create_task(call())
            if chance.random() < 0.5:
                asyncio.get_running_loop().call_later(chance.uniform(0, 0.004), task.cancel)
            try:
                await task
                outcomes["done"] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except ServiceError as error:
                outcomes[error.code] += 1

    workers = 5 * SIZE
    await asyncio.gather(*(worker(10_000 // workers) for _ in range(workers)))
    assert outcomes.total() == 10_000
    # Each of the ways was taken often, or nothing was tried.
    assert outcomes.keys() == {"done", "cancelled", Code.DEADLINE_EXCEEDED}
    assert min(outcomes.values()) > 200, outcomes
    await assert_whole(database, database_url)


async def cancelled_at(call: Coroutine[Any, Any, object], answer: int) -> bool:
    """Cancels it just when so many of its waits are over, before it knows; False where it needs no more of them."""
    task = asyncio.create_task(call)
    for _ in range(answer):
        await asyncio.sleep(0)  # it goes on to what it waits for next
        # Nothing else tells of it before the task knows.
        waiting: asyncio.Future[Any] = task._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001
        while not (task.done() or waiting.done()):  # noqa: ASYNC110 - the task would go on at the same time as we
            await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("kind", ["row", "reading", "transaction"])
async def test_cancelled_as_the_answer_comes(database_url: str, kind: str) -> None:
    """It leaves nothing open at the database: neither a transaction, nor a time limit that meets whoever comes next."""

    async def call(statement: Statement) -> None:
        with context.budget(30):
            if kind == "row":
                await one.row(None, None, statement)
                return
            async with getattr(one, kind)(None) as connection:
                await connection.one(statement)

    answers = 0
    async with opened(database_url, size=1) as one:
        await call(Statement(text("SELECT 1")))
        going = True
        while going:
            answers += 1
            # Another one each time: the driver has it prepared first, which is an answer of its own.
            going = await cancelled_at(call(Statement(text(f"SELECT {answers}, 'new'"))), answers)
            assert [tuple(row) for row in await asked(database_url, OPEN)] == [("idle", None)], answers
    assert answers > 2


# ---------------------------------------------------------------------------------------------------------------------
# What PostgreSQL refuses


async def fail_after(database: Database, statement: Statement) -> None:
    async with database.transaction(None) as connection:
        await connection.run(statement)
        raise ZeroDivisionError


async def test_exception_in_a_transaction(database: Database, database_url: str) -> None:
    """Whatever the block raises rolls it back, and comes out as it is."""
    write = Statement(text("SELECT set_config('eventboard.noted', 'x', false)"))
    read = Statement(text("SELECT current_setting('eventboard.noted', true)"))
    async with opened(database_url, size=1) as one:
        with pytest.raises(ZeroDivisionError):
            await fail_after(one, write)
        async with one.transaction(None) as connection:
            row = await connection.one(read)
            assert row is not None
            assert not row[0]
    await assert_whole(database, database_url)


@pytest.mark.parametrize(
    "statement", ["SELECT nonsense", "SELECT 1/0", "SELECT 'x'::int", "DELETE FROM events.history"]
)
@pytest.mark.parametrize("kind", ["reading", "transaction"])
async def test_bug(database: Database, database_url: str, statement: str, kind: str) -> None:
    """A wrong statement isn't called an outage."""
    with pytest.raises(asyncpg.PostgresError):
        async with getattr(database, kind)(None) as connection:
            await connection.run(Statement(text(statement)))
    await assert_whole(database, database_url)


async def test_role_that_is_not_there(database_url: str) -> None:
    """The database was never migrated, and says so."""
    async with opened(database_url, role="eventboard_nobody") as database:
        with pytest.raises(ServiceError, match="never migrated") as refused:
            await slow(database, "read")(Pauses((0,)))
    assert refused.value.code == Code.UNAVAILABLE


async def test_no_such_database(database_url: str) -> None:
    """It may come."""
    async with opened(database_url.replace("/test_", "/gone_")) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE


@each_kind
async def test_session_ended_by_an_administrator(database: Database, database_url: str, kind: str) -> None:
    """The call is told that the database is away; the next one gets a connection that is whole."""
    call = asyncio.create_task(slow(database, kind)(Pauses((30,))))
    while not await asked(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'",
    ):
        assert not call.done()
    assert await refusal(call) == Code.UNAVAILABLE
    await slow(database, kind)(Pauses((0,)))
    await assert_whole(database, database_url)


async def test_idle_sessions_ended_by_an_administrator(database: Database, database_url: str) -> None:
    """A connection that died in the pool costs nobody a call."""
    await assert_whole(database, database_url)
    await asked(
        database_url,
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await assert_whole(database, database_url)


async def test_storm_of_ended_sessions(database: Database, database_url: str) -> None:
    """At whichever point of a call its session is ended, it is told the same: the database is away."""
    outcomes = Counter[str]()
    over = asyncio.Event()

    async def worker(number: int) -> None:
        call = slow(database, ("read", "write")[number % 2])
        while not over.is_set():
            try:
                await call(Pauses((0, 0, 0)))
                outcomes["done"] += 1
            except ServiceError as error:
                outcomes[error.code] += 1

    workers = [asyncio.create_task(worker(number)) for number in range(SIZE)]
    for _ in range(40):
        await asked(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    over.set()
    await asyncio.gather(*workers)
    assert outcomes.keys() == {"done", Code.UNAVAILABLE}
    await assert_whole(database, database_url)


# ---------------------------------------------------------------------------------------------------------------------
# PostgreSQL gone


class Server:
    """A PostgreSQL that can be taken away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = ""

    def start(self, **settings: str) -> None:
        chosen = os.environ.get("EVENTBOARD_POSTGRES_BIN")
        self._running = postgres.start(
            self._folder, bin_dir=Path(chosen) if chosen else None, durable=False, settings=settings
        )
        self.url = self._running.url()

    def stop(self) -> None:
        self._running.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The machine under it hangs: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        postmaster = int((self._folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        subprocess.run(["pkill", f"-{number}", "--parent", str(postmaster)], check=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder / "postgres")
    server.start(max_connections="10")
    with suppress(asyncpg.DuplicateObjectError):
        await asked(server.url, f"CREATE ROLE {ROLE}")
    yield server
    server.stop()


async def test_stopped_and_back(server: Server) -> None:
    """UNAVAILABLE at once while it is away, and served again within 5 s of its return."""
    async with opened(server.url, size=4) as database:
        await assert_whole(database, server.url, 4)
        running = [asyncio.create_task(slow(database, kind)(Pauses((30,)))) for kind in ("read", "write")]
        await asyncio.sleep(0.1)  # they are on their way
        server.stop()
        assert [await refusal(task) for task in running] == [Code.UNAVAILABLE] * 2
        for kind in ("read", "write"):
            begun = time.monotonic()
            with pytest.raises(ServiceError) as refused:
                await slow(database, kind)(Pauses((0,)))
            assert (refused.value.code, refused.value.retry_after) == (Code.UNAVAILABLE, 1)
            assert time.monotonic() - begun < LATE
        server.start()
        back = time.monotonic()
        await slow(database, "read")(Pauses((0,)))
        await slow(database, "write")(Pauses((0,)))
        assert time.monotonic() - back < 5
        await assert_whole(database, server.url, 4)


async def test_not_there_yet(server: Server) -> None:
    """A pool is opened before its database is there, and serves as soon as it is."""
    server.stop()
    async with opened(server.url) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        server.start()
        await slow(database, "read")(Pauses((0,)))


@each_kind
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_frozen(server: Server, kind: str, warm: bool) -> None:
    """Even a database that answers nothing, not even a cancellation, delays no answer."""
    async with opened(server.url, size=4) as database:
        if warm:
            await assert_whole(database, server.url, 4)
        with server.frozen():
            for _ in range(2):
                with too_late():
                    await slow(database, kind)(Pauses((0,)))
            begun = time.monotonic()
            refusals = await asyncio.gather(*(refusal(slow(database, kind)(Pauses((0,)))) for _ in range(8)))
            assert set(refusals) == {Code.DEADLINE_EXCEEDED}
            assert time.monotonic() - begun < BUDGET + LATE
        back = time.monotonic()
        await slow(database, kind)(Pauses((0,)))
        assert time.monotonic() - back < 5
        await assert_whole(database, server.url, 4)


async def answered_too_late(call: Awaitable[object]) -> None:
    with too_late():
        await call


@each_kind
async def test_frozen_in_the_middle(server: Server, kind: str) -> None:
    """The same for a call whose statement was running already."""
    async with opened(server.url, size=4) as database:
        call = asyncio.create_task(answered_too_late(slow(database, kind)(Pauses((0.2, 30)))))
        await asyncio.sleep(0.1)  # it is on its way
        with server.frozen():
            await call
        await slow(database, kind)(Pauses((0,)))
        await assert_whole(database, server.url, 4)


async def test_frozen_for_longer_than_connecting_may_take(server: Server) -> None:
    """Where that is shorter than the budget it is 503, whose cause the request's line in the log says."""
    async with opened(server.url, connect_timeout=0.2) as database:
        with server.frozen(), pytest.raises(ServiceError) as raised:
            await database.row(None, None, SETTINGS)
    assert raised.value.code is Code.UNAVAILABLE
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_closed_while_frozen(server: Server) -> None:
    """A process can end while its database hangs."""
    async with opened(server.url, size=4) as database:
        await assert_whole(database, server.url, 4)
        with server.frozen():
            begun = time.monotonic()
            await database.close()
            assert time.monotonic() - begun < 1.5


async def test_no_connection_left(server: Server) -> None:
    """PostgreSQL has given all its connections to others: that passes, too."""
    others = [await asyncpg.connect(server.url) for _ in range(10)]
    async with opened(server.url, size=4) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
        for other in others:
            await other.close()
        await slow(database, "read")(Pauses((0,)))


async def test_values_in_the_text(database_url: str) -> None:
    """What shares a round trip with other statements has its values in it: they come out as they went in."""
    one = Statement(text("SELECT CAST(:value AS text), CAST(:other AS bytea), CAST(:id AS uuid), CAST(:none AS text)"))
    id_ = uuid4()
    connection = await asyncpg.connect(database_url)
    try:
        for value in TEXTS:
            written = one.inlined(value=value, other=value.encode(), id=id_, none=None)
            assert tuple(await connection.fetchrow(written)) == (value, value.encode(), id_, None)
    finally:
        await connection.close()
