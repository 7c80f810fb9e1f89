"""`make run`: PostgreSQL, migrations, demo data and the server, in one command that Ctrl-C ends."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from loguru import logger
from msgspec.structs import replace

from eventboard.app import build
from eventboard.commands.database import check_connection, is_current, migrate
from eventboard.commands.serve import install_tracing
from eventboard.core.signals import defer_signals
from eventboard.dev.database import embedded_database, require_stopped, url_of
from eventboard.dev.demo import ACCOUNTS, PASSWORD, add_missing_demo_data
from eventboard.dev.services import database_variables, serve_as_services
from eventboard.observability import logging
from eventboard.settings import Budgets, Settings, warnings
from eventboard.settings.targets import ALL, port_of
from eventboard.web.server import listening, serve

# Seconds that the server may take to end before it is restarted: it may be at a breakpoint, and hear nothing.
PATIENCE = 5.0


def run(settings: Settings, *, reload: bool, services: bool) -> int:
    """Returns the exit code."""
    log = logging.configure(level=settings.logs.level, json=settings.logs.format == "json", service="all", values=True)
    if not settings.database.url:
        require_stopped(settings.postgres)
    port = port_of(settings, ALL)
    # A port in use is reported before a database is started.
    with listening(settings, ALL) as listeners, _database(settings) as (settings, database):
        greeting = _greeting(settings, port, database, demo=asyncio.run(_prepare(settings)))
        for line in warnings(settings, gateway=True):
            logger.warning("{}", line)
        if reload:
            listeners.close()
            _serve_reloading(settings, greeting)
        elif services:
            listeners.close()
            return serve_as_services(settings, port, announce=greeting)
        else:
            app = build(settings, log=log, tracing=install_tracing(settings, ALL))
            serve(app, listeners, settings.server, announce=greeting)
    return 0


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """The settings with a database, the one they name or an embedded PostgreSQL, and what to tell of it."""
    if settings.database.url:
        yield settings, "that of EVENTBOARD_DATABASE_URL"
        return
    with embedded_database(settings.postgres) as (url, by_tcp):
        given = settings.database
        database = replace(
            given,
            url=url,
            auth_url=given.auth_url or url_of("auth", url),
            events_url=given.events_url or url_of("events", url),
        )
        yield replace(settings, database=database), by_tcp or "make psql"


async def _prepare(settings: Settings) -> bool:
    """Returns whether there is demo data."""
    await check_connection(settings.database.url)
    if not await is_current(settings):
        print("migrating the database")
        await migrate(settings)
    demo, warnings = await add_missing_demo_data(settings)
    for warning in warnings:
        print(f"warning: {warning}")
    return demo


def _serve_reloading(settings: Settings, greeting: str) -> None:
    """Serves in a child process, which is restarted when a source file changes."""
    from watchfiles import watch

    # There is no load balancer to wait for.
    os.environ |= {**database_variables(settings), "EVENTBOARD_SERVER_DRAIN": "0"}
    for budget in Budgets.__struct_fields__:
        # Time enough for a breakpoint.
        os.environ.setdefault(f"EVENTBOARD_BUDGETS_{budget.upper()}", "3600")
    command = [sys.executable, "-m", "eventboard", "serve", "--parent", str(os.getpid())]
    print(greeting, flush=True)
    changes = watch(Path(__file__).parents[1])
    server: Popen[bytes] | None = None
    try:
        while True:
            # watchfiles' own `run_process` loses a process that it is starting when a signal comes.
            with defer_signals():
                server = Popen(command)
            names = sorted({os.path.relpath(path) for _, path in next(changes)})
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            print(f"\nrestarting: {', '.join(names[:3])}{more} changed", flush=True)
            with defer_signals():
                _stop(server)
    finally:
        if server:
            with defer_signals():
                _stop(server)


def _stop(server: Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(PATIENCE)
    except TimeoutExpired:
        server.kill()
        server.wait()


def _greeting(settings: Settings, port: int, database: str, *, demo: bool) -> str:
    host = "localhost" if settings.server.host in ("127.0.0.1", "0.0.0.0", "::1", "::") else settings.server.host  # noqa: S104 - compared, not bound
    address = f"{'https' if settings.server.tls_certificate else 'http'}://{host}:{port}"
    accounts = [
        f"password {PASSWORD}",
        *(f"{email:<29} {role:<10} of {slug}" for email, _, _, role, slug in ACCOUNTS),
    ]
    if not demo:
        accounts = ["no demo data; `eventboard demo` adds it"]
    listed = "\n    ".join(accounts)
    return f"""
EventBoard is on {address}

  try it      {address}/docs   (Swagger UI; also /schema/scalar, /schema/redoc)
  health      {address}/health
  database    {database}
  accounts    {listed}

Ctrl-C stops it; the data stays.
"""
