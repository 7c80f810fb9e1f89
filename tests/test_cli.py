"""The `eventboard` command, in processes of its own."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from eventboard import migrations
from eventboard.database_tasks import TaskError, reach
from eventboard.levels import MODULES, needed
from eventboard.local import postgres
from tests.support import cluster as clusters
from tests.support.board import EVENT
from tests.support.processes import PATIENCE, Process, address_of, patiently, spawned, until_ready
from tests.support.services import free_port

ROOT = Path(__file__).parents[1]
# Which PostgreSQL the run is for; None is the launcher's choice.
BIN = Path(os.environ["EVENTBOARD_POSTGRES_BIN"]) if os.environ.get("EVENTBOARD_POSTGRES_BIN") else None
NOBODY_LISTENS = "postgresql://me:sesame@127.0.0.1:1/eventboard"

DEMO_USER = {"email": "user@acme.com", "password": "Password123!"}
# Whom the documents name; DEMO_USER comes last.
DEMO_ACCOUNTS = {
    "admin@acme.com": "ADMIN",
    "moderator@acme.com": "MODERATOR",
    "user@techinnovators.com": "USER",
    "user@acme.com": "USER",
}


def ran(*arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    with spawned(*arguments, **settings) as process:
        return process.popen.wait(PATIENCE), process.output


def refused(*arguments: str, **settings: str) -> str:
    """The one line that says why not."""
    code, output = ran(*arguments, **settings)
    assert code == 1, output
    return the_line(output)


def the_line(output: str) -> str:
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("eventboard: ")
    assert "sesame" not in output, "that was the password"
    return lines[0]


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    """A database in which nothing was ever done."""
    with clusters.database(cluster_url, template="template0") as url:
        yield url


@pytest.fixture
def folder() -> Iterator[Path]:
    with clusters.public_folder() as folder:
        yield folder


# ---------------------------------------------------------------------------------------------------------------------
# Whatever goes wrong is one line


@pytest.mark.parametrize("command", ["serve", "migrate", "demo", "check"])
def test_no_database_url(command: str) -> None:
    """The line names the variable, and the command that needs none."""
    line = refused(command)
    assert line.startswith("eventboard: EVENTBOARD_DATABASE_URL: ")
    assert "`eventboard dev`" in line


@pytest.mark.parametrize("command", ["serve", "migrate", "check"])
def test_no_database_url_in_production(command: str) -> None:
    """Nobody is sent to what production refuses."""
    line = refused(command, ENVIRONMENT="production", PASSWORDS_MEMORY_KIB="19456", PASSWORDS_ITERATIONS="2")
    assert line == "eventboard: EVENTBOARD_DATABASE_URL: it is not set"


def test_one_database_url_of_several(folder: Path) -> None:
    """The one that lacks is named, or the one that leads nowhere."""
    own = {"DATABASE_AUTH_URL": NOBODY_LISTENS}
    assert refused("check", **own).startswith("eventboard: EVENTBOARD_DATABASE_EVENTS_URL: it is not set")
    assert refused("migrate", **own).startswith("eventboard: EVENTBOARD_DATABASE_MIGRATION_URL: it is not set")
    both = {"DATABASE_EVENTS_URL": NOBODY_LISTENS, "TOKENS_KEY_FILE": str(folder / "key.pem"), **own}
    assert "(EVENTBOARD_DATABASE_AUTH_URL)" in refused("check", **both)
    assert "(EVENTBOARD_DATABASE_URL)" in refused("migrate", DATABASE_URL=NOBODY_LISTENS, **own)
    (folder / "url").write_text(NOBODY_LISTENS)
    line = refused("migrate", DATABASE_MIGRATION_URL_FILE=str(folder / "url"))
    assert "(EVENTBOARD_DATABASE_MIGRATION_URL)" in line


@pytest.mark.parametrize("command", ["migrate", "demo", "check", "dev"])
def test_database_out_of_reach(folder: Path, command: str) -> None:
    """The line names the variable, says why, and not the password."""
    settings = {"SERVER_PORT": "0", "TOKENS_KEY_FILE": str(folder / "key.pem")}
    line = refused(command, DATABASE_URL=NOBODY_LISTENS, **settings)
    assert "EVENTBOARD_DATABASE_URL" in line
    assert "127.0.0.1" in line


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://me:sesame@no.such.host.invalid/eventboard", id="no such host"),
        pytest.param("postgresql://me:sesame@/eventboard?host=/no/such/folder", id="no such socket"),
        pytest.param("postgresql://me:sesame@host:port/eventboard", id="a port that is none"),
        pytest.param("postgresql://me:x#sesame@host/eventboard", id="a password that isn't encoded"),
        pytest.param("postgresql://me:x/sesame@host/eventboard", id="another one"),
        pytest.param("postgresql://me:sesame@127.0.0.1:1/eventboard?sslmode=nonsense", id="an option that is none"),
        pytest.param("postgresql://me:1?sesame@host/eventboard", id="one that reads like an option"),
        pytest.param("postgresql://me:sesame@h/e?sslmode=verify-full&sslrootcert=/no/file", id="no such certificate"),
        pytest.param(f"postgresql://me:sesame@{'x' * 64}.invalid/eventboard", id="a host that is none"),
    ],
)
async def test_url_that_leads_nowhere(url: str) -> None:
    """Whatever is wrong with it, it is one line, without the password."""
    with pytest.raises(TaskError) as refusal:
        await reach(url)
    the_line(f"eventboard: {refusal.value}")


def test_no_such_database(folder: Path, cluster_url: str) -> None:
    """PostgreSQL's own words will do."""
    url = clusters.url_of(cluster_url, "nowhere")
    line = refused("check", DATABASE_URL=url, TOKENS_KEY_FILE=str(folder / "key.pem"))
    assert 'database "nowhere" does not exist' in line


def test_database_at_another_level(empty_url: str) -> None:
    """The line says what to do."""
    assert refused("demo", DATABASE_URL=empty_url).endswith("eventboard migrate.")


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        ("serve", "SERVER_PORT", "x"),
        ("serve", "NO_SUCH", "1"),
        ("dev", "ENVIRONMENT", "x"),
        ("migrate", "CONFIG", "/nowhere"),
    ],
)
def test_wrong_setting(command: str, variable: str, value: str) -> None:
    """Settings are read before anything is done."""
    line = refused(command, **{variable: value})
    assert f"EVENTBOARD_{variable}: " in line or value in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRACING_ENDPOINT", "collector:4318"),
        ("SERVER_TRUSTED_PROXIES", "foo"),
        ("SERVER_TLS_CERTIFICATE", "/nowhere.pem"),
        ("LIMITS_STORE_URL", "http://x"),
        ("MAIL_HOST", "mail.example.com"),
        ("TOKENS_KEY_FILE", "/dev/null/keys"),
    ],
)
def test_setting_that_serve_refuses(folder: Path, database_url: str, variable: str, value: str) -> None:
    """So does `check`, by the same words."""
    settings = {"DATABASE_URL": database_url, "SERVER_PORT": "0", "TOKENS_KEY_FILE": str(folder / "key.pem")}
    line = refused("serve", **{**settings, variable: value})
    assert refused("check", **{**settings, variable: value}) == line


def test_port_in_use(folder: Path, database_url: str) -> None:
    """The line names the port; `dev` has begun nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"SERVER_PORT": port, "TOKENS_KEY_FILE": str(folder / "key.pem")}
        line = refused("serve", DATABASE_URL=database_url, **settings)
        assert f"127.0.0.1:{port}" in line
        assert "EVENTBOARD_SERVER_PORT" in line
        assert refused("dev", POSTGRES_DATA=str(folder / "postgres"), **settings) == line
    assert not any(folder.iterdir())


def test_host_of_another_machine(folder: Path, database_url: str) -> None:
    """192.0.2.0/24 is for documentation: no machine has such an address."""
    settings = {"DATABASE_URL": database_url, "TOKENS_KEY_FILE": str(folder / "key.pem")}
    assert "192.0.2.1" in refused("serve", SERVER_HOST="192.0.2.1", **settings)


def test_signing_key_that_is_not_there(folder: Path, database_url: str) -> None:
    """Production makes none."""
    key = folder / "key.pem"
    production = {"DATABASE_URL": database_url, "ENVIRONMENT": "production", "SERVER_PORT": "0"}
    strong = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    assert str(key) in refused("serve", TOKENS_KEY_FILE=str(key), **production, **strong)


@pytest.mark.parametrize("command", ["demo", "dev"])
def test_not_in_production(command: str, database_url: str) -> None:
    """Known passwords don't get into production."""
    strong = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    line = refused(command, ENVIRONMENT="production", DATABASE_URL=database_url, **strong)
    assert line.startswith("eventboard: EVENTBOARD_ENVIRONMENT: ")


# ---------------------------------------------------------------------------------------------------------------------
# serve


def test_serve_while_the_database_is_away(folder: Path) -> None:
    """It lives, says that it isn't ready, answers 503, and ends well when it is told to."""
    key = str(folder / "key.pem")
    with spawned("serve", DATABASE_URL=NOBODY_LISTENS, SERVER_PORT="0", TOKENS_KEY_FILE=key) as process:
        url = address_of(process)
        assert httpx.get(f"{url}/health/live").status_code == 200
        assert httpx.get(f"{url}/health/ready").status_code == 503
        answer = httpx.post(f"{url}/auth/login", json=DEMO_USER)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert process.stop(signal.SIGTERM) == 0
        assert "Traceback" not in process.output
        assert "sesame" not in process.output


def test_told_to_end_in_a_destructor(folder: Path, database_url: str) -> None:
    """Python loses what a signal's handler raises there; the process ends all the same, and without a complaint."""
    settings = {"DATABASE_URL": database_url, "SERVER_PORT": "0", "TOKENS_KEY_FILE": str(folder / "signing-key.pem")}
    with spawned("serve", program=("-m", "tests.support.destructor"), **settings) as process:
        assert process.popen.wait(PATIENCE) == 0
        assert process.output == ""


def test_serve_before_the_migration(folder: Path, empty_url: str) -> None:
    """It isn't ready, and becomes so when the database is at its level, without a restart."""
    settings = {"DATABASE_URL": empty_url, "SERVER_PORT": "0", "TOKENS_KEY_FILE": str(folder / "key.pem")}
    with spawned("serve", **settings) as process:
        url = address_of(process)
        answer = httpx.get(f"{url}/health/ready")
        assert answer.status_code == 503
        assert "never migrated" in answer.text or "not migrated" in answer.text
        asyncio.run(migrations.migrate(empty_url))
        process.url = url
        until_ready(process)


def test_config_folder(folder: Path, database_url: str) -> None:
    """EVENTBOARD_CONFIG chooses it."""
    config = shutil.copytree(ROOT / "config", folder / "config")
    with (config / "development.toml").open("a") as file:
        file.write(f'\n[database]\nurl = "{database_url}"\n')
    key = str(folder / "key.pem")
    code, output = ran("check", CONFIG=str(config), TOKENS_KEY_FILE=key)
    assert (code, output) == (0, "settings, database and migration level are right\n")


# ---------------------------------------------------------------------------------------------------------------------
# migrate


def levels(url: str) -> list[list[tuple[Any, ...]]]:
    return [ask(url, f"SELECT version_num FROM {module}.alembic_version") for module in MODULES]


def test_migrate(empty_url: str) -> None:
    """Up, and down to nothing; a module by itself, too."""
    top = [[(needed(module),)] for module in MODULES]
    assert ran("migrate", DATABASE_URL=f"{empty_url}&sslmode=prefer") == (0, "the database is at head\n")
    assert levels(empty_url) == top
    assert ran("migrate", "--revision", "base", DATABASE_URL=empty_url) == (0, "the database is at base\n")
    assert levels(empty_url) == [[], []]
    assert ran("migrate", "--module", "auth", DATABASE_URL=empty_url)[0] == 0
    assert levels(empty_url) == [top[0], []]
    assert "nonsense" in refused("migrate", "--revision", "nonsense", DATABASE_URL=empty_url)
    assert levels(empty_url) == [top[0], []]


def test_two_migrations_at_once(empty_url: str) -> None:
    """Both end well."""
    with spawned("migrate", DATABASE_URL=empty_url) as one, spawned("migrate", DATABASE_URL=empty_url) as other:
        assert [process.popen.wait(PATIENCE) for process in (one, other)] == [0, 0], one.output + other.output
    assert levels(empty_url) == [[(needed(module),)] for module in MODULES]


def test_migrate_as_its_own_role(empty_url: str) -> None:
    """Its own URL goes before the common one."""
    assert ran("migrate", DATABASE_URL=NOBODY_LISTENS, DATABASE_MIGRATION_URL=empty_url)[0] == 0


# ---------------------------------------------------------------------------------------------------------------------
# demo

ALL_ROWS = (
    "SELECT * FROM auth.organizations ORDER BY id",
    "SELECT * FROM auth.users ORDER BY id",
    "SELECT * FROM auth.memberships ORDER BY organization_id, user_id",
    "SELECT * FROM events.events ORDER BY id",
    "SELECT * FROM events.history ORDER BY event_id, version",
)


def test_demo_again(database_url: str) -> None:
    """The same accounts and events as before, not one row changed."""
    assert ran("demo", DATABASE_URL=database_url)[0] == 0
    first = [ask(database_url, statement) for statement in ALL_ROWS]
    assert [len(rows) for rows in first] == [2, 4, 4, 3, 6]
    assert ran("demo", DATABASE_URL=database_url)[0] == 0
    assert [ask(database_url, statement) for statement in ALL_ROWS] == first
    assert_consistent(database_url)


def test_demo_events(database_url: str) -> None:
    """So many more, in every state, each with the history that led there."""
    code, output = ran("demo", "--events", "2000", DATABASE_URL=database_url)
    assert (code, output) == (0, "2,000 events put in\n")
    (count,) = ask(
        database_url, "SELECT count(*), count(DISTINCT status), count(DISTINCT organization_id) FROM events.events"
    )
    assert count == (2003, 5, 1)
    assert_consistent(database_url)
    assert ran("demo", "--events", "10", "--organization", "tech-innovators", DATABASE_URL=database_url)[0] == 0
    (count,) = ask(database_url, "SELECT count(*), count(DISTINCT organization_id) FROM events.events")
    assert count == (2013, 2)
    assert_consistent(database_url)


def assert_consistent(url: str) -> None:
    """Each event is what its history says."""
    wrong = ask(
        url,
        """
        SELECT e.id FROM events.events e LEFT JOIN LATERAL (
            SELECT array_agg(version ORDER BY version) AS versions, min(at) AS first, max(at) AS last,
                (array_agg(status ORDER BY version DESC))[1] AS status,
                (array_agg(reason ORDER BY version DESC))[1] AS reason,
                (array_agg(action ORDER BY version))[1] AS action,
                bool_and(author_id = e.created_by_id) AS of_author
            FROM events.history WHERE (organization_id, event_id) = (e.organization_id, e.id)
        ) h ON true
        WHERE (h.versions, h.first, h.last, h.status, h.action, h.of_author)
            IS DISTINCT FROM
            (ARRAY(SELECT generate_series(1, e.version)), e.created_at, e.updated_at, e.status, 'create', true)
            OR e.status = 'REJECTED' AND h.reason IS DISTINCT FROM e.rejection_reason
        """,
    )
    assert wrong == []
    strangers = "SELECT id FROM events.events e WHERE NOT EXISTS (SELECT FROM auth.memberships m"
    assert ask(url, f"{strangers} WHERE (m.organization_id, m.user_id) = (e.organization_id, e.created_by_id))") == []
    assert ask(url, "SELECT event_id FROM events.history WHERE at > now()") == []


@pytest.mark.parametrize("arguments", [("--events", "-1"), ("--events", "5", "--organization", "nowhere")])
def test_demo_of_what_can_not_be(database_url: str, arguments: tuple[str, ...]) -> None:
    """One line, here as well."""
    refused("demo", *arguments, DATABASE_URL=database_url)


# ---------------------------------------------------------------------------------------------------------------------
# dev


@contextmanager
def developing(folder: Path, *arguments: str, **settings: str) -> Iterator[Process]:
    """`eventboard dev`, ready, with all its data in the folder."""
    values = {"SERVER_PORT": "0", "POSTGRES_DATA": str(folder / "postgres"), "TOKENS_KEY_FILE": str(folder / "key.pem")}
    if BIN:
        values["POSTGRES_BIN"] = str(BIN)
    with spawned("dev", *arguments, **{**values, **settings}) as process:
        process.url = address_of(process)
        until_ready(process)
        yield process


def log_in(process: Process, email: str = DEMO_USER["email"]) -> httpx.Client:
    answer = httpx.post(f"{process.url}/auth/login", json={**DEMO_USER, "email": email})
    assert answer.status_code == 200, answer.text
    return httpx.Client(base_url=process.url, headers={"authorization": f"Bearer {answer.json()['accessToken']}"})


def processes_with(text: str) -> list[str]:
    """Command lines, as `ps` tells them."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if text in line]


def test_dev(folder: Path) -> None:
    """First start, Ctrl-C, second start, kill -9, third start: the data stays, and PostgreSQL doesn't."""
    with developing(folder) as process:
        for line in ("Ctrl-C stops it", *DEMO_ACCOUNTS, DEMO_USER["password"], "/docs", "migrating the database"):
            assert line in process.output
        for email, role in DEMO_ACCOUNTS.items():
            with log_in(process, email) as user:
                assert user.get("/auth/me").json()["role"] == role
                created = user.post("/events", json={**EVENT, "title": "Kept"}).json()["id"]
        assert processes_with(str(folder))
        assert process.stop(signal.SIGINT) == 0
        assert "Traceback" not in process.output
    assert processes_with(str(folder)) == []

    begun = time.monotonic()
    with developing(folder) as process:
        took = time.monotonic() - begun
        # 4 s were promised for a quiet machine; measured there: about 2.
        assert took < 12, took
        assert "migrating" not in process.output
        with log_in(process) as user:
            assert user.get(f"/events/{created}").json()["title"] == "Kept"
        process.popen.kill()
        process.popen.wait()
    assert processes_with(str(folder)), "PostgreSQL was left behind, as after any crash"

    with developing(folder) as process:
        assert "ending the PostgreSQL that an earlier run left behind" in process.output
        with log_in(process) as user:
            assert user.get(f"/events/{created}").json()["title"] == "Kept"
        assert process.stop(signal.SIGTERM) == 0
    assert processes_with(str(folder)) == []


def test_dev_on_a_given_database(folder: Path, empty_url: str) -> None:
    """EVENTBOARD_DATABASE_URL is used instead of an embedded PostgreSQL: migrated, filled, and left running."""
    with developing(folder, DATABASE_URL=empty_url) as process:
        log_in(process).close()
        assert process.stop(signal.SIGINT) == 0
    assert not (folder / "postgres").exists()
    assert ask(empty_url, "SELECT count(*) FROM events.events") == [(3,)]


def test_dev_on_somebodys_data(folder: Path, database_url: str) -> None:
    """Demo data is for a new database only."""
    ask(
        database_url,
        "INSERT INTO auth.organizations (id, name, name_key, slug) VALUES (gen_random_uuid(), 'A', 'a', 'a')",
    )
    with developing(folder, DATABASE_URL=database_url) as process:
        assert "migrating" not in process.output
        assert process.stop(signal.SIGINT) == 0
    assert ask(database_url, "SELECT count(*) FROM auth.users") == [(0,)]


def test_dev_on_data_in_use(folder: Path) -> None:
    """The line says by whom."""
    server = postgres.start(folder / "postgres", bin_dir=BIN, durable=False)
    try:
        settings = {"POSTGRES_DATA": str(folder / "postgres"), "TOKENS_KEY_FILE": str(folder / "key.pem")}
        line = refused("dev", SERVER_PORT="0", **settings)
        assert "already running" in line
        assert str(os.getpid()) in line
    finally:
        server.stop()


def test_dev_reload(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file starts the server anew, on the same data; Ctrl-C, which all processes hear, leaves none."""
    for name in ("src", "config", "alembic"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(folder / "src"))
    with developing(folder, "--reload", SERVER_PORT=str(free_port()), SERVER_ADMIN_PORT="0") as process:
        page = folder / "src/eventboard/gateway/pages.py"
        page.write_text(page.read_text().replace("Problems of the EventBoard API", "Changed meanwhile"))
        for _ in patiently(process):
            with suppress(httpx.TransportError):
                if "Changed meanwhile" in httpx.get(f"{process.url}/problems").text:
                    break
        log_in(process).close()
        os.killpg(process.popen.pid, signal.SIGINT)
        assert process.popen.wait(PATIENCE) == 0, process.output
        assert "Traceback" not in process.output
        with pytest.raises(ProcessLookupError):
            os.killpg(process.popen.pid, 0)
    assert processes_with(str(folder)) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(process.url)


# ---------------------------------------------------------------------------------------------------------------------
# A full disk


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """One of 100 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m,mode=0755", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, *, leave: int) -> None:
    """Until so many bytes are left."""
    (disk / "filler").write_bytes(b"")
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - leave))


def test_disk_full_at_the_first_start(disk: Path) -> None:
    """The line gives the system's reason, and where to read more."""
    fill(disk, leave=1 << 20)
    settings = {"POSTGRES_DATA": str(disk / "postgres"), "TOKENS_KEY_FILE": str(disk / "key.pem")}
    line = refused("dev", SERVER_PORT="0", **settings)
    assert "No space left on device" in line
    assert str(disk / "postgres" / "server.log") in line


def test_disk_full_while_rows_are_put_in(disk: Path) -> None:
    """Likewise, and what was there stays."""
    server = postgres.start(disk / "postgres", bin_dir=BIN)
    try:
        url = server.url()
        asyncio.run(migrations.migrate(url))
        assert ran("demo", "--events", "10", DATABASE_URL=url)[0] == 0
        fill(disk, leave=4 << 20)
        assert "No space left on device" in refused("demo", "--events", "20000", DATABASE_URL=url)
        assert ask(url, "SELECT count(*) FROM events.events") == [(13,)]
        assert_consistent(url)
    finally:
        server.stop()
