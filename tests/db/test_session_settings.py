"""What a session is, whatever the database's defaults are; and what its errors mean."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from eventboard.core.errors import Code, ServiceError
from eventboard.db import migrations
from eventboard.db.database import Database, Statement
from eventboard.db.revisions import MODULES, needed
from eventboard.db.session_settings import SERVING
from eventboard.dev.postgres import SUPERUSER
from tests.support import cluster as clusters
from tests.support.database import SESSIONS
from tests.support.pooler import pooler_without

ROLE = "eventboard_events"
ONE = Statement(text("SELECT 1"))
# Of what the code relies on, each otherwise than PostgreSQL has it; and what a migration would fail by.
OTHERS = {
    "default_transaction_isolation": "serializable",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "idle_session_timeout": "60000",
    "lock_timeout": "1",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "timezone": "Asia/Kathmandu",
    "plan_cache_mode": "auto",
    "jit": "on",
}


@asynccontextmanager
async def opened(url: str, *, role: str = ROLE, size: int = 1) -> AsyncIterator[Database]:
    database = Database(url, role=role, size=size, connect_timeout=5)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    with clusters.database(cluster_url, template="template0") as url:
        yield url


@pytest.mark.parametrize("where", ["DATABASE {0}", "ROLE {1} IN DATABASE {0}"], ids=["database", "account"])
async def test_other_defaults(database_url: str, where: str) -> None:
    """A connection has what the code needs, of each setting that may differ; commits are durable."""
    assert OTHERS.keys() == SERVING.keys()
    where = where.format(name_of(database_url), SUPERUSER)
    others = {**OTHERS, "synchronous_commit": "off"}
    await execute(database_url, *(f"ALTER {where} SET {name} = '{value}'" for name, value in others.items()))
    async with opened(database_url) as database, database.transaction(None) as connection:
        for name, value in {**SERVING, "synchronous_commit": "on"}.items():
            row = await connection.one(Statement(text(f"SELECT current_setting('{name}')")))
            assert row is not None
            assert row[0] == value, name


async def test_more_durable_than_needed(database_url: str) -> None:
    """What an administrator has chosen to wait for at a commit stays."""
    await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET synchronous_commit = remote_apply")
    async with opened(database_url) as database:
        row = await database.row(None, None, Statement(text("SELECT current_setting('synchronous_commit')")))
    assert row is not None
    assert row[0] == "remote_apply"


async def test_migration_under_other_defaults(empty_url: str, database_url: str) -> None:
    """It leads to the same, however little time a statement, a transaction or a lock is given."""
    others = OTHERS | {"statement_timeout": "5", "idle_in_transaction_session_timeout": "5"}
    server = await asyncpg.connect(empty_url)
    if server.get_server_version().major >= 17:
        others["transaction_timeout"] = "200"
    await server.close()
    await execute(
        empty_url, *(f"ALTER DATABASE {name_of(empty_url)} SET {name} = '{value}'" for name, value in others.items())
    )
    await migrations.migrate(empty_url)
    await execute(database_url, f"ALTER DATABASE {name_of(empty_url)} RESET ALL")
    assert await indexes(empty_url) == await indexes(database_url)
    async with opened(empty_url) as database:
        row = await database.row(None, None, Statement(text("SELECT version_num FROM events.alembic_version")))
    assert row is not None
    assert row[0] == needed("events")


async def indexes(url: str) -> list[tuple[str, bool]]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "public"})
    try:
        return [
            tuple(row)
            for row in await connection.fetch(
                "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index JOIN pg_class c ON c.oid = indrelid"
                " WHERE relnamespace = ANY($1::regnamespace[]) ORDER BY 1",
                list(MODULES),
            )
        ]
    finally:
        await connection.close()


async def test_setting_that_gets_lost(database_url: str) -> None:
    """No statement is run without it. Where the account has it by ALTER ROLE, nothing is missing."""
    async with pooler_without(database_url, "lock_timeout") as url:
        async with opened(url) as database:
            assert (await database.row(None, None, ONE)) is not None
        await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET lock_timeout = '300ms'")
        async with opened(url) as database:
            with pytest.raises(ServiceError, match="lock_timeout is '300ms', and has to be '0'") as raised:
                await database.row(None, None, ONE)
        assert raised.value.code is Code.UNAVAILABLE
        await execute(database_url, f"ALTER ROLE {SUPERUSER} IN DATABASE {name_of(database_url)} SET lock_timeout = 0")
        async with opened(url) as database:
            assert (await database.row(None, None, ONE)) is not None


async def test_without_triggers_and_foreign_keys(database_url: str) -> None:
    """Nothing is written where PostgreSQL keeps no rule; nor is a schema changed."""
    await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET session_replication_role = replica")
    async with opened(database_url) as database:
        with pytest.raises(ServiceError, match="session_replication_role is 'replica'"):
            await database.row(None, None, ONE)
    with pytest.raises(ServiceError, match="session_replication_role"):
        await migrations.migrate(database_url)


async def run(database: Database, kind: str, statement: Statement) -> None:
    if kind == "row":
        await database.row(None, None, statement)
        return
    async with getattr(database, kind)(None) as connection:
        await connection.run(statement)


@pytest.mark.parametrize("kind", ["reading", "transaction", "row"])
@pytest.mark.parametrize(
    "state",
    [
        pytest.param("40001", id="serialization"),
        pytest.param("40P01", id="deadlock"),
        pytest.param("55P03", id="lock not available"),
        pytest.param("25P03", id="idle in a transaction"),
        pytest.param("25P04", id="transaction timeout"),
        pytest.param("57P05", id="idle session"),
        pytest.param("57P04", id="database dropped"),
        pytest.param("25006", id="read-only"),
        pytest.param("53100", id="disk full"),
        pytest.param("58030", id="disk error"),
    ],
)
async def test_what_another_try_may_do(raising_url: str, state: str, kind: str) -> None:
    """It is UNAVAILABLE: neither a bug, nor the caller's fault."""
    fails = Statement(text(f"SELECT public.fails('{state}')"))
    async with opened(raising_url) as database:
        with pytest.raises(ServiceError) as raised:
            await run(database, kind, fails)
        assert (raised.value.code, raised.value.retry_after) == (Code.UNAVAILABLE, 1)
        assert await database.row(None, None, ONE) is not None


@pytest.fixture(scope="module")
def raising_url(cluster_url: str) -> Iterator[str]:
    """With a function that fails as it is asked to."""
    with clusters.database(cluster_url) as url:
        asyncio.run(
            execute(
                url,
                "CREATE FUNCTION public.fails(state text) RETURNS int LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'as asked' USING ERRCODE = state; END $$",
            )
        )
        yield url


async def test_idle_in_a_transaction_for_too_long(database_url: str) -> None:
    """An administrator's limit ends the session; the call is UNAVAILABLE, and the next one is served."""
    await execute(
        database_url, f"ALTER DATABASE {name_of(database_url)} SET idle_in_transaction_session_timeout = '10ms'"
    )
    async with opened(database_url) as database:
        with pytest.raises(ServiceError) as raised:
            await idle_in_a_transaction(database, database_url)
        assert raised.value.code is Code.UNAVAILABLE
        assert await database.row(None, None, ONE) is not None


async def idle_in_a_transaction(database: Database, url: str) -> None:
    """Until PostgreSQL has ended its session."""
    others = f"SELECT count(*) FROM ({SESSIONS}) AS sessions"
    async with database.transaction(None) as connection:
        looks = await asyncpg.connect(url)
        while await looks.fetchval(others):
            pass
        await looks.close()
        await connection.one(ONE)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("-c nonsense=1", "nonsense"),
        ("-c work_mem=much", "work_mem"),
        ("-c max_connections=1", "max_connections"),
        ("endpoint=x", "endpoint"),
    ],
)
async def test_options_that_the_server_rejects(database_url: str, option: str, why: str) -> None:
    """The database is unavailable, and whoever asks is told why."""
    async with opened(f"{database_url}&options={quote(option)}") as database:
        with pytest.raises(ServiceError, match=f"accepts no connection: .*{why}") as raised:
            await database.row(None, None, ONE)
    assert raised.value.code is Code.UNAVAILABLE


async def test_account_that_may_not_work_as_the_role(database_url: str) -> None:
    """The same for an account that nobody made a member."""
    account = f"account_{uuid4().hex}"
    await execute(database_url, f"CREATE ROLE {account} LOGIN")
    try:
        async with opened(database_url.replace(f"//{SUPERUSER}@", f"//{account}@")) as database:
            with pytest.raises(ServiceError, match=f"accepts no connection: .*{ROLE}") as raised:
                await database.row(None, None, ONE)
        assert raised.value.code is Code.UNAVAILABLE
    finally:
        await execute(database_url, f"DROP ROLE {account}")
