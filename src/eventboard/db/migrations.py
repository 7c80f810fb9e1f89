"""Runs Alembic, with a branch for each module's schema. Imported by the commands that migrate only."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from eventboard.db import database_url, session_settings
from eventboard.db.revisions import MODULES, Downgrade, scripts_folder

# An advisory lock, whose number nothing else uses: one migration runs at a time.
LOCK = 0x65_76_62_64

# Alembic's name for the state before the first revision.
BASE = "base"


async def migrate(url: str, *, module: str | None = None, revision: str = "head") -> dict[str, str]:
    """Upgrades each module's schema, or one, to `revision`: head, +N or a revision's name. Returns their revisions.

    Raises CommandError, and changes nothing, where a module lacks the revision, or is above it.
    """
    async with _locked(url) as connection:
        now = {name: await connection.run_sync(_revisions, name) for name in _modules(module)}
        await connection.commit()
        targets = _upgrades(now, revision)
        for module, target in targets.items():
            # Alembic's version table is in it.
            await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {module}"))
            await connection.commit()
            await _run(connection, module, command.upgrade, target)
    return targets


async def plan_downgrade(url: str, *, module: str | None, revision: str) -> Downgrade:
    """`revision` is base, -N or a revision's name. Raises CommandError where a module lacks it, or is below it."""
    async with _connected(url) as connection:
        database = await connection.scalar(text("SELECT current_database()"))
        moves = {name: await connection.run_sync(_downgrade_from_to, name, revision) for name in _modules(module)}
    return Downgrade(database, {name: (now, then) for name, (now, then) in moves.items() if now != then})


async def downgrade(url: str, plan: Downgrade) -> None:
    """Raises CommandError, and changes nothing, where a module is no longer at the revision in the plan."""
    async with _locked(url) as connection:
        for module, (planned, _) in plan.moves.items():
            now, *_ = await connection.run_sync(_revisions, module)
            if now != planned:
                raise CommandError(f"{module} is at {now}, not at {planned} any more: nothing was changed")
        await connection.commit()
        for module, (_, target) in plan.moves.items():
            await _run(connection, module, command.downgrade, target)


async def check(url: str) -> None:
    """Raises CommandError where a schema differs from its models."""
    async with _locked(url) as connection:
        for module in MODULES:
            await _run(connection, module, command.check)


def _modules(module: str | None) -> tuple[str, ...]:
    return MODULES if module is None else (module,)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AsyncConnection]:
    # With asyncpg's own parser of URLs, as everywhere: SQLAlchemy's doesn't know sslmode.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: _connect(url))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _connect(url: str) -> Any:
    connection = await database_url.connect(url, settings=session_settings.MIGRATING)
    try:
        session = await session_settings.read(connection, session_settings.MIGRATING)
        session.require(session_settings.MIGRATING)
        await session_settings.disable_transaction_timeout(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def _locked(url: str) -> AsyncIterator[AsyncConnection]:
    async with _connected(url) as connection:
        # By polling: a statement that waits would block CREATE INDEX CONCURRENTLY in the migration that has the lock.
        while not await connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
            await connection.commit()
            await asyncio.sleep(0.1)
        await connection.commit()
        yield connection


async def _run(connection: AsyncConnection, module: str, step: Callable[..., None], *target: str) -> None:
    await connection.run_sync(lambda connection: step(_config(module, connection), *target))
    await connection.commit()


def _revisions(connection: Connection, module: str) -> tuple[str, list[str]]:
    """The module's current revision, and all of its revisions from base to head."""
    scripts = ScriptDirectory.from_config(_config(module, connection))
    known = [BASE, *reversed([script.revision for script in scripts.walk_revisions()])]
    opts = {"version_table_schema": module}
    now = MigrationContext.configure(connection, opts=opts).get_current_revision() or BASE
    if now not in known:
        raise CommandError(f"{module} is at {now}, which this version doesn't know: a newer one migrated it")
    return now, known


def _upgrades(now: dict[str, tuple[str, list[str]]], revision: str) -> dict[str, str]:
    """The target of each module, of its current and all its revisions."""
    down = revision == BASE or revision.startswith("-")
    targets = {}
    for module, (current, known) in now.items():
        newest = down or revision in ("head", "heads")
        targets[module] = known[-1] if newest else _resolve(module, revision, current, known)
        down = down or known.index(targets[module]) < known.index(current)
    if down:
        places = ", ".join(f"{module} is at {current}" for module, (current, _) in now.items())
        raise CommandError(f"{places}: `eventboard downgrade --revision {revision}` is what goes down")
    return targets


def _downgrade_from_to(connection: Connection, module: str, revision: str) -> tuple[str, str]:
    now, known = _revisions(connection, module)
    target = _resolve(module, revision, now, known)
    if known.index(target) > known.index(now):
        raise CommandError(f"{module} is at {now}, below {revision}: `eventboard migrate` is what goes up")
    return now, target


def _resolve(module: str, revision: str, now: str, known: list[str]) -> str:
    """Resolves a revision's name, or its distance from the current one: +1, -1."""
    if re.fullmatch(r"[+-][0-9]{1,9}", revision):
        position = known.index(now) + int(revision)
        if 0 <= position < len(known):
            return known[position]
    elif revision in known:
        return revision
    raise CommandError(f"{module} has no revision {revision!r}: it is at {now}, and has {', '.join(known)}")


def _config(module: str, connection: Connection) -> Config:
    # Without Alembic's output: `eventboard migrate` prints its own.
    config = Config(stdout=io.StringIO(), attributes={"connection": connection, "module": module})
    folder = scripts_folder()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / "versions" / module))
    config.set_main_option("path_separator", "os")
    return config
