"""compose.yaml and the Dockerfile, without an engine: what they state is read, and run as processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
import yaml

from eventboard import settings as configuration
from eventboard.db.session_settings import of_account
from eventboard.db.sweeper import statement_timeout
from eventboard.dev.postgres import Postgres
from eventboard.settings import PORTS
from tests.support import cluster as clusters
from tests.support import documents
from tests.support.commands import ask
from tests.support.installation import MOUNTED, make_accounts, make_secrets
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, Process, patiently, spawned, until_said

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
OURS = ("gateway", "auth", "events", "monolith", "migrate")

# Who is given which secrets: nobody holds what they have no use for.
SECRETS = {
    "gateway": {"service-credential"},
    "auth": {"service-credential", "database-auth-url", "signing-key.pem"},
    "events": {"service-credential", "database-events-url"},
    "monolith": {"database-auth-url", "database-events-url", "signing-key.pem"},
    "migrate": {"database-migration-url"},
    "postgres": {"postgres-password", "database-migration-url", "database-auth-url", "database-events-url"},
}


def model(environ: Mapping[str, str]) -> dict[str, Any]:
    """compose.yaml as Compose reads it. Raises KeyError, with the file's own words, for a variable it demands."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name in environ:
            return environ[name]
        if kind == "?":
            raise KeyError(rest)
        return rest or ""

    read: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value, (ROOT / "compose.yaml").read_text()))
    return read


@pytest.fixture
def compose() -> dict[str, Any]:
    return model({"SECRETS": "./secrets"})


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


# ---------------------------------------------------------------------------------------------------------------------
# What it states


def test_profiles(services: dict[str, dict[str, Any]]) -> None:
    """One profile for three processes, one for a single process; edge, database and migration are for both."""
    assert {name: service.get("profiles") for name, service in services.items()} == {
        "edge": None,
        "gateway": ["services"],
        "auth": ["services"],
        "events": ["services"],
        "monolith": ["monolith"],
        "migrate": None,
        "postgres": None,
    }


def test_published(services: dict[str, dict[str, Any]]) -> None:
    """Only what faces the public is published; a service with a host's port, or a name of its own, can't be scaled."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"edge": ["3000:3000"]}
    assert services["auth"]["expose"] == [str(PORTS["auth"])]
    assert services["events"]["expose"] == [str(PORTS["events"])]
    assert not [name for name, service in services.items() if "container_name" in service]


def test_one_image(services: dict[str, dict[str, Any]]) -> None:
    """The image is named once, and every role is a command of it."""
    text = (ROOT / "compose.yaml").read_text()
    images = re.findall(r"^ *image: (.*)$", text, re.MULTILINE)
    assert images == ["${IMAGE:-eventboard:local}", "haproxy:3.2-alpine", "postgres:16-alpine"]
    assert {(service["image"], service["build"]) for service in (services[name] for name in OURS)} == {
        ("eventboard:local", ".")
    }
    assert {name: service["command"] for name, service in services.items() if name in OURS} == {
        "gateway": ["serve", "--target", "gateway"],
        "auth": ["serve", "--target", "auth"],
        "events": ["serve", "--target", "events"],
        "monolith": ["serve", "--target", "all"],
        "migrate": ["migrate"],
    }


@pytest.mark.parametrize("name", OURS)
def test_confined(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert "user" not in service, "the image's own, which isn't root"
    assert service["environment"]["EVENTBOARD_ENVIRONMENT"] == "production"


@pytest.mark.parametrize("name", ["gateway", "auth", "events", "monolith"])
def test_stopping_in_time(services: dict[str, dict[str, Any]], name: str) -> None:
    """Nobody is killed while requests in flight may still be answered."""
    server = tomllib.loads((ROOT / "config" / "base.toml").read_text())["server"]
    grace = services[name]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > server["drain"] + server["grace"]
    assert services[name]["restart"] == "unless-stopped"


def test_database_out_of_reach(compose: dict[str, Any]) -> None:
    """Neither the gateway nor the world is on the database's network."""
    assert compose["networks"]["database"] == {"internal": True}
    on_it = {name for name, service in compose["services"].items() if "database" in service.get("networks", [])}
    assert on_it == {"postgres", "migrate", "auth", "events", "monolith"}
    assert compose["services"]["postgres"]["networks"] == ["database"]


def test_edge(compose: dict[str, Any]) -> None:
    """It alone is beside what it stands in front of, on a network that the gateway believes."""
    services, network = compose["services"], compose["networks"]["edge"]["ipam"]["config"][0]["subnet"]
    on_it = {name for name, service in services.items() if "edge" in service.get("networks", [])}
    assert on_it == {"edge", "gateway", "monolith"}
    for name in ("gateway", "monolith"):
        assert services[name]["networks"]["edge"] == {"aliases": ["api"]}
        assert services[name]["environment"]["EVENTBOARD_SERVER_TRUSTED_PROXIES"].split() == [network]
    configuration = services["edge"]["volumes"][0].split(":")[0]
    assert "server-template gateway 1-10 api:3000" in (ROOT / configuration).read_text()
    assert services["edge"]["read_only"] is True
    assert services["edge"]["cap_drop"] == ["ALL"]


def test_no_secrets_made() -> None:
    """Nothing has a default that production would take: without them, one line says what to do."""
    with pytest.raises(KeyError, match=r"make the secrets first: deploy/secrets\.sh"):
        model({})


def test_who_holds_which_secret(compose: dict[str, Any]) -> None:
    """Each service is given the secrets that its settings name, and those are all."""
    services = compose["services"]
    assert {name: set(service["secrets"]) for name, service in services.items() if "secrets" in service} == SECRETS
    assert compose["secrets"] == {name: {"file": f"./secrets/{name}"} for name in set().union(*SECRETS.values())}
    for name in OURS:
        files = {
            value.removeprefix(f"{MOUNTED}/")
            for key, value in services[name]["environment"].items()
            if key.endswith("_FILE")
        }
        assert files == SECRETS[name]
    # What isn't in a file says where things are, and nothing else.
    open_values = {
        (key, value)
        for name in OURS
        for key, value in services[name]["environment"].items()
        if not key.endswith("_FILE")
    }
    assert open_values == {
        ("EVENTBOARD_ENVIRONMENT", "production"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        ("EVENTBOARD_SERVER_PUBLIC_URL", ""),
        ("EVENTBOARD_PEERS_AUTH", "http://auth:3001"),
        ("EVENTBOARD_PEERS_EVENTS", "http://events:3002"),
        ("EVENTBOARD_SERVER_TRUSTED_PROXIES", "10.213.57.0/24 "),
    }


def test_files_of_the_host(compose: dict[str, Any]) -> None:
    """What is mounted from the repository is there, and can be run."""
    mounts = [volume.split(":") for volume in compose["services"]["postgres"]["volumes"]]
    assert [target for _, target, *_ in mounts] == [
        "/var/lib/postgresql/data",
        "/docker-entrypoint-initdb.d/roles.sh",
    ]
    assert os.access(ROOT / mounts[1][0], os.X_OK)
    assert mounts[0][0] in compose["volumes"]


# ---------------------------------------------------------------------------------------------------------------------
# The image


@pytest.fixture
def stages() -> list[str]:
    """The Dockerfile from each FROM on."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


def test_final_stage(stages: list[str]) -> None:
    """It is given what was built elsewhere, installs nothing, isn't root, and asks itself whether it lives."""
    lines = [line for line in stages[-1].splitlines() if line and not line.startswith("#")]
    copied = [line for line in lines if line.startswith("COPY")]
    assert copied
    assert all(line.startswith("COPY --from=") for line in copied)
    assert not re.search(r"\bapt|\bpip\b|\bgcc\b", stages[-1])
    assert "USER 10001:10001" in lines
    assert lines[-3:] == [
        'HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s CMD ["eventboard", "health"]',
        'ENTRYPOINT ["eventboard"]',
        'CMD ["serve"]',
    ]
    assert "EVENTBOARD_ENVIRONMENT=production" in stages[-1]
    # Not the operators' ports: what is exposed is published by `docker run -P`.
    assert [line for line in lines if line.startswith("EXPOSE")] == [f"EXPOSE {' '.join(map(str, PORTS.values()))}"]
    assert {stage.split()[1] for stage in stages} == {"python:3.13-slim", "python", "build"}


def test_layers(stages: list[str]) -> None:
    """A change of the source makes no dependency anew, and every dependency is held to its hash."""
    dependencies, program = stages[1], stages[2]
    assert "COPY src" not in dependencies
    assert "COPY src" in program
    for lock in ("build", "run"):
        assert re.search(rf"install [^&]*--require-hashes -r requirements/{lock}\.txt", dependencies)
    assert "--no-deps" in program
    assert "--no-build-isolation" in program


def test_build_context(tmp_path: Path, stages: list[str]) -> None:
    """What .dockerignore lets in and the Dockerfile copies makes a whole wheel, and nothing else gets in."""
    ignored, *let_in = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert ignored == "*"
    copied = [
        source
        for stage in stages
        for line in re.findall(r"^COPY (?!--)(.*)$", stage, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {f"!{source.split('/')[0]}" for source in copied} == {line for line in let_in if line.startswith("!")}
    for source in copied:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(wheel, cwd=tmp_path, check=True)
    (made,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(made, tmp_path / "wheel", "zip")
    packed = tmp_path / "wheel" / "eventboard"
    for ours, theirs in ((ROOT / "config", packed / "_config"), (ROOT / "alembic", packed / "_alembic")):
        assert _files(theirs) == _files(ours)
    assert {path for path in _files(packed) if not path.startswith(("_config/", "_alembic/"))} >= _files(
        ROOT / "src" / "eventboard"
    )


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__" and path.name != "__init__.py"
    }


# ---------------------------------------------------------------------------------------------------------------------
# The secrets


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder in which deploy/secrets.sh has run."""
    make_secrets(tmp_path)
    return tmp_path


def test_secrets_made_once(made: Path, compose: dict[str, Any]) -> None:
    """Those that compose.yaml mounts, closed to others on the machine, and kept by a second run."""
    folder = made / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert first.keys() == compose["secrets"].keys()
    assert len(set(first.values())) == len(first)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    assert (made / ".env").read_text() == "SECRETS=./secrets\nCOMPOSE_PROFILES=services\n"
    (made / ".env").write_text("SECRETS=/elsewhere\nPORT=80\n")
    again = subprocess.run([made / "deploy" / "secrets.sh"], check=True, capture_output=True, text=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert again.stdout == "set COMPOSE_PROFILES=services in .env\n"
    assert (made / ".env").read_text() == "SECRETS=/elsewhere\nPORT=80\nCOMPOSE_PROFILES=services\n"


def test_secrets_stay_out_of_git(made: Path) -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "/.env"} <= set(ignored)
    assert {path.name for path in made.iterdir()} == {"deploy", "secrets", ".env"}


# ---------------------------------------------------------------------------------------------------------------------
# What it runs


class Composed:
    """The services as processes on this machine, each as compose.yaml states it; only addresses are this machine's."""

    def __init__(self, services: dict[str, dict[str, Any]], secrets: Path, postgres: Postgres) -> None:
        self._services = services
        self._secrets = secrets
        self._postgres = postgres
        self._ports = {name: free_port() for name in OURS}
        self._running = ExitStack()
        self.processes: dict[str, Process] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def start(self, name: str) -> None:
        """When what it depends on is as it has to be."""
        if name in self.processes or name == "postgres":
            return
        service = self._services[name]
        for other, how in service["depends_on"].items():
            {"service_healthy": self.healthy, "service_completed_successfully": self.completed}[how["condition"]](other)
        running = spawned(*service["command"], **self._settings(name))
        self.processes[name] = self._running.enter_context(running)

    def healthy(self, name: str) -> None:
        """Returns when the service's own health check says so."""
        self.start(name)
        if name == "postgres":
            subprocess.run(self._check(name), check=True)
            return
        process = self.processes[name]
        timeout = int(self._services[name]["healthcheck"]["timeout"].removesuffix("s"))
        for _ in patiently(process):
            # Asked sooner it would say no, and take time from the process that is about to start.
            if "listening on" in process.output:
                check = spawned(*self._check(name), **self._settings(name))
                with check as asked, suppress(subprocess.TimeoutExpired):
                    if asked.popen.wait(timeout) == 0:
                        return

    def completed(self, name: str) -> None:
        self.start(name)
        process = self.processes[name]
        assert process.popen.wait(PATIENCE) == 0, process.output

    def stop(self) -> dict[str, int]:
        """As an engine does, all at once; the exit codes."""
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        return {
            name: process.popen.wait(int(self._services[name].get("stop_grace_period", "10s").removesuffix("s")))
            for name, process in self.processes.items()
        }

    def close(self) -> None:
        self._running.close()

    def _settings(self, name: str) -> dict[str, str]:
        stated = {
            key.removeprefix("EVENTBOARD_"): self._here(value)
            for key, value in self._services[name]["environment"].items()
        }
        here = {
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self._ports[name]),
            "SERVER_ADMIN_HOST": "127.0.0.1",
            "SERVER_ADMIN_PORT": "0",
            "IDEMPOTENCY_SWEEP_EVERY": "0.1",
        }
        # What tests save on passwords elsewhere, production refuses.
        return {**stated, **here, "PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}

    def _check(self, name: str) -> list[str]:
        how, program, *arguments = self._services[name]["healthcheck"]["test"]
        assert how == "CMD"
        if name == "postgres":
            directory = self._postgres.socket
            return [
                str(self._postgres.bin / program),
                *(text.replace("127.0.0.1", str(directory)) for text in arguments),
            ]
        assert program == "eventboard"
        return list(arguments)

    def _here(self, value: str) -> str:
        for name, port in PORTS.items():
            value = value.replace(f"http://{name}:{port}", self.url(name))
        return value.replace(MOUNTED, str(self._secrets))


@pytest.fixture
def postgres(made: Path) -> Iterator[Postgres]:
    """As the image leaves it: a new cluster that asks for passwords, with the accounts of deploy/postgres/roles.sh."""
    with clusters.postgres() as server:
        make_accounts(server, made / "secrets", rule="local all all scram-sha-256")
        for secret in (made / "secrets").glob("database-*-url"):
            secret.chmod(0o644)
            there = f"@/eventboard?host={server.socket}&port=5432"
            secret.write_text(secret.read_text().replace("@postgres:5432/eventboard", there))
        yield server


def test_accounts_for_a_pooler(postgres: Postgres) -> None:
    """Those of auth and events have what a connection needs that is made without settings; the page says the same."""
    timeout = statement_timeout(msgspec.structs.astuple(configuration.load({}).budgets))
    for module in ("auth", "events"):
        assert settings_of(f"eventboard_{module}_login", postgres) == of_account(f"eventboard_{module}", timeout)
    page = ROOT / "docs" / "operations" / "pooler.md"
    (block,) = [block.text for block in documents.blocks(page) if block.language == "sql"]
    url = postgres.url("eventboard")
    ask(url, "ALTER ROLE eventboard_events_login RESET ALL")
    subprocess.run([postgres.bin / "psql", "-qX", "-v", "ON_ERROR_STOP=1", url], input=block, text=True, check=True)
    assert settings_of("eventboard_events_login", postgres) == of_account("eventboard_events", timeout)


def settings_of(account: str, postgres: Postgres) -> dict[str, str]:
    found = ask(
        postgres.url("eventboard"),
        "SELECT lower(split_part(setting, '=', 1)), split_part(setting, '=', 2)"
        f" FROM pg_db_role_setting, unnest(setconfig) AS setting WHERE setrole = '{account}'::regrole",
    )
    return dict(found)


@pytest.fixture
def composed(services: dict[str, dict[str, Any]], made: Path, postgres: Postgres) -> Iterator[Composed]:
    composed = Composed(services, made / "secrets", postgres)
    yield composed
    composed.close()


# Of one organization, so that "meeting" is common.
MEETINGS = """
    INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone, status,
        created_by_id, created_by_name, version)
    SELECT lpad('0', 32, '0')::uuid, gen_random_uuid(), 'Meeting', '', now(), now() + interval '1 hour',
        'UTC', 'APPROVED', gen_random_uuid(), 'Bob', 1 FROM generate_series(1, 500);
    ANALYZE events.events
"""


async def test_up_and_down(composed: Composed, made: Path, postgres: Postgres) -> None:
    """Both profiles come up in order, from new secrets and an empty cluster, serve the same accounts, and end well."""
    for name in ("auth", "events", "monolith", "gateway"):
        composed.start(name)
    for name in ("gateway", "monolith"):
        composed.healthy(name)
    token = await _sign_up(composed.url("gateway"))
    event = await _create(composed.url("gateway"), token)
    assert await _seen(composed.url("monolith"), token) == [event], "one key, one database"
    assert await _seen(composed.url("gateway"), token, search="CHESS") == [event]
    assert await _seen(composed.url("gateway"), token, search="go") == []
    invitation = await _invite(composed.url("gateway"), token)
    until_said(composed.processes["auth"], "no mail is sent")

    superuser = await asyncpg.connect(postgres.url("eventboard"))
    try:
        owner = "SELECT proowner::regrole::text FROM pg_proc WHERE oid = 'events.search_rows(text)'::regprocedure"
        assert await superuser.fetchval(owner) == "eventboard_search", "text is found by its index"
        await superuser.execute(MEETINGS)
        asked = await superuser.fetchval("SELECT events.wanted_keys($1, 'a meeting of zebras')", UUID(int=0))
        assert {key[2:] for key in asked} & {"mee", "zeb"} == {"zeb"}, "the owner sees what is common"
        await _swept(composed.processes["events"], superuser)
    finally:
        await superuser.close()

    async with httpx.AsyncClient() as client:
        for name, status in (("auth", 401), ("events", 401), ("gateway", 404), ("monolith", 404)):
            answer = await client.post(f"{composed.url(name)}/rpc/auth.keys")
            assert answer.status_code == status, "between processes only, with the service credential"
        assert (await client.get(f"{composed.url('gateway')}/health")).json() == {"status": "up"}

    auth = (made / "secrets" / "database-auth-url").read_text().strip()
    connection = await asyncpg.connect(auth)
    try:
        assert await connection.fetchval("SELECT count(*) FROM auth.users") == 1
        for forbidden in ("SELECT 1 FROM events.events", "SET ROLE eventboard_events", "CREATE TABLE public.t ()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(auth.replace("login:", "login:x"))

    assert set(composed.stop().values()) == {0}
    assert not [name for name, process in composed.processes.items() if invitation in process.output], "no log has it"


async def _sign_up(url: str) -> str:
    async with httpx.AsyncClient(base_url=url) as client:
        account = {"email": "ada@example.com", "password": "correct horse battery", "firstName": "Ada"}
        answer = await client.post(
            "/auth/signup", json={**account, "lastName": "Lovelace", "organizationName": "Engines"}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["accessToken"])


async def _create(url: str, token: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        event = {"title": "Chess night", "description": "Bring a board and a friend."}
        dates = {"startDate": "2027-03-01T18:00:00Z", "endDate": "2027-03-01T21:00:00Z"}
        answer = await client.post("/events", json=event | dates, headers={"Idempotency-Key": "chess-1"})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


async def _invite(url: str, token: str) -> str:
    """The invitation's token."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        answer = await client.post("/invitations", json={"email": "grace@example.com", "role": "USER"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


async def _swept(process: Process, superuser: asyncpg.Connection) -> None:
    """Returns when the key of `_create`, expired now, is gone: the events' account may work as the sweeper's role."""
    assert await superuser.execute("UPDATE events.idempotency_keys SET expires_at = now()") == "UPDATE 1"
    for _ in patiently(process):
        if not await superuser.fetchval("SELECT count(*) FROM events.idempotency_keys"):
            return


async def _seen(url: str, token: str, **query: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        answer = await client.get("/events", params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])
