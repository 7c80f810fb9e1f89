"""What the command line does with a database: migrate it, downgrade it, check it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from eventboard.core.errors import CommandError, ServiceError
from eventboard.db import database_url, session_settings
from eventboard.db.database import Database, Statement
from eventboard.db.pooler import UNPREPARED, unprepared
from eventboard.db.revisions import MODULES, Downgrade, needed
from eventboard.db.schema_check import ENCODING, schema_check
from eventboard.db.sweeper import statement_timeout
from eventboard.modules.events.repository import SEARCH_TRIAL
from eventboard.settings import Settings

_TRIAL_STATEMENTS = {"events": SEARCH_TRIAL}

# É and Ж by their code points.
_LETTERS = """
    SELECT getdatabaseencoding(), CASE WHEN getdatabaseencoding() = 'UTF8' THEN (
        SELECT bool_and(lower(chr(large)) = chr(small)) FROM (VALUES (201, 233), (1046, 1078)) AS letter (large, small)
    ) END, pg_backend_pid()
"""
_FEW_LETTERS = (
    "the database's locale (LC_CTYPE) knows ASCII letters only: a search finds other letters in the same case only;"
    " create the database with another locale, such as C.UTF-8"
)
_FACTS = Statement(
    text(
        """
        SELECT current_setting('default_transaction_read_only') = 'on' OR pg_is_in_recovery() AS read_only,
            current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AS durable,
            (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user) AS bypasses,
            ARRAY(
                SELECT name FROM pg_settings
                WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
                AND setting::bigint BETWEEN 1 AND :milliseconds ORDER BY name
            ) AS short
        """
    )
)


class TaskError(CommandError):
    """One line for the user."""


class Migrated(Struct, frozen=True):
    """The revision of each module now, and warnings for the operator."""

    revisions: dict[str, str]
    warnings: list[str]


async def migrate(settings: Settings, *, module: str | None = None, revision: str = "head") -> Migrated:
    from eventboard.db import migrations

    async with _migrating(settings) as (url, warnings):
        return Migrated(await migrations.migrate(url, module=module, revision=revision), warnings)


async def plan_downgrade(settings: Settings, *, module: str | None, revision: str) -> Downgrade:
    from eventboard.db import migrations

    async with _migrating(settings) as (url, _):
        return await migrations.plan_downgrade(url, module=module, revision=revision)


async def downgrade(settings: Settings, plan: Downgrade) -> None:
    from eventboard.db import migrations

    async with _migrating(settings) as (url, _):
        await migrations.downgrade(url, plan)


@asynccontextmanager
async def _migrating(settings: Settings) -> AsyncIterator[tuple[str, list[str]]]:
    """The URL to migrate with, and warnings about its database. An error in the block becomes a TaskError."""
    from alembic.util import CommandError

    url = settings.database.for_migration()
    variable = settings.database.variable("migration")
    warnings = await check_connection(url, variable, direct=True)
    try:
        yield url, warnings
    except DBAPIError as error:
        raise TaskError(f"the migration failed: {one_line(error.driver_exception)}") from error
    except (CommandError, asyncpg.PostgresError, OSError) as error:
        raise TaskError(f"the migration failed: {one_line(error)}") from error
    except ServiceError as error:
        raise TaskError(f"the migration failed: {error.detail}") from None


async def check(settings: Settings) -> list[str]:
    """Returns warnings. Raises TaskError where a database can't be reached, or isn't what the code needs."""
    warnings: list[str] = []
    for module in MODULES:
        url, variable = settings.database.for_module(module), settings.database.variable(module)
        warnings += await check_connection(url, variable)
    milliseconds = int(1000 * max(msgspec.structs.astuple(settings.budgets)))
    async with open_databases(settings) as each:
        for module, database in each.items():
            try:
                await schema_check(database, module, needed(module), trial=_TRIAL_STATEMENTS.get(module))()
                facts: Any = await database.row(None, None, _FACTS, milliseconds=milliseconds)
            except ServiceError as error:
                raise TaskError(f"{module}: {error.detail}") from None
            if facts["read_only"]:
                raise TaskError(f"{module}: the database is read-only (default_transaction_read_only, or a standby)")
            warnings += [f"{module}: {warning}" for warning in _warnings(facts, settings)]
    return list(dict.fromkeys(warnings))


def _warnings(facts: Any, settings: Settings) -> list[str]:
    warnings = [f"the database's {name} is shorter than the longest call may take" for name in facts["short"]]
    if settings.environment == "production":
        if facts["bypasses"]:
            warnings.append(f"the account {session_settings.BYPASSES}")
        if not facts["durable"]:
            warnings.append("PostgreSQL runs with fsync or full_page_writes off: a crash may lose everything")
    return warnings


async def check_connection(url: str, variable: str = "EVENTBOARD_DATABASE_URL", *, direct: bool = False) -> list[str]:
    """Returns warnings. Raises TaskError where no connection can be made, or the database's encoding isn't UTF8.

    Both name the URL's variable, and show no password. `direct`: a pooler in between is rejected.
    """
    ignored = database_url.ignored_parameters(url)
    try:
        try:
            connection = await database_url.connect(url, settings=session_settings.MIGRATING, timeout=5)
        except asyncpg.ProtocolViolationError:
            # A pooler rejects the settings.
            connection = await database_url.connect(url, settings={}, timeout=5)
        try:
            encoding, knows_letters, process = await connection.fetchrow(_LETTERS)
        finally:
            await connection.close()
    except asyncpg.ClientConfigurationError as error:
        raise TaskError(f"the database's URL can't be used: {one_line(error)} ({variable})") from None
    except ValueError:
        # The error's text may contain part of the password, such as what follows an "@" that isn't percent-encoded.
        raise TaskError(f"the database's URL can't be read ({variable})") from None
    except KeyError:
        # Python finds no account for the process's user id.
        raise TaskError(f"the database's URL names no account, and this process has none ({variable})") from None
    except UNPREPARED:
        raise TaskError(f"{unprepared().detail} ({variable})") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if isinstance(error, PermissionError) and (why := database_url.unreadable_home()):
            raise TaskError(f"the database can't be reached: {why}") from None
        raise TaskError(f"the database can't be reached: {one_line(error)} ({variable})") from None
    if direct and process != connection.get_server_pid():
        raise TaskError(
            f"there is a pooler in front of the database, and a migration needs PostgreSQL itself ({variable}):"
            " set EVENTBOARD_DATABASE_MIGRATION_URL to its URL"
        )
    if encoding != ENCODING:
        raise TaskError(
            f"the database's encoding is {encoding}, and must be {ENCODING}: create it with"
            f" CREATE DATABASE … ENCODING '{ENCODING}' TEMPLATE template0 ({variable})"
        )
    return [f"{warning} ({variable})" for warning in (ignored, "" if knows_letters else _FEW_LETTERS) if warning]


def one_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


async def is_current(settings: Settings) -> bool:
    try:
        await check(settings)
    except TaskError:
        return False
    return True


@asynccontextmanager
async def open_databases(settings: Settings) -> AsyncIterator[dict[str, Database]]:
    databases = {
        module: Database(
            settings.database.for_module(module),
            role=f"eventboard_{module}",
            size=2,
            connect_timeout=settings.database.connect_timeout,
            statement_timeout=statement_timeout(msgspec.structs.astuple(settings.budgets)),
        )
        for module in MODULES
    }
    for database in databases.values():
        await database.open()
    try:
        yield databases
    finally:
        await asyncio.gather(*(database.close() for database in databases.values()))
