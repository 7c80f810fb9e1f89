"""The `eventboard` command. Whatever goes wrong is one line on standard error, and an exit code that isn't 0."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from socket import socket
from types import FrameType

from eventboard import settings as configuration
from eventboard.levels import MODULES
from eventboard.settings import Settings, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        settings = configuration.load()
        if given.command != "serve":
            # A server has nothing to clear up before it serves.
            signal.signal(signal.SIGTERM, _end)
        return _COMMANDS[given.command](settings, given)
    except SettingsError as error:
        return _failed(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eventboard", description="An event board with approval for organizations.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the API, or a part of it")
    serve.add_argument("--target", default="all", help="all (default), or gateway, auth, events joined by commas")
    serve.add_argument("--workers", type=int, default=1, metavar="N", help="processes behind the port (default: 1)")
    # How a supervisor hands its sockets and what workers share to one of them, and the process without which this one
    # isn't needed.
    serve.add_argument("--listeners", help=argparse.SUPPRESS)
    serve.add_argument("--place", help=argparse.SUPPRESS)
    serve.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    dev = commands.add_parser("dev", help="serve with all that development needs: PostgreSQL, migrations, demo data")
    how = dev.add_mutually_exclusive_group()
    how.add_argument("--reload", action="store_true", help="start anew when a source file changes")
    how.add_argument("--services", action="store_true", help="gateway, auth and events as three processes")
    migrate = commands.add_parser("migrate", help="bring the database to the level of this version")
    migrate.add_argument("--revision", default="head", help="another level; base takes everything away")
    migrate.add_argument("--module", choices=MODULES, help="one module's schema only (default: all)")
    demo = commands.add_parser("demo", help="put in demo data; safe to repeat")
    demo.add_argument("--events", type=int, default=0, metavar="N", help="also fill an organization with N events")
    demo.add_argument("--organization", default="acme-corp", metavar="SLUG", help="which one (default: acme-corp)")
    health = commands.add_parser("health", help="ask the process that serves on this machine whether it lives")
    health.add_argument("--ready", action="store_true", help="and whether its database and its keys are there")
    trace = commands.add_parser("trace", help="show where the time of a request went, one of the last")
    trace.add_argument("correlation_id", metavar="ID", help="its correlation id, as its answer and its log lines say")
    keys = commands.add_parser("keys", help="the keys that sign access tokens")
    what = keys.add_subparsers(dest="what", required=True)
    what.add_parser("list", help="which there are, and which signs")
    what.add_parser("rotate", help="add a key, which signs once every verifier knows it")
    what.add_parser("retire", help="take a key away that no valid token needs").add_argument("kid")
    commands.add_parser("check", help="say whether the settings, the database and its level are right")
    return parser


def _end(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def _failed(error: Exception) -> int:
    print(f"eventboard: {error}", file=sys.stderr)
    return 1


# Each command imports what it needs: `migrate` no web server, `serve` no Alembic, and a wrong setting nothing at all.


def _serve(settings: Settings, given: argparse.Namespace) -> int:
    # Until it serves: what is imported stays, and Python would look through it for cycles again and again.
    gc.disable()
    from eventboard.app import build, target_of
    from eventboard.modules.auth.keys import KeyFileError
    from eventboard.platform import logs
    from eventboard.platform.group import Place
    from eventboard.server import Listeners, ServeError, listening, prepared, serve
    from eventboard.workers import supervise

    log = logs.configure(
        level=settings.logs.level,
        json=settings.logs.format == "json",
        service=given.target,
        values=settings.environment == "development",
    )
    try:
        target = target_of(given.target)
    except ValueError as error:
        raise SettingsError(f"--target: {error}") from None
    if given.workers < 1:
        raise SettingsError("--workers: it must be 1 or more")
    _need(settings, sorted(target - {"gateway"}))
    server = settings.server
    try:
        if given.place is not None:
            place = Place.of(given.place)
            numbers = [*map(int, given.listeners.split(",")), place.listener]
            with ExitStack() as stack:
                public, admin, own = (stack.enter_context(socket(fileno=number)) for number in numbers)
                serve(
                    build(settings, target, place=place, log=log),
                    Listeners(public, admin, own),
                    server,
                    parent=given.parent,
                )
            return 0
        with listening(settings, target) as listeners:
            # With workers, too: what is wrong is said here once, instead of by each of them.
            app = prepared(settings, target, log)
            if given.workers > 1:
                gc.enable()
                worker = ["serve", "--target", given.target]
                shared = (listeners.public, listeners.admin)
                return supervise(worker, shared, given.workers, patience=server.drain + server.grace)
            serve(app, listeners, server, parent=given.parent)
    except (SettingsError, KeyFileError, ServeError) as error:
        return _failed(error)
    return 0


def _dev(settings: Settings, given: argparse.Namespace) -> int:
    if settings.environment == "production":
        raise SettingsError("EVENTBOARD_ENVIRONMENT: `eventboard dev` is not for production; use `eventboard serve`")
    from eventboard.local.run import run

    return run(settings, reload=given.reload, services=given.services)


def _migrate(settings: Settings, given: argparse.Namespace) -> int:
    _need(settings, ["migration"])
    from eventboard.database_tasks import TaskError, migrate

    try:
        asyncio.run(migrate(settings, module=given.module, revision=given.revision))
    except TaskError as error:
        return _failed(error)
    print(f"the database is at {given.revision}")
    return 0


def _demo(settings: Settings, given: argparse.Namespace) -> int:
    if settings.environment == "production":
        raise SettingsError("EVENTBOARD_ENVIRONMENT: demo data has known passwords; production doesn't take it")
    if given.events < 0:
        raise SettingsError("--events: it must be 0 or more")
    _need(settings, MODULES)
    from eventboard.database_tasks import TaskError, put_in_demo

    try:
        asyncio.run(put_in_demo(settings, fill=given.events, slug=given.organization))
    except TaskError as error:
        return _failed(error)
    return 0


def _health(settings: Settings, given: argparse.Namespace) -> int:
    from eventboard.probe import ProbeError, probe

    try:
        probe(settings.server, ready=given.ready)
    except ProbeError as error:
        return _failed(error)
    return 0


def _trace(settings: Settings, given: argparse.Namespace) -> int:
    from eventboard.trace import TraceError, drawn, find

    try:
        traces = find(settings.server, given.correlation_id)
    except TraceError as error:
        return _failed(error)
    # A client may use one correlation id for several requests.
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print("\n\n".join(drawn(trace, colour=colour) for trace in traces))
    return 0


def _check(settings: Settings, _: argparse.Namespace) -> int:
    _need(settings, MODULES)
    from eventboard.app import ALL
    from eventboard.database_tasks import TaskError, check
    from eventboard.modules.auth.keys import KeyFileError
    from eventboard.server import ServeError, prepared

    try:
        prepared(settings, ALL)
        asyncio.run(check(settings))
    except (KeyFileError, ServeError, TaskError) as error:
        return _failed(error)
    print("settings, database and migration level are right")
    return 0


def _keys(settings: Settings, given: argparse.Namespace) -> int:
    from pathlib import Path

    from eventboard.modules.auth import keys

    path = Path(settings.tokens.key_file)
    try:
        if given.what == "rotate":
            key = keys.rotate(path)
            print(f"{key.kid} is published from now on, and signs in {keys.PUBLISHED_BEFORE:.0f} s")
        elif given.what == "retire":
            print(f"{keys.retire(path, given.kid, lifetime=settings.tokens.lifetime)} is gone")
        else:
            ring = keys.KeyRing(path, create=False)
            signing = ring.signing()
            for key in ring.all():
                print(f"{key.kid} {'signs    ' if key == signing else 'published'} {key.path}")
    except keys.KeyFileError as error:
        return _failed(error)
    return 0


_COMMANDS = {
    "serve": _serve,
    "dev": _dev,
    "migrate": _migrate,
    "demo": _demo,
    "health": _health,
    "trace": _trace,
    "keys": _keys,
    "check": _check,
}


def _need(settings: Settings, those: Iterable[str]) -> None:
    """`those` are modules, or `migration`: what each of them connects by."""
    for whose in those:
        if not settings.database.for_module(whose):
            hint = "" if settings.environment == "production" else "; `eventboard dev` brings a PostgreSQL of its own"
            raise SettingsError(f"{settings.database.variable(whose)}: it is not set{hint}")
