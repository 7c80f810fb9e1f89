"""The database of `make run`: its names, its port, and data that is older than both."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from eventboard import settings as configuration
from eventboard.core.errors import CommandError
from eventboard.db import migrations
from eventboard.db.session_settings import of_account
from eventboard.db.sweeper import statement_timeout
from eventboard.dev.database import ACCOUNTS, STATEMENT_TIMEOUT, embedded_database, reset, url_of
from eventboard.dev.postgres import start
from eventboard.settings import Postgres
from tests.support.cluster import public_folder
from tests.support.commands import ask, ran, refused
from tests.support.ports import free_port
from tests.support.processes import environment

BIN = os.environ.get("EVENTBOARD_POSTGRES_BIN", "")


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder / "postgres"


def test_new_data(folder: Path) -> None:
    """The database and its user have EventBoard's names, and other programs need the password."""
    settings = Postgres(data=str(folder), bin=BIN, port=free_port())
    with embedded_database(settings) as (url, by_tcp):
        names = "SELECT current_database(), current_user, host(inet_client_addr())"
        assert ask(url, names) == [("eventboard_db", "eventboard", None)]
        assert ask(by_tcp, names) == [("eventboard_db", "eventboard", "127.0.0.1")]
        assert ask(url, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'eventboard'") == [
            (True,)
        ]
        password = urlsplit(by_tcp).password
        for wrong in (by_tcp.replace(f":{password}@", "@"), by_tcp.replace(f":{password}@", ":x@")):
            with pytest.raises(Exception, match="password"):
                ask(wrong, "SELECT 1")
        # Other commands find it, and none can take its data away.
        beside = {"POSTGRES_DATA": str(folder), "POSTGRES_BIN": BIN}
        assert ran("migrate", **beside) == (0, "the database is at head\n")
        assert "already running" in refused("reset", "--yes", **beside)
        shell = subprocess.run(
            [sys.executable, "-m", "eventboard", "psql"],
            env=environment({f"EVENTBOARD_{name}": value for name, value in beside.items()}),
            input="SELECT current_database() || ' of ' || current_user; SHOW search_path;",
            capture_output=True,
            text=True,
            check=True,
        )
        assert "eventboard_db of eventboard" in shell.stdout
        assert "events,auth,public" in shell.stdout, "tables are found by their names alone"
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    with embedded_database(Postgres(data=str(folder), bin=BIN, port=settings.port)) as (url, again):
        assert again == by_tcp, "other programs can store it"
        assert ask(url, "SELECT count(*) FROM events.events") == [(0,)]
    line = refused("migrate", **beside)
    assert "not running" in line
    assert "make run" in line
    assert str(folder) in line
    assert ran("reset", "--yes", **beside)[0] == 0
    with embedded_database(Postgres(data=str(folder), bin=BIN)) as (url, by_tcp):
        assert by_tcp == ""
        assert ask(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'events'") == [(0,)]


def test_accounts_for_a_pooler(folder: Path) -> None:
    """Each module has one, with what a connection needs that is made without settings; again at each start."""
    settings = Postgres(data=str(folder), bin=BIN, port=free_port())
    for _ in range(2):
        with embedded_database(settings) as (url, by_tcp):
            for module, (account, role, sweeper) in ACCOUNTS.items():
                assert ask(url_of(module, by_tcp), "SELECT session_user, current_user") == [(account, role)]
                found = ask(
                    url,
                    "SELECT lower(split_part(setting, '=', 1)), split_part(setting, '=', 2)"
                    f" FROM pg_db_role_setting, unnest(setconfig) AS setting WHERE setrole = '{account}'::regrole",
                )
                assert dict(found) == of_account(role, STATEMENT_TIMEOUT)
                assert ask(url_of(module, by_tcp), f"SELECT set_config('role', '{sweeper}', true)") == [(sweeper,)]
            ask(url, "ALTER ROLE eventboard_auth_login RESET ALL")
    assert statement_timeout(msgspec.structs.astuple(configuration.load({}).budgets)) == STATEMENT_TIMEOUT


def test_data_of_an_earlier_version(folder: Path) -> None:
    """It was in the database `postgres`, whose access rules rejected TCP: it stays there, and can be reached."""
    server = start(folder, bin_dir=Path(BIN) if BIN else None)
    asyncio.run(migrations.migrate(server.url()))
    ask(
        server.url(),
        "INSERT INTO auth.organizations (id, name, name_key, slug) VALUES (gen_random_uuid(), 'Kept', 'kept', 'kept')",
    )
    server.stop()
    (folder / "launcher.lock").write_text("4711")
    with embedded_database(Postgres(data=str(folder), bin=BIN, port=free_port())) as urls:
        for url in urls:
            assert ask(url, "SELECT current_database()::text, name FROM auth.organizations") == [("postgres", "Kept")]


def test_port_in_use(folder: Path) -> None:
    """The line says how to choose another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(CommandError, match=re.escape(f"127.0.0.1:{port}: ")) as refusal,
            embedded_database(Postgres(data=str(folder), bin=BIN, port=port)),
        ):
            pass
    assert "EVENTBOARD_POSTGRES_PORT" in str(refusal.value)


@pytest.mark.parametrize("command", [["dev"], ["reset", "--yes"], ["psql"], ["check"]])
def test_file_in_place_of_the_folder(tmp_path: Path, command: list[str]) -> None:
    """It is named, in one line."""
    file = tmp_path / "data"
    file.touch()
    line = f"{file} can't be used: Not a directory; EVENTBOARD_POSTGRES_DATA names another folder"
    assert line in refused(*command, POSTGRES_DATA=str(file))


def test_nothing_to_reset(folder: Path) -> None:
    """There may be no data yet, or a folder that is somebody's."""
    reset(Postgres(data=str(folder)))
    assert not folder.exists()
    (folder / "pgdata").mkdir(parents=True)
    reset(Postgres(data=str(folder)))
    assert (folder / "pgdata").exists()
