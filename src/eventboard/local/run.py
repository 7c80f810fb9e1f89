"""`make run`: PostgreSQL, migrations, demo data and the server, in one command that Ctrl-C ends."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from eventboard.app import ALL, build, port_of
from eventboard.database_tasks import TaskError, is_current, migrate, put_in_demo, reach
from eventboard.demo import ACCOUNTS, PASSWORD
from eventboard.local.postgres import PostgresError, start
from eventboard.local.services import serve_as_services, undisturbed
from eventboard.modules.auth.keys import KeyFileError
from eventboard.platform import logs
from eventboard.server import ServeError, listening, serve
from eventboard.settings import Settings


def run(settings: Settings, *, reload: bool, services: bool) -> int:
    """The exit code. What goes wrong is one line."""
    log = logs.configure(level=settings.logs.level, json=settings.logs.format == "json", service="all", values=True)
    try:
        # First of all: a port that is taken is no reason to start and stop a database.
        port = port_of(settings, ALL)
        with listening(settings, ALL) as listeners, _database(settings) as settings:
            asyncio.run(_prepare(settings))
            if reload:
                listeners.close()
                _serve_reloading(settings, port)
            elif services:
                listeners.close()
                return serve_as_services(settings, port, announce=_greeting(settings, port))
            else:
                serve(build(settings, log=log), listeners, settings.server, announce=_greeting(settings, port))
    except (ServeError, PostgresError, TaskError, KeyFileError) as error:
        print(f"eventboard: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _database(settings: Settings) -> Iterator[Settings]:
    """The settings with a database that is there: the one they name, else an embedded PostgreSQL for the time."""
    if settings.database.url:
        yield settings
        return
    wanted = settings.postgres
    server = start(Path(wanted.data), bin_dir=Path(wanted.bin) if wanted.bin else None)
    try:
        yield replace(settings, database=replace(settings.database, url=server.url()))
    finally:
        server.stop()


async def _prepare(settings: Settings) -> None:
    await reach(settings.database.url)
    if not await is_current(settings):
        print("migrating the database")
        await migrate(settings)
    await put_in_demo(settings, only_if_new=True)


def _serve_reloading(settings: Settings, port: int) -> None:
    """A child serves; it is started anew when a source file changes."""
    from watchfiles import watch

    # Nobody balances load here: it needn't wait for a balancer to look away.
    environment = {**os.environ, "EVENTBOARD_DATABASE_URL": settings.database.url, "EVENTBOARD_SERVER_DRAIN": "0"}
    command = [sys.executable, "-m", "eventboard", "serve", "--parent", str(os.getpid())]
    print(_greeting(settings, port), flush=True)
    with suppress(KeyboardInterrupt), ExitStack() as child:

        def restart() -> None:
            child.close()
            # In a group of its own: Ctrl-C reaches this process alone.
            with undisturbed():
                process = subprocess.Popen(command, env=environment, process_group=0)
                child.callback(process.wait)
                child.callback(process.terminate)

        restart()
        for _ in watch(Path(__file__).parents[1]):
            restart()


def _greeting(settings: Settings, port: int) -> str:
    host = "localhost" if settings.server.host in ("127.0.0.1", "0.0.0.0", "::1", "::") else settings.server.host  # noqa: S104 - compared, not bound
    address = f"{'https' if settings.server.tls_certificate else 'http'}://{host}:{port}"
    accounts = "\n".join(f"    {email:<26} {role:<10} of {slug}" for email, _, _, role, slug in ACCOUNTS)
    return f"""
EventBoard is on {address}

  try it      {address}/docs   (Swagger UI; also /schema/scalar, /schema/redoc)
  health      {address}/health
  accounts    password {PASSWORD}
{accounts}

Ctrl-C stops it; the data stays.
"""
