"""Databases as providers and administrators make them: what `migrate`, `check` and readiness say of them."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from loguru import logger
from sqlalchemy import text

from eventboard.commands.database import TaskError, check, check_connection, downgrade, migrate, plan_downgrade
from eventboard.core.errors import Code, ServiceError
from eventboard.db import migrations
from eventboard.db.database import Database, Statement
from eventboard.db.database_url import parse
from eventboard.db.revisions import needed
from eventboard.db.schema_check import schema_check
from eventboard.dev.demo import add_demo_data
from eventboard.dev.postgres import SUPERUSER
from eventboard.modules.auth import keys
from eventboard.modules.events.repository import SEARCH_TRIAL
from eventboard.settings import Settings, load
from tests.support import cluster as clusters
from tests.support.processes import PATIENCE, logged_so_far, patiently, serving, spawned

VARIABLE = "EVENTBOARD_DATABASE_URL"
PRODUCTION = {"EVENTBOARD_ENVIRONMENT": "production"}


def settings(url: str, **others: str) -> Settings:
    return load({VARIABLE: url, **others})


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    with clusters.database(cluster_url, template="template0") as url:
        yield url


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Extensions

EVENT = (
    "INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone, status,"
    " created_by_id, created_by_name, version) VALUES ($1, $1, 'Chess night', '', now(), now() + interval '1 hour',"
    " 'UTC', 'DRAFT', $1, 'Ann', 1)"
)


async def assert_searched(url: str) -> None:
    """Under the module's role, an event can be written and found."""
    connection = await asyncpg.connect(url, server_settings={"role": "eventboard_events"})
    organization = uuid4()
    try:
        await connection.execute(f"SET eventboard.organization_id = '{organization}'")
        await connection.execute(EVENT, organization)
        assert await connection.fetchval("SELECT count(*) FROM events.search_rows('%hess%')") == 1
    finally:
        await connection.close()


@pytest.mark.parametrize("schema", ["extensions", 'An "other":place, $1 %s'])
@pytest.mark.parametrize("path", ["", ", {}"], ids=["off the path", "on the path"])
async def test_extensions_in_another_schema(empty_url: str, schema: str, path: str) -> None:
    """Search works, whatever the schema's name is, and on the search path or not; down and up again, too."""
    quoted = '"' + schema.replace('"', '""') + '"'
    await execute(
        empty_url,
        f"CREATE SCHEMA {quoted}",
        f"CREATE EXTENSION pg_trgm SCHEMA {quoted}",
        f"CREATE EXTENSION btree_gin SCHEMA {quoted}",
        f"ALTER DATABASE {name_of(empty_url)} SET search_path = public{path.format(quoted)}",
    )
    assert (await migrate(settings(empty_url))).warnings == []
    assert await check(settings(empty_url)) == []
    await assert_searched(empty_url)
    if path:
        plan = await migrations.plan_downgrade(empty_url, module="events", revision="0006")
        await migrations.downgrade(empty_url, plan)
        await migrations.migrate(empty_url)
        await assert_searched(empty_url)


@pytest.mark.parametrize("change", ["REVOKE ALL ON SCHEMA public FROM PUBLIC", "DROP SCHEMA public"])
async def test_schema_public_that_was_hardened(empty_url: str, change: str) -> None:
    """The extensions are where the module's role can use them."""
    await execute(empty_url, change)
    assert (await migrate(settings(empty_url))).warnings == []
    assert await check(settings(empty_url)) == []
    await assert_searched(empty_url)


async def test_migrated_when_extensions_had_to_be_in_public(empty_url: str) -> None:
    """A database whose function for search named another schema is mended by the next migration."""
    await migrations.migrate(empty_url, module="auth")
    await migrations.migrate(empty_url, module="events", revision="0007")
    await execute(empty_url, "CREATE SCHEMA extensions", "ALTER EXTENSION pg_trgm SET SCHEMA extensions")
    await migrations.migrate(empty_url)
    assert await check(settings(empty_url)) == []
    await assert_searched(empty_url)


async def test_extension_that_was_moved(database_url: str) -> None:
    """Neither `check` nor readiness is content: each write would fail."""
    await execute(database_url, "CREATE SCHEMA elsewhere", "ALTER EXTENSION pg_trgm SET SCHEMA elsewhere")
    with pytest.raises(TaskError, match="show_trgm"):
        await check(settings(database_url))
    with pytest.raises(ServiceError, match="show_trgm"):
        await readiness(database_url)


async def readiness(url: str) -> None:
    database = Database(url, role="eventboard_events", size=1, connect_timeout=5)
    await database.open()
    try:
        await schema_check(database, "events", needed("events"), trial=SEARCH_TRIAL)()
    finally:
        await database.close()


# ---------------------------------------------------------------------------------------------------------------------
# Encodings and locales

ENCODINGS = {
    name: f"ENCODING '{name}' LOCALE_PROVIDER libc LOCALE 'C'" for name in ("LATIN1", "SQL_ASCII", "EUC_JP", "WIN1251")
}
FEW_LETTERS = {
    "libc": "LOCALE_PROVIDER libc LC_CTYPE 'C'",
    "POSIX": "LOCALE_PROVIDER libc LC_CTYPE 'POSIX'",
    "builtin": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'",
}
ALL_LETTERS = {
    "libc": "LOCALE_PROVIDER libc LC_CTYPE 'C.UTF-8'",
    "icu": "LOCALE_PROVIDER icu ICU_LOCALE 'und' LC_CTYPE 'C'",
    "builtin": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_CTYPE 'C'",
}


@pytest.fixture
def made(cluster_url: str) -> Iterator[Callable[[dict[str, str]], dict[str, str]]]:
    """Makes those databases that this PostgreSQL can make, and returns their URLs."""
    server = asyncio.run(ask(cluster_url, "SHOW server_version_num"))
    with ExitStack() as stack:

        def make(options: dict[str, str]) -> dict[str, str]:
            possible = {kind: how for kind, how in options.items() if int(server) >= 170_000 or "builtin" not in how}
            urls = stack.enter_context(clusters.empty_databases(cluster_url, possible))
            assert urls
            return urls

        yield make


async def ask(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


Made = Callable[[dict[str, str]], dict[str, str]]


def test_other_encodings(made: Made) -> None:
    """They have no room for every character: nothing is migrated, and what was migrated before isn't ready."""
    urls = made(ENCODINGS)
    for encoding, url in urls.items():
        for command in (migrate, check):
            with pytest.raises(TaskError, match=f"encoding is {encoding}, and must be UTF8"):
                asyncio.run(command(settings(url)))
    asyncio.run(migrations.migrate(urls["LATIN1"]))
    with pytest.raises(ServiceError, match="encoding is LATIN1, and has to be UTF8"):
        asyncio.run(readiness(urls["LATIN1"]))


def test_locale_that_knows_few_letters(made: Made) -> None:
    """Both commands warn of it: a search would find É by É only."""
    for url in made(FEW_LETTERS).values():
        (warning,) = asyncio.run(migrate(settings(url))).warnings
        assert "LC_CTYPE" in warning
        assert asyncio.run(check(settings(url))) == [warning]


def test_locale_that_knows_letters(made: Made) -> None:
    """By whichever provider: nothing is warned of."""
    for url in made(ALL_LETTERS).values():
        assert asyncio.run(migrate(settings(url))).warnings == []


# ---------------------------------------------------------------------------------------------------------------------
# Settings and accounts


async def test_read_only_database(database_url: str) -> None:
    """As a provider makes it when the disk is full: `check` says so, and nothing overrides it."""
    await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET default_transaction_read_only = on")
    with pytest.raises(TaskError, match="read-only"):
        await check(settings(database_url))
    with pytest.raises(TaskError, match="read-only transaction"):
        await downgrade(
            settings(database_url), await plan_downgrade(settings(database_url), module=None, revision="base")
        )


async def test_transactions_with_little_time(database_url: str) -> None:
    """An administrator's limit stays; `check` warns where calls may need longer."""
    setting = "idle_in_transaction_session_timeout"
    await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET {setting} = '9s'")
    assert await check(settings(database_url)) == [
        f"{module}: the database's {setting} is shorter than the longest call may take" for module in ("auth", "events")
    ]
    await execute(database_url, f"ALTER DATABASE {name_of(database_url)} SET {setting} = '11s'")
    assert await check(settings(database_url)) == []


@pytest.mark.parametrize(
    ("option", "warned"), [("SUPERUSER", True), ("BYPASSRLS", True), ("", False)], ids=["super", "bypass", "plain"]
)
async def test_account_that_passes_by_row_level_security(database_url: str, option: str, warned: bool) -> None:
    """Production warns of it, as `check` does; development doesn't."""
    account = f"account_{uuid4().hex}"
    await execute(
        database_url, f"CREATE ROLE {account} LOGIN {option}", f"GRANT eventboard_auth, eventboard_events TO {account}"
    )
    url = database_url.replace(f"//{SUPERUSER}@", f"//{account}@")
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    try:
        warnings = [line for line in await check(settings(url, **PRODUCTION)) if "row-level security" in line]
        assert len(warnings) == (2 if warned else 0)
        assert await check(settings(url)) == []
        assert lines == []
        for production in (True, False):
            lines.clear()
            database = Database(url, role="eventboard_auth", size=2, connect_timeout=5, warn_of_privileges=production)
            await database.open()
            async with database.transaction(None), database.transaction(None):
                pass
            await database.close()
            assert len(lines) == (1 if warned and production else 0)
    finally:
        logger.remove(sink)
        await execute(database_url, f"DROP OWNED BY {account}", f"DROP ROLE {account}")


def test_production_with_a_superuser(database_url: str, tmp_path: Path) -> None:
    """It serves, and warns of the account once for each module."""
    (tmp_path / "keys").mkdir(mode=0o700)
    keys.rotate(tmp_path / "keys")
    strong = {"ENVIRONMENT": "production", "PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    own = {"SERVER_HOST": "127.0.0.1", "SERVER_ADMIN_PORT": "0", "TOKENS_KEY_FILE": str(tmp_path / "keys")}
    with serving(database_url, tmp_path, **strong, **own) as process:
        for _ in patiently(process):
            if process.output.count("bypasses row-level security") == 2:
                break
        assert logged_so_far(process).count("bypasses row-level security") == 2


# ---------------------------------------------------------------------------------------------------------------------
# URLs

# What libpq knows, and what providers write for other libraries.
PARAMETERS = (
    "channel_binding=require&connect_timeout=5&keepalives=1&keepalives_idle=30&keepalives_interval=10"
    "&keepalives_count=5&tcp_user_timeout=10000&gssencmode=disable&sslsni=1&sslcompression=0&sslcertmode=allow"
    "&require_auth=scram-sha-256&load_balance_hosts=disable&client_encoding=utf8&fallback_application_name=x"
    "&pgbouncer=true&connection_limit=1&pool_timeout=5&schema=public&supa=base-pooler.x&prepareThreshold=0&se=same"
)
HONOURED = "&target_session_attrs=read-write&sslmode=disable&application_name=board&options=-c%20work_mem%3D8MB"


def with_parameters(url: str) -> str:
    return f"{url}&{PARAMETERS}{HONOURED}"


async def test_parameters_of_the_url(empty_url: str) -> None:
    """Each command takes them: what can't be honoured is ignored, with one warning that quotes no unknown word."""
    url = with_parameters(empty_url)
    (warning,) = (await migrate(settings(url))).warnings
    assert warning.startswith("parameters of the database's URL are ignored: channel_binding, ")
    assert warning.endswith(", an unknown one (EVENTBOARD_DATABASE_URL)")
    assert "same" not in warning
    assert await check(settings(url)) == [warning]
    assert (await add_demo_data(settings(url)))[1] == [warning]
    database = Database(url, role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    row = await database.row(
        None, None, Statement(text("SELECT current_setting('application_name'), current_setting('work_mem')"))
    )
    await database.close()
    assert row is not None
    assert tuple(row) == ("board", "8MB")


def test_parameters_of_the_url_in_a_process(database_url: str, tmp_path: Path) -> None:
    """It starts, is ready, and logs the warning; `check` prints it and is content."""
    url = with_parameters(database_url)
    with serving(url, tmp_path) as process:
        assert process.output.count("parameters of the database's URL are ignored") == 1
    values = {"DATABASE_URL": url, "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem")}
    with spawned("check", **values) as process:
        assert process.popen.wait(PATIENCE) == 0
        warning, said = process.output.splitlines()
    assert warning.startswith("eventboard: warning: parameters of the database's URL are ignored: ")
    assert said == "settings, database and schema revision are fine"


async def test_several_hosts(database_url: str) -> None:
    """The first that answers, and is as asked for, is used."""
    name, query = database_url.split("?")
    await check_connection(f"{name}?{query.replace('host=', 'host=%2Fnowhere,', 1).replace('port=', 'port=1,')}")
    primary = f"{database_url}&target_session_attrs="
    await check_connection(primary + "primary")
    with pytest.raises(TaskError, match="can't be reached"):
        await check_connection(primary + "standby")
    database = Database(primary + "standby", role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    with pytest.raises(ServiceError) as raised:
        await database.row(None, None, Statement(text("SELECT 1")))
    await database.close()
    assert raised.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("postgresql://a@h/d?ssl=true", {"dsn": "postgresql://a@h/d?sslmode=require"}),
        ("postgresql://a@h/d?requiressl=1", {"dsn": "postgresql://a@h/d?sslmode=require"}),
        ("postgresql://a@h/d?ssl=true&sslmode=verify-full", {"dsn": "postgresql://a@h/d?sslmode=verify-full"}),
        ("postgresql://a@h/d?sslrootcert=system", {"dsn": "postgresql://a@h/d", "ssl": True}),
        ("postgresql://a@h:1,i:2/d?sslrootcert=/a%20b", {"dsn": "postgresql://a@h:1,i:2/d?sslrootcert=%2Fa+b"}),
        ("postgresql://a@/d?hostaddr=192.0.2.1", {"dsn": "postgresql://a@/d?host=192.0.2.1"}),
        ("postgresql://a@h/d?sesame", {"dsn": "postgresql://a@h/d?sesame"}),
        ("postgresql://a@[h/d", {"dsn": "postgresql://a@[h/d"}),
    ],
)  # fmt: skip
def test_what_the_driver_is_given(given: str, arguments: dict[str, object]) -> None:
    """No parameter means less than it says, and what can't be read is left to the driver."""
    assert parse(given).arguments == arguments


# ---------------------------------------------------------------------------------------------------------------------
# The process's account


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's rights, where the tests have them."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("sslmode", ["prefer", "require", "verify-full"])
async def test_home_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sslmode: str) -> None:
    """The driver looks for certificates there. One line says what to do, and the service is unavailable."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    home.chmod(0)
    try:
        url = f"postgresql://me:sesame@127.0.0.1:1/eventboard?sslmode={sslmode}"
        database = Database(url, role="eventboard_auth", size=1, connect_timeout=5)
        await database.open()
        with as_somebody_else():
            with pytest.raises(TaskError) as raised:
                await check_connection(url)
            with pytest.raises(ServiceError, match="eventboard check"):
                await database.row(None, None, Statement(text("SELECT 1")))
        await database.close()
    finally:
        home.chmod(0o700)
    assert str(raised.value) == (
        f"the database can't be reached: HOME is {home}, which this account can't read: set it to another folder"
    )


async def test_account_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that no account has, as in containers: the URL has to name somebody."""
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "PGUSER"):
        monkeypatch.delenv(name, raising=False)
    url = "postgresql://127.0.0.1:1/eventboard?sslmode=require"
    database = Database(url, role="eventboard_auth", size=1, connect_timeout=5)
    await database.open()
    user = os.getuid(), os.geteuid()
    if user[0] != 0:
        pytest.skip("only root can be somebody else")
    os.setresuid(12345, 0, 0)
    try:
        with pytest.raises(TaskError, match="names no account") as raised:
            await check_connection(url)
        with pytest.raises(ServiceError, match="eventboard check"):
            await database.row(None, None, Statement(text("SELECT 1")))
    finally:
        os.setresuid(0, 0, 0)
        await database.close()
    assert "\n" not in str(raised.value)
