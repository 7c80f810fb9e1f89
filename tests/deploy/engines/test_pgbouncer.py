"""EventBoard behind PgBouncer in transaction mode, with the accounts that deploy/postgres/roles.sh makes.

`pytest --pooler` runs other suites behind it, too: see docs/development.md.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import select, text

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.db import migrations
from eventboard.db.database import Database, Statement
from eventboard.db.sweeper import Sweeper
from eventboard.dev.postgres import Postgres
from eventboard.modules.events.models import EventRow
from eventboard.modules.events.sweeps import EXPIRED_KEYS
from tests.deploy.engines.pgbouncer import PgBouncer, new, old, pgbouncer
from tests.support import cluster as clusters
from tests.support.board import EVENT, Board
from tests.support.commands import ran, refused
from tests.support.crashes import POINTS, crashes
from tests.support.crowd import Call, crowd
from tests.support.database import SLEEP
from tests.support.installation import make_accounts, make_secrets
from tests.support.load import Load, load
from tests.support.shapes import SHAPES, deployed

NAME = "eventboard"
AUTH, EVENTS, MIGRATION = (f"eventboard_{who}_login" for who in ("auth", "events", "migration"))
ROLE = "eventboard_events"
# Connections to PostgreSQL for each module, and clients of two organizations.
CONNECTIONS, CLIENTS = 4, 64
ONE = Statement(text("SELECT 1"))
TITLES = Statement(select(EventRow.organization_id))


@dataclass
class Installed:
    """A migrated PostgreSQL that asks for passwords; `url` is its superuser's."""

    server: Postgres
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        return self.server.url(NAME)

    def direct(self, account: str) -> str:
        return self.url.replace("//eventboard@", f"//{account}:{self.passwords[account]}@")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    # Commits are durable, or the connections would be rejected; the cluster isn't.
    with clusters.postgres(synchronous_commit="on") as server:
        secrets = make_secrets(tmp_path_factory.mktemp("installed"))
        make_accounts(server, secrets, rule="local all all scram-sha-256")
        urls = [file.read_text() for file in secrets.glob("database-*-url")]
        passwords = dict(re.findall(r"postgresql://(\w+):(\w+)@", "".join(urls)))
        installed = Installed(server, passwords)
        asyncio.run(migrations.migrate(installed.direct(MIGRATION)))
        yield installed


@pytest.fixture(scope="module")
def pooler(installed: Installed) -> Iterator[PgBouncer]:
    with pgbouncer(new(), installed.url, installed.passwords, default_pool_size=CONNECTIONS) as found:
        yield found


@pytest.fixture
def one_connection(installed: Installed) -> Iterator[PgBouncer]:
    """All clients of an account have to share it."""
    with pgbouncer(new(), installed.url, installed.passwords, default_pool_size=1) as found:
        yield found


def urls(pooler: PgBouncer) -> dict[str, str]:
    return {"DATABASE_AUTH_URL": pooler.url(AUTH, NAME), "DATABASE_EVENTS_URL": pooler.url(EVENTS, NAME)}


@asynccontextmanager
async def opened(pooler: PgBouncer, *, size: int = 1) -> AsyncIterator[Database]:
    database = Database(pooler.url(EVENTS, NAME), role=ROLE, size=size, connect_timeout=5, statement_timeout=11)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Any]:
    """Another program, which makes no prepared statements."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


# ---------------------------------------------------------------------------------------------------------------------
# What it is told when something is missing


@pytest.mark.parametrize(
    ("program", "settings", "why"),
    [
        pytest.param(new, {"max_prepared_statements": 0}, "max_prepared_statements", id="no prepared statements"),
        pytest.param(new, {"pool_mode": "statement"}, "pool_mode = transaction", id="statement mode"),
        pytest.param(old, {"max_prepared_statements": None}, "PgBouncer 1.21 or newer", id="1.18"),
    ],
)
def test_pooler_that_cannot(
    installed: Installed, tmp_path: Path, program: Any, settings: dict[str, object], why: str
) -> None:
    """Nothing is served through it, in any order in which it hands out its connections: one line says what to set."""
    for order in (0, 1):
        with pgbouncer(program(), installed.url, installed.passwords, server_round_robin=order, **settings) as found:
            serving = {"SERVER_PORT": "0", "TOKENS_KEY_FILE": str(tmp_path / "key.pem"), **urls(found)}
            line = refused("serve", **serving)
            assert why in line
            assert "EVENTBOARD_DATABASE_" in line
            assert why in refused("check", **serving)


def test_session_mode(installed: Installed) -> None:
    """Without prepared statements of the pooler's own it is as good as no pooler."""
    with pgbouncer(
        old(), installed.url, installed.passwords, max_prepared_statements=None, pool_mode="session"
    ) as found:
        code, output = ran("check", **urls(found))
        assert (code, output) == (0, "settings, database and schema revision are fine\n")


def test_commands(pooler: PgBouncer, installed: Installed) -> None:
    """`check` goes through it; a migration needs PostgreSQL itself, and says so."""
    assert ran("check", **urls(pooler)) == (0, "settings, database and schema revision are fine\n")
    line = refused("migrate", DATABASE_URL=pooler.url(MIGRATION, NAME))
    assert "EVENTBOARD_DATABASE_MIGRATION_URL" in line
    direct = {"DATABASE_MIGRATION_URL": installed.direct(MIGRATION)}
    assert ran("migrate", **urls(pooler), **direct) == (0, "the database is at head\n")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("role", None, f"doesn't work as {ROLE}: .*ALTER ROLE {EVENTS} SET role = '{ROLE}'"),
        ("lock_timeout", "'300ms'", f"lock_timeout is '300ms', and has to be '0' for the account {EVENTS}"),
        ("synchronous_commit", "off", "synchronous_commit is 'off'"),
        ("statement_timeout", "'5s'", "statement_timeout is '5s', and has to be '11s' or longer"),
        ("statement_timeout", "0", "statement_timeout is '0s', and has to be '11s' or longer"),
    ],
)
async def test_setting_that_the_account_lacks(
    installed: Installed, one_connection: PgBouncer, setting: str, value: str | None, said: str
) -> None:
    async with client_of(installed.url) as superuser:
        kept = await superuser.fetchval(
            "SELECT split_part(found, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS found"
            " WHERE setrole = $1::regrole AND split_part(found, '=', 1) = $2",
            EVENTS,
            setting,
        )
        change = f"RESET {setting}" if value is None else f"SET {setting} = {value}"
        await superuser.execute(f"ALTER ROLE {EVENTS} {change}")
        try:
            async with opened(one_connection) as database:
                with pytest.raises(ServiceError, match=said) as raised:
                    await database.row(None, None, ONE)
        finally:
            change = f"RESET {setting}" if kept is None else f"SET {setting} = '{kept}'"
            await superuser.execute(f"ALTER ROLE {EVENTS} {change}")
    assert raised.value.code is Code.UNAVAILABLE


# ---------------------------------------------------------------------------------------------------------------------
# Whatever connection a transaction is run on


async def test_connection_older_than_the_settings(installed: Installed) -> None:
    """The pooler's own connections may differ: what was verified on one of them is verified for each transaction."""
    async with AsyncExitStack() as stack:
        superuser = await stack.enter_async_context(client_of(installed.url))
        with pgbouncer(new(), installed.url, installed.passwords, default_pool_size=2) as found:
            await superuser.execute(f"ALTER ROLE {EVENTS} RESET role")
            old_one, new_one = [await stack.enter_async_context(client_of(found.url(EVENTS, NAME))) for _ in range(2)]
            before = old_one.transaction()
            await before.start()
            await superuser.execute(f"ALTER ROLE {EVENTS} SET role = '{ROLE}'")
            database = await stack.enter_async_context(opened(found))
            assert await database.row(None, None, ONE) is not None
            after = new_one.transaction()
            await after.start()
            await before.rollback()
            for kind in ("row", "transaction", "reading"):
                with pytest.raises(ServiceError, match="RECONNECT") as raised:
                    await run(database, kind)
                assert raised.value.code is Code.UNAVAILABLE
            await after.rollback()
            found.console("RECONNECT")
            found.console("WAIT_CLOSE")
            for kind in ("row", "transaction", "reading"):
                await run(database, kind)


async def run(database: Database, kind: str) -> None:
    if kind == "row":
        await database.row(None, None, TITLES)
        return
    async with getattr(database, kind)(uuid4()) as connection:
        await connection.run(TITLES)


@pytest.mark.parametrize("change", ["SET search_path = public", "RESET ROLE; SET ROLE none"])
async def test_connection_that_another_client_has_changed(one_connection: PgBouncer, change: str) -> None:
    async with opened(one_connection) as database:
        await run(database, "row")
        async with client_of(one_connection.url(EVENTS, NAME)) as other:
            await other.execute(change)
        with pytest.raises(ServiceError, match="RECONNECT"):
            await run(database, "row")


async def test_cancelled_calls(one_connection: PgBouncer) -> None:
    """A call that runs out of time, or is given up, leaves nothing to the next client of its connection."""
    chance = Random(7)
    async with opened(one_connection) as first, opened(one_connection) as second:
        for number in range(40):
            sleeping = asyncio.create_task(_sleep(first, number % 2 == 0))
            await asyncio.wait([sleeping], timeout=chance.random() * 0.05)
            sleeping.cancel()
            await asyncio.wait([sleeping])
            organization = uuid4()
            with request_context.budget(10):
                for _ in range(3):
                    row = await second.row(
                        organization,
                        None,
                        Statement(text("SELECT current_setting('eventboard.organization_id'), current_user::text")),
                    )
                    assert row is not None
                    assert tuple(row) == (str(organization), ROLE)
        # It is nobody's any more, in a transaction or otherwise.
        async with client_of(one_connection.url(EVENTS, NAME)) as other:
            assert (
                await other.fetchval("SELECT nullif(current_setting('eventboard.organization_id', true), '')") is None
            )


async def _sleep(database: Database, transaction: bool) -> None:
    with request_context.budget(0.03):
        async with database.transaction(uuid4()) if transaction else database.reading(uuid4()) as connection:
            await connection.one(SLEEP, seconds=30)


# ---------------------------------------------------------------------------------------------------------------------
# Two organizations, 64 clients, 4 connections


@pytest.fixture(params=SHAPES[:2])
def board(request: pytest.FixtureRequest, installed: Installed, pooler: PgBouncer, tmp_path: Path) -> Iterator[Board]:
    with (
        deployed(request.param, "", tmp_path, **urls(pooler)) as deployment,
        closing(Board(deployment.public.url, installed.url)) as board,
    ):
        yield board


def test_api(board: Board, pooler: PgBouncer) -> None:
    """Interleaved, each write happens once, is replayed to whoever sends it again, and is seen by its own only."""
    pair = [board.organization(), board.organization()]
    authors = [pair[number % 2].user for number in range(CLIENTS)]
    with crowd(board.url, CLIENTS) as clients:
        for turn in range(4):
            calls = [
                Call(author, "POST", "/events", EVENT | {"title": f"{number} {turn}"}, {"idempotency-key": uuid4().hex})
                for number, author in enumerate(authors)
            ]
            first, again = clients.at_once(calls), clients.at_once(calls)
            assert {reply.status for reply in (*first, *again)} == {201}
            assert {reply.headers["idempotency-status"] for reply in again} == {"replayed"}
            assert [reply.body for reply in first] == [reply.body for reply in again]
            ids = [reply.body["id"] for reply in first]
            # Each reads the next one's event, which is one of the other organization.
            others = [Call(author, "GET", f"/events/{ids[number - 1]}") for number, author in enumerate(authors)]
            assert {reply.status for reply in clients.at_once(others)} == {404}
            changes = [
                Call(author, "PATCH", f"/events/{ids[number]}", {"location": str(number)})
                for number, author in enumerate(authors)
            ]
            assert [reply.body["location"] for reply in clients.at_once(changes)] == [
                str(number) for number in range(CLIENTS)
            ]
            # As many at once as an organization may have lists, and auth connections for administration.
            for some in range(0, CLIENTS, 4):
                asked = [Call(author, "GET", "/events?limit=100") for author in authors[some : some + 4]]
                for author, reply in zip(authors[some:], clients.at_once(asked), strict=False):
                    assert {event["createdById"] for event in reply.body["data"]} == {str(author.id)}
            members = clients.at_once([Call(organization.admin, "GET", "/members") for organization in pair])
            for own, other, reply in zip(pair, reversed(pair), members, strict=True):
                emails = {member["email"] for member in reply.body["data"]}
                assert own.user.email in emails
                assert other.user.email not in emails
    for organization in pair:
        assert sum(1 for _ in everything(organization.user)) == 4 * CLIENTS / 2
    servers = [line for line in pooler.console("SHOW SERVERS").splitlines() if f"|{EVENTS}|" in line]
    assert 0 < len(servers) <= CONNECTIONS


def everything(member: Any) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
        page = member.http.get("/events", params=query).json()
        yield from page["data"]
        cursor = page["meta"]["nextCursor"]
        if cursor is None:
            return


async def test_scopes(installed: Installed, pooler: PgBouncer) -> None:
    """Thousands of scopes of two organizations by 64 clients, cancelled at random: no foreign row."""
    organizations = [uuid4(), uuid4()]
    async with client_of(installed.url) as superuser:
        for organization in organizations:
            await superuser.execute(
                "INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone,"
                " status, created_by_id, created_by_name, version) VALUES ($1, gen_random_uuid(), 'a', '', now(),"
                " now() + interval '1 hour', 'UTC', 'DRAFT', gen_random_uuid(), 'A', 1)",
                organization,
            )
    chance = Random(5)
    foreign = seen = 0

    async with opened(pooler, size=CLIENTS // 2) as first, opened(pooler, size=CLIENTS // 2) as second:

        async def look(database: Database, organization: UUID, *, reading: bool) -> None:
            nonlocal foreign, seen
            scope = database.reading(organization) if reading else database.transaction(organization)
            async with scope as connection:
                rows = await connection.all(TITLES)
            seen += 1
            foreign += {row[0] for row in rows} != {organization}

        async def client(number: int, turns: int) -> None:
            database = (first, second)[number % 2]
            for _ in range(turns):
                task = asyncio.create_task(look(database, chance.choice(organizations), reading=chance.random() < 0.5))
                if chance.random() < 0.1:
                    await asyncio.wait([task], timeout=chance.random() * 0.02)
                    task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None, task

        await asyncio.gather(*(client(number, 30) for number in range(CLIENTS)))
    assert foreign == 0
    assert seen > 15 * CLIENTS


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def test_killed_at_every_point_of_a_creation(installed: Installed, pooler: PgBouncer, tmp_path: Path) -> None:
    """The process dies; the pooler ends its transaction, and the write has happened once when it is sent again."""
    with crashes("all", installed.url, tmp_path, **urls(pooler)) as found:
        assert found.at_every_point("all", "create") == POINTS["create"]


def test_pooler_that_is_killed(installed: Installed, tmp_path: Path) -> None:
    """Whoever writes while it is away gets a 503, and tries again with the same key: nothing is lost or doubled."""
    with (
        pgbouncer(new(), installed.url, installed.passwords, default_pool_size=CONNECTIONS) as found,
        deployed("all", "", tmp_path, **urls(found)) as deployment,
        closing(Board(deployment.public.url, installed.url)) as board,
    ):
        author = board.organization().user
        keys = [uuid4().hex for _ in range(200)]
        left = list(keys)

        def write() -> Any:
            key = left[0] if left else keys[-1]
            answer = author.http.post("/events", json=EVENT, headers={"idempotency-key": key})
            if answer.status_code == 201 and left and left[0] == key:
                left.pop(0)
            return answer

        with load([write]) as found_so_far:
            for remaining in (150, 100, 50):
                _until(lambda: len(left) < remaining, found_so_far)  # noqa: B023 - it is called in this turn
                found.kill()
                found.start()
            _until(lambda: not left, found_so_far)
        assert set(found_so_far.statuses) <= {201, 503}
        assert sum(1 for _ in everything(author)) == len(keys)


def _until(true: Any, found: Load) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, found
        time.sleep(0.01)


async def test_sweeper(installed: Installed, pooler: PgBouncer) -> None:
    """It takes its role for a transaction, and nobody after it has it."""
    async with client_of(installed.url) as superuser, opened(pooler) as database:
        await superuser.execute(
            "INSERT INTO events.idempotency_keys (organization_id, user_id, key, operation, payload, outcome,"
            " correlation_id, expires_at) VALUES (gen_random_uuid(), gen_random_uuid(), 'k', 'events.create', '\\x00',"
            " '\\x80', 'put', now() - interval '1 hour')"
        )
        assert await Sweeper(database, EXPIRED_KEYS, every=60).sweep() > 0
        assert not await superuser.fetchval("SELECT count(*) FROM events.idempotency_keys WHERE key = 'k'")
        row = await database.row(None, None, Statement(text("SELECT current_user::text")))
        assert row is not None
        assert row[0] == ROLE
