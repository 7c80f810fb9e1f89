"""The `eventboard` command. An error is one line on standard error, and an exit code other than 0."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType

from msgspec.structs import replace

from eventboard import settings as configuration
from eventboard.core.errors import CommandError
from eventboard.core.signals import terminating_signals
from eventboard.db.revisions import MODULES
from eventboard.settings import Settings, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(_separate_id(sys.argv[1:] if argv is None else argv))
    # A signal ends `serve` at once until it serves; from then on it drains (web/server.py).
    interrupted = 0 if arguments.command == "dev" else 128 + signal.SIGINT
    try:
        if arguments.command != "serve":
            _exit_on_signals(dev=arguments.command == "dev")
        settings = configuration.load()
        if arguments.command not in ("serve", "dev"):
            _log_to_terminal(settings.logs.level)
        return _COMMANDS[arguments.command](settings, arguments) or 0
    except (SettingsError, CommandError) as error:
        print(f"eventboard: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return interrupted


def _separate_id(argv: Sequence[str]) -> list[str]:
    """Puts `--` before an id: one may begin with a hyphen, and argparse would take it for an option."""
    *command, last = argv or [""]
    if command in (["keys", "retire"], ["trace"]) and last not in ("-h", "--help"):
        return [*command, "--", last]
    return list(argv)


class _Version(argparse.Action):
    """Looks the version up only where it is asked for: that takes 50 ms."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"eventboard {version('eventboard')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eventboard", description="An event board with approval for organizations.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the API, or some of its modules")
    serve.add_argument(
        "--target", default="all", help="all (default), or some of gateway, auth, events, joined by commas"
    )
    # The process id of `eventboard dev`: this process ends with that one.
    serve.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    dev = commands.add_parser("dev", help="serve for development, with PostgreSQL, migrations and demo data")
    how = dev.add_mutually_exclusive_group()
    how.add_argument("--reload", action="store_true", help="restart when a source file changes")
    how.add_argument("--services", action="store_true", help="run gateway, auth and events as three processes")
    migrate = commands.add_parser("migrate", help="upgrade the database to this version")
    migrate.add_argument(
        "--revision", default="head", help="upgrade to this revision, or by one with +1 (default: the newest)"
    )
    migrate.add_argument("--module", choices=MODULES, help="the schema of one module (default: all)")
    downgrade = commands.add_parser("downgrade", help="downgrade the database, which deletes data")
    downgrade.add_argument(
        "--revision", required=True, help="downgrade to this revision, by one with -1, or to base: delete everything"
    )
    downgrade.add_argument("--module", choices=MODULES, help="the schema of one module (default: all)")
    downgrade.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    downgrade.add_argument("--production", action="store_true", help="allow it in production")
    demo = commands.add_parser("demo", help="add demo data, and restore its accounts")
    demo.add_argument("--events", type=int, default=0, metavar="N", help="also add N events to an organization")
    demo.add_argument(
        "--organization",
        default="acme-corp",
        metavar="SLUG",
        help="the organization to add them to (default: acme-corp)",
    )
    health = commands.add_parser("health", help="check whether the server on this machine is alive")
    health.add_argument(
        "--ready", action="store_true", help="check whether it is ready, with its database and its keys"
    )
    trace = commands.add_parser("trace", help="show where a recent request spent its time")
    trace.add_argument("correlation_id", metavar="ID", help="its correlation id, from its answer or a log line")
    keys = commands.add_parser("keys", help="manage the keys that sign access tokens")
    what = keys.add_subparsers(dest="what", required=True)
    what.add_parser("list", help="list the keys, and which one signs")
    what.add_parser("rotate", help="add a key, which signs once every process knows it")
    what.add_parser("retire", help="remove a key that no valid token needs").add_argument("kid")
    commands.add_parser("psql", help="open PostgreSQL's shell on the development database")
    reset = commands.add_parser("reset", help="empty the development database")
    reset.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    commands.add_parser("check", help="check the settings, the database and its revision")
    # Python 3.14 and newer: "maybe you meant".
    for each in (parser, *commands.choices.values()):
        each.suggest_on_error = True  # type: ignore[attr-defined]
    return parser


def _log_to_terminal(level: str) -> None:
    """What libraries and our code log during a command; a server's log has its own format."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level=level, format="<level>{level: <7}</level> {message}")


def _exit_on_signals(*, dev: bool) -> None:
    """Raises SystemExit on a signal: transactions are rolled back, and `dev` stops its PostgreSQL.

    The exit code is 128 plus the signal's number, since the command isn't done; that of `dev` is 0.
    """

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(0 if dev else 128 + number)

    for number in terminating_signals():
        # asyncio cancels what runs in it only where Ctrl-C has Python's own handler.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else end)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"eventboard: warning: {warning}", file=sys.stderr)


# Each command imports what it needs: `migrate` no web server, `serve` no Alembic, and nothing if a setting is wrong.


def _serve(settings: Settings, arguments: argparse.Namespace) -> None:
    if arguments.parent is not None and not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = _debug
    # Until it serves: imported modules stay, and the garbage collector would examine them again and again.
    gc.disable()
    from loguru import logger

    from eventboard.app import build
    from eventboard.commands.serve import install_tracing, reject_unfit_poolers
    from eventboard.db.database_url import ignored_parameters
    from eventboard.observability import logging
    from eventboard.settings.targets import target_of
    from eventboard.web.server import listening, serve

    log = logging.configure(
        level=settings.logs.level,
        json=settings.logs.format == "json",
        service=arguments.target,
        values=settings.environment == "development",
    )
    try:
        target = target_of(arguments.target)
    except ValueError as error:
        raise SettingsError(f"--target: {error}") from None
    settings = _with_database(settings, sorted(target - {"gateway"}))
    urls = {settings.database.variable(module): settings.database.for_module(module) for module in target - {"gateway"}}
    with listening(settings, target) as listeners:
        asyncio.run(reject_unfit_poolers(settings, target - {"gateway"}))
        app = build(settings, target, log=log, tracing=install_tracing(settings, target))
        for line in configuration.warnings(settings, gateway="gateway" in target):
            logger.warning("{}", line)
        for variable, url in sorted(urls.items()):
            if ignored := ignored_parameters(url):
                logger.warning("{} ({})", ignored, variable)
        serve(app, listeners, settings.server, parent=arguments.parent)


def _debug() -> None:
    """`breakpoint()`: pdb, but it leaves Ctrl-C to this program after `continue`."""
    import pdb  # noqa: T100 - a developer asked for it

    pdb.Pdb(nosigint=True).set_trace(sys._getframe(1))  # noqa: SLF001 - as the standard library's own hook does


def _dev(settings: Settings, arguments: argparse.Namespace) -> int:
    if settings.environment == "production":
        raise SettingsError(
            "EVENTBOARD_ENVIRONMENT: `eventboard dev` doesn't run in production; use `eventboard serve`"
        )
    from eventboard.dev.run import run

    return run(settings, reload=arguments.reload, services=arguments.services)


def _migrate(settings: Settings, arguments: argparse.Namespace) -> None:
    settings = _with_database(settings, ["migration"])
    from eventboard.commands.database import migrate

    migrated = asyncio.run(migrate(settings, module=arguments.module, revision=arguments.revision))
    _warn(migrated.warnings)
    at_head = arguments.revision in ("head", "heads")
    where = (
        "head" if at_head else ", ".join(f"{revision} of {module}" for module, revision in migrated.revisions.items())
    )
    print(f"the database is at {where}")


def _downgrade(settings: Settings, arguments: argparse.Namespace) -> None:
    if settings.environment == "production" and not arguments.production:
        raise SettingsError("EVENTBOARD_ENVIRONMENT: a downgrade deletes data; in production, add --production")
    _require_answer(arguments, "a downgrade deletes data")
    settings = _with_database(settings, ["migration"])
    from eventboard.commands.database import downgrade, plan_downgrade

    plan = asyncio.run(plan_downgrade(settings, module=arguments.module, revision=arguments.revision))
    if not plan.moves:
        print(f"the database {plan.database} is already at {arguments.revision}")
        return
    moves = ", ".join(f"{module} from {now} to {then}" for module, (now, then) in plan.moves.items())
    what = f"{plan.database}: {moves}"
    if not arguments.yes and not _confirm(
        f"Downgrade the database {what}. Data that the older revision can't hold is deleted."
    ):
        raise CommandError("nothing was changed")
    asyncio.run(downgrade(settings, plan))
    print(f"downgraded {what}")


def _require_answer(arguments: argparse.Namespace, why: str) -> None:
    if not arguments.yes and not sys.stdin.isatty():
        raise CommandError(
            f"{why}, and there is no terminal to ask at: `eventboard {arguments.command} --yes` doesn't ask"
        )


def _confirm(question: str) -> bool:
    try:
        return input(f"{question}\nType yes to go on: ").strip() == "yes"
    except EOFError:
        return False


def _demo(settings: Settings, arguments: argparse.Namespace) -> None:
    if settings.environment == "production":
        raise SettingsError("EVENTBOARD_ENVIRONMENT: demo data has known passwords; it can't be added in production")
    if arguments.events < 0:
        raise SettingsError("--events: must be 0 or more")
    settings = _with_database(settings, MODULES)
    from eventboard.dev.demo import add_demo_data

    done, warnings = asyncio.run(add_demo_data(settings, count=arguments.events, slug=arguments.organization))
    _warn(warnings)
    print(done)


def _psql(settings: Settings, _: argparse.Namespace) -> None:
    settings = _with_database(settings, ["events"])
    from eventboard.dev.database import psql

    psql(settings.postgres, settings.database.for_module("events"))


def _reset(settings: Settings, arguments: argparse.Namespace) -> None:
    if settings.environment == "production":
        raise SettingsError("EVENTBOARD_ENVIRONMENT: `eventboard reset` doesn't run in production")
    if settings.database.url:
        raise SettingsError("EVENTBOARD_DATABASE_URL: set; only the database of `make run` can be emptied")
    _require_answer(arguments, "this deletes data")
    from eventboard.dev.database import require_stopped, reset

    require_stopped(settings.postgres)
    if not arguments.yes and not _confirm(f"Delete all data in {Path(settings.postgres.data).absolute()}?"):
        raise CommandError("nothing was changed")
    reset(settings.postgres)
    print(f"{settings.postgres.data} is empty; the next `make run` starts with new demo data")


def _health(settings: Settings, arguments: argparse.Namespace) -> None:
    from eventboard.commands.health import probe

    print(probe(settings.server, ready=arguments.ready))


def _trace(settings: Settings, arguments: argparse.Namespace) -> None:
    from eventboard.commands.trace import draw, find_spans

    spans = find_spans(settings.server, arguments.correlation_id)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(draw(spans, arguments.correlation_id, colour=colour))


def _check(settings: Settings, _: argparse.Namespace) -> None:
    settings = _with_database(settings, MODULES)
    from eventboard.app import build
    from eventboard.commands.database import check
    from eventboard.web.server import encryption

    build(settings)
    encryption(settings.server)
    _warn(asyncio.run(check(settings)))
    _warn(configuration.warnings(settings, gateway=True))
    print("settings, database and schema revision are fine")


def _keys(settings: Settings, arguments: argparse.Namespace) -> None:
    from eventboard.modules.auth import keys

    if not settings.tokens.key_file:
        raise SettingsError("EVENTBOARD_TOKENS_KEY_FILE: not set; name the folder of the keys")
    path = Path(settings.tokens.key_file)
    if arguments.what == "rotate":
        key = keys.rotate(path)
        print(f"{key.kid} is published now, and signs in {keys.PUBLISHED_BEFORE:.0f} s")
    elif arguments.what == "retire":
        print(f"{keys.retire(path, arguments.kid, lifetime=settings.tokens.lifetime)} is removed")
    else:
        ring = keys.KeyRing(path, create=False)
        signing = ring.signing()
        for key in ring.all():
            print(f"{key.kid} {'signs    ' if key == signing else 'published'} {key.path}")


# Each returns an exit code, or None for 0.
_COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int | None]] = {
    "serve": _serve,
    "dev": _dev,
    "migrate": _migrate,
    "downgrade": _downgrade,
    "demo": _demo,
    "psql": _psql,
    "reset": _reset,
    "health": _health,
    "trace": _trace,
    "keys": _keys,
    "check": _check,
}


def _with_database(settings: Settings, users: Iterable[str]) -> Settings:
    """With a database URL for each of `users`, which are modules or `migration`. Raises SettingsError, CommandError.

    In development it is that of the PostgreSQL that `make run` has started in this folder, if no URL is set.
    """
    missing = [user for user in users if not settings.database.for_module(user)]
    if not missing:
        return settings
    database = settings.database
    if settings.environment == "production" or database.auth_url or database.events_url or database.migration_url:
        raise SettingsError(f"{database.variable(missing[0])}: not set")
    from eventboard.dev.database import find_database

    return replace(settings, database=replace(database, url=find_database(settings.postgres)))
