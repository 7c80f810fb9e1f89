"""One PostgreSQL cluster for a run of the tests; a database, already migrated, for whoever asks for one."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from eventboard.db import migrations
from eventboard.dev.postgres import Postgres, start

TEMPLATE = "eventboard_template"


@contextmanager
def public_folder() -> Iterator[Path]:
    """A new folder for a PostgreSQL, which may run as another account (never as root) that must be able to enter.

    In memory where the machine can: what a test leaves on a disk slows the next one down.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
    folder = Path(tempfile.mkdtemp(prefix="eventboard-tests-", dir=memory if os.access(memory, os.W_OK) else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres(**settings: str) -> Iterator[Postgres]:
    """A PostgreSQL with nothing in it, where nothing must last."""
    chosen = os.environ.get("EVENTBOARD_POSTGRES_BIN")
    bin_dir = Path(chosen) if chosen else None
    with public_folder() as folder:
        server = start(folder / "postgres", bin_dir=bin_dir, durable=False, settings=settings)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of the cluster's maintenance database."""
    with postgres(max_connections="400") as server:
        url = server.url()
        asyncio.run(_make_template(url))
        yield url


async def _make_template(url: str) -> None:
    await _execute(url, f"CREATE DATABASE {TEMPLATE}")
    await migrations.migrate(url_of(url, TEMPLATE))


@contextmanager
def database(url: str, template: str = TEMPLATE) -> Iterator[str]:
    """The URL of a new database, dropped afterwards. `template0` gives an empty one."""
    name = f"test_{uuid4().hex}"
    # FILE_COPY is the faster strategy for a small template that nobody is connected to.
    asyncio.run(_execute(url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
    try:
        yield url_of(url, name)
    finally:
        asyncio.run(_execute(url, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def empty_databases(url: str, options: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The URLs of those that can be made with their options here, dropped afterwards."""
    made: dict[str, str] = {}
    try:
        for kind, chosen in options.items():
            name = f"test_{uuid4().hex}"
            try:
                asyncio.run(_execute(url, f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY FILE_COPY {chosen}"))
            except asyncpg.FeatureNotSupportedError:  # a PostgreSQL without ICU
                continue
            made[kind] = url_of(url, name)
        yield made
    finally:
        for database in made.values():
            asyncio.run(_execute(url, f"DROP DATABASE {urlsplit(database).path[1:]} WITH (FORCE)"))


def url_of(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
