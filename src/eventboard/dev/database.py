"""The database of `make run`: an embedded PostgreSQL, which other commands find while it runs."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from eventboard.core.errors import CommandError
from eventboard.core.signals import defer_signals
from eventboard.db import database_url, session_settings
from eventboard.dev.postgres import Postgres, start
from eventboard.dev.postgres_lock import LOCK_FILE, acquire, running
from eventboard.dev.postgres_programs import SUPERUSER, PostgresError, find_binaries, possible_folders
from eventboard.settings import Postgres as PostgresSettings

NAME = "eventboard_db"
# Data from before there was a database of that name is in this one.
OLD_NAME = "postgres"


# The accounts that serve a module, and the roles that they work under: its own, and its sweeper's.
ACCOUNTS = {
    "auth": ("eventboard_auth_login", "eventboard_auth", "eventboard_auth_sweeper"),
    "events": ("eventboard_events_login", "eventboard_events", "eventboard_sweeper"),
}
# Seconds, for the default budgets of calls.
STATEMENT_TIMEOUT = 11.0


@contextmanager
def embedded_database(settings: PostgresSettings) -> Iterator[tuple[str, str]]:
    """Its URL, and the one that is for other programs; that is empty where it doesn't listen on TCP."""
    server = start(Path(settings.data), bin_dir=Path(settings.bin) if settings.bin else None, port=settings.port)
    try:
        password = _password(server.data) if settings.port else ""
        try:
            name = asyncio.run(_prepare(server, password))
        except (asyncpg.PostgresError, OSError) as error:
            # Such as a full disk.
            raise CommandError(f"the development database can't be prepared: {error}") from error
        server.lock.announce(server.url(name))
        by_tcp = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{settings.port}/{name}" if password else ""
        yield server.url(name), by_tcp
    finally:
        # A terminal that closes may send SIGHUP twice.
        with defer_signals():
            server.stop()


def _password(data: Path) -> str:
    """The same at each start, so that other programs can store it."""
    file = data / "password"
    file.touch(mode=0o600)
    if not file.read_text():
        file.write_text(secrets.token_urlsafe(16))
    return file.read_text()


async def _prepare(server: Postgres, password: str) -> str:
    """Returns the name of the database, which is created in new data."""
    connection = await database_url.connect(server.url(OLD_NAME), settings=session_settings.MIGRATING)
    try:
        async with connection.transaction():
            await make_accounts(connection, password)
        if password:
            await connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'")
        if await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", NAME):
            return NAME
        if await connection.fetchval("SELECT true FROM pg_namespace WHERE nspname = 'auth'"):
            return OLD_NAME
        await connection.execute(f"CREATE DATABASE {NAME}")
        return NAME
    finally:
        await connection.close()


async def make_accounts(connection: Any, password: str = "") -> None:
    """As deploy/postgres/roles.sh does: with the settings that they need behind a pooler."""
    known = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for account, *roles in ACCOUNTS.values():
        for role in roles:
            if role not in known:
                await connection.execute(f"CREATE ROLE {role} NOLOGIN")
        if account not in known:
            await connection.execute(f"CREATE ROLE {account} LOGIN IN ROLE {', '.join(roles)}")
        if password:
            await connection.execute(f"ALTER ROLE {account} PASSWORD '{password}'")
        for name, value in session_settings.of_account(roles[0], STATEMENT_TIMEOUT).items():
            # A list's entries are quoted one by one.
            quoted = ", ".join(f"'{entry}'" for entry in value.split(", "))
            await connection.execute(f"ALTER ROLE {account} SET {name} = {quoted}")


def url_of(module: str, url: str) -> str:
    """The embedded database's URL for the account of a module."""
    account, *_ = ACCOUNTS[module]
    return url.replace(f"//{SUPERUSER}", f"//{account}", 1)


def require_stopped(settings: PostgresSettings) -> None:
    """Raises CommandError where EventBoard runs on this data already."""
    if found := running(Path(settings.data)):
        raise CommandError(
            f"EventBoard is already running on the data in {settings.data} (process {found.launcher}): "
            "use that one, or stop it first, with Ctrl-C in its terminal"
        )


def find_database(settings: PostgresSettings) -> str:
    """The URL of the one that runs. Raises CommandError."""
    found = running(Path(settings.data))
    if found is None or not found.url:
        raise CommandError(
            f"EVENTBOARD_DATABASE_URL: not set, and the development database in {Path(settings.data).absolute()} "
            f"is {'still starting' if found else 'not running: `make run` (`eventboard dev`) starts it'}"
        )
    return found.url


def psql(settings: PostgresSettings, url: str) -> None:
    """Becomes psql."""
    try:
        folder = find_binaries(Path(settings.bin) if settings.bin else None)
    except PostgresError:
        folder = Path()
    program = shutil.which("psql", path=folder) or shutil.which("psql")
    if program is None:
        raise CommandError(
            "there is no psql: install it with `apt-get install postgresql-client` (Debian, Ubuntu) "
            "or `brew install libpq` (macOS)"
        )
    # Other accounts can see a program's arguments.
    password = urlsplit(url).password
    if password:
        url = url.replace(f":{password}@", "@", 1)
        os.environ["PGPASSWORD"] = unquote(password)
    # So that `\dt` and plain names of tables find something.
    os.environ.setdefault("PGOPTIONS", "-c search_path=events,auth,public")
    os.execv(program, [program, url])  # noqa: S606 - its path is complete


def reset(settings: PostgresSettings) -> None:
    """Deletes the data. Raises CommandError where a server uses it."""
    for folder in possible_folders(Path(settings.data).absolute()):
        if (folder / LOCK_FILE).exists():
            with acquire(folder):
                for cluster in folder.glob("pgdata*"):
                    shutil.rmtree(cluster)
