"""What the command line does to a database, apart from serving: migrate it, fill it, look whether it fits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from sqlalchemy.exc import DBAPIError

from eventboard import demo
from eventboard.levels import MODULES, needed
from eventboard.modules.auth.passwords import Passwords
from eventboard.platform.database import Database, level_check
from eventboard.platform.errors import ServiceError
from eventboard.settings import Settings


class TaskError(Exception):
    """One line for the user."""


async def migrate(settings: Settings, *, module: str | None = None, revision: str = "head") -> None:
    from alembic.util import CommandError

    from eventboard import migrations

    url = settings.database.for_migration()
    await reach(url, settings.database.variable("migration"))
    try:
        await migrations.migrate(url, module=module, revision=revision)
    except DBAPIError as error:
        raise TaskError(f"the migration failed: {_line(error.driver_exception)}") from error
    except (CommandError, asyncpg.PostgresError, OSError) as error:
        raise TaskError(f"the migration failed: {_line(error)}") from error


async def put_in_demo(settings: Settings, *, fill: int = 0, slug: str = "", only_if_new: bool = False) -> None:
    await check(settings)
    passwords = Passwords(**msgspec.structs.asdict(settings.passwords))
    try:
        async with _databases(settings) as databases:
            if not only_if_new or await demo.is_new(databases["auth"]):
                await demo.put_in(databases["auth"], databases["events"], passwords)
            if fill:
                await demo.fill(databases["auth"], databases["events"], slug=slug, count=fill)
    except demo.DemoError as error:
        raise TaskError(str(error)) from error
    except ServiceError as error:
        raise TaskError(_line(error.__cause__) if error.__cause__ else error.detail) from error
    finally:
        passwords.close()


async def check(settings: Settings) -> None:
    """Raises TaskError where a database can't be reached, or is at another level than the code."""
    for module in MODULES:
        await reach(settings.database.for_module(module), settings.database.variable(module))
    async with _databases(settings) as databases:
        for module, database in databases.items():
            try:
                await level_check(database, module, needed(module))()
            except ServiceError as error:
                raise TaskError(f"{module}: {error.detail}") from None


async def reach(url: str, variable: str = "EVENTBOARD_DATABASE_URL") -> None:
    """Raises TaskError where no connection can be made. It names the URL's variable, and tells no password."""
    try:
        connection = await asyncpg.connect(url, timeout=5)
        await connection.close()
    except asyncpg.ClientConfigurationError as error:
        raise TaskError(f"the database's URL can't be used: {_line(error)} ({variable})") from None
    except ValueError:
        # Its text could hold a part of the password, such as what follows an "@" that isn't percent-encoded.
        raise TaskError(f"the database's URL can't be read ({variable})") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise TaskError(f"the database can't be reached: {_line(error)} ({variable})") from None


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


async def is_current(settings: Settings) -> bool:
    try:
        await check(settings)
    except TaskError:
        return False
    return True


@asynccontextmanager
async def _databases(settings: Settings) -> AsyncIterator[dict[str, Database]]:
    databases = {
        module: Database(
            settings.database.for_module(module),
            role=f"eventboard_{module}",
            size=2,
            connect_timeout=settings.database.connect_timeout,
        )
        for module in MODULES
    }
    for database in databases.values():
        await database.open()
    try:
        yield databases
    finally:
        await asyncio.gather(*(database.close() for database in databases.values()))
