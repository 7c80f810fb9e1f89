"""Runs Alembic, a branch for each module's schema; imported by what migrates, never by what serves."""

import asyncio
import io
from collections.abc import Callable

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from eventboard.levels import MODULES, scripts_folder
from eventboard.modules.auth import models as auth
from eventboard.modules.events import models as events

METADATA: dict[str, MetaData] = {"auth": auth.Base.metadata, "events": events.Base.metadata}

# Any number will do as long as no one else uses it: two migrations at once must not interleave.
LOCK = 0x65_76_62_64


async def migrate(url: str, *, module: str | None = None, revision: str = "head") -> None:
    """Brings every module's schema (or one) to `revision`; "base" takes it all away. One migration runs at a time.

    Raises alembic.util.CommandError where there is no such revision.
    """
    await _each(url, MODULES if module is None else (module,), lambda config: _move(config, revision))


async def check(url: str) -> None:
    """Raises alembic.util.CommandError where a schema differs from its models."""
    await _each(url, MODULES, command.check)


async def _each(url: str, modules: tuple[str, ...], step: Callable[[Config], None]) -> None:
    # By asyncpg's own reading of the URL, as everywhere: SQLAlchemy's knows no sslmode.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    try:
        async with engine.connect() as connection:
            # To wait inside of a statement would hold up who has the lock, while that makes an index CONCURRENTLY.
            while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
                await connection.commit()
                await asyncio.sleep(0.1)
            await connection.commit()
            for module in modules:
                # The version table lives in the schema, so the schema is there before the first migration.
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {module}"))
                await connection.commit()
                await connection.run_sync(_with_config, module, step)
                await connection.commit()
    finally:
        await engine.dispose()


def _move(config: Config, revision: str) -> None:
    """Up or down: revisions are numbers in their order, and "head" is behind them all."""
    connection: Connection = config.attributes["connection"]
    options = {"version_table_schema": config.attributes["module"]}
    current = MigrationContext.configure(connection, opts=options).get_current_revision()
    connection.rollback()  # Alembic begins a transaction for each migration, unless it finds one begun
    down = revision == "base" or revision.startswith("-") or (current is not None and revision < current)
    (command.downgrade if down else command.upgrade)(config, revision)


def _with_config(connection: Connection, module: str, step: Callable[[Config], None]) -> None:
    step(_config(module, connection))


def _config(module: str, connection: Connection) -> Config:
    # Alembic prints; `eventboard migrate` says itself what it did.
    config = Config(
        stdout=io.StringIO(), attributes={"connection": connection, "module": module, "metadata": METADATA[module]}
    )
    folder = scripts_folder()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / "versions" / module))
    config.set_main_option("path_separator", "os")
    return config
