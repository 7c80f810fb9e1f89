"""The chart's manifests, run as a kubelet would run them: a release is installed and upgraded while clients go on."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from eventboard.dev.postgres import SUPERUSER, Postgres
from tests.deploy.engines import manifests
from tests.deploy.engines.kubelet import PATIENCE, Cluster, Pod, may_mount
from tests.support import cluster as clusters
from tests.support.board import EVENT
from tests.support.certificates import Authority
from tests.support.edge import edge
from tests.support.installation import make_accounts, make_secrets
from tests.support.load import load
from tests.support.ports import free_port

pytestmark = pytest.mark.skipif(not may_mount(), reason="this account can't make mount namespaces: only root may")

# Clients that write all the time, each on a connection of its own.
CLIENTS = 4
# Clients here call more often than one may.
SETTINGS = {"EVENTBOARD_LIMITS_REQUESTS": 0, "EVENTBOARD_QUOTAS_KEYS_BY_USER": 0}
SHARED = {"settings": SETTINGS, "trustedProxies": "127.0.0.1"}
QUICK = {"stopping": {"preStop": 1, "drain": 0, "grace": 0.5}}
VALUES: dict[str, dict[str, Any]] = {
    "services": SHARED,
    "monolith": {**SHARED, **QUICK, "shape": "monolith", "pods": {"user": None}},
    "encrypted": {
        **QUICK,
        "settings": {**SETTINGS, "EVENTBOARD_TOKENS_KEYS_REFRESH": 0.5},
        "trustedProxies": "none",
        "internalTls": {"enabled": True},
        "gateway": {"tlsSecret": "public-tls"},
    },
}


@dataclass
class Release:
    """An installed chart: its workloads by name, and the pods of each Deployment that aren't about to end."""

    cluster: Cluster
    workloads: dict[str, Any]
    replicas: int
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    ended: list[Pod] = field(default_factory=list)

    @property
    def deployments(self) -> list[str]:
        return [name for name, one in self.workloads.items() if one["kind"] == "Deployment"]

    def migrate(self) -> None:
        job = self.cluster.start(self.workloads["eventboard-migrate"], "127.0.0.1")
        job.until_complete()

    def roll_out(self, *names: str) -> None:
        """One pod more than there were, then one less, until all are new ones; the Deployments at the same time."""
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self._roll_out, names))

    def _roll_out(self, name: str) -> None:
        old = self.pods.get(name, [])
        new = []
        for _ in range(self.replicas):
            new.append(self.cluster.start(self.workloads[name], self.address(name)))
            new[-1].until_ready()
            if old:
                leaving = old.pop()
                leaving.delete()
                self.ended.append(leaving)
        self.pods[name] = new

    def address(self, name: str) -> str:
        """One that no running pod of the workload has."""
        taken = {pod.address for pod in self.cluster.pods if pod.service == name and pod.popen.poll() is None}
        return next(address for address in addresses(name) if address not in taken)

    def behind(self, name: str) -> list[str]:
        """All addresses that its pods may have, as the edge wants them."""
        port, admin = self.cluster.port(3000), self.cluster.port(3900)
        return [f"{address}:{port} port {admin}" for address in addresses(name)]


def addresses(name: str) -> list[str]:
    third = ("eventboard-gateway", "eventboard-auth", "eventboard-events", "eventboard-monolith").index(name)
    return [f"127.57.{third}.{last}" for last in range(1, 7)]


@cache
def workloads() -> dict[str, dict[str, Any]]:
    """What VALUES render to: Deployments and Jobs by their names."""
    answers, _ = manifests.helm(*VALUES.values())
    found = {}
    for name, answer in zip(VALUES, answers, strict=True):
        assert isinstance(answer, dict), answer
        all_of_it = manifests.manifests(manifests.documents(answer))
        found[name] = {one["metadata"]["name"]: one for one in all_of_it if one["kind"] in ("Deployment", "Job")}
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that deploy/secrets.sh makes."""
    return make_secrets(tmp_path_factory.mktemp("made"))


@pytest.fixture
def postgres(secrets: Path) -> Iterator[tuple[Postgres, int]]:
    """With deploy/postgres/roles.sh's accounts, by TCP, and its port."""
    port = free_port()
    with clusters.postgres(listen_addresses="127.0.0.1", port=str(port), max_connections="300") as server:
        make_accounts(server, secrets, rule="host all all 127.0.0.1/32 scram-sha-256", port=port)
        yield server, port


@contextmanager
def installed(
    name: str,
    folder: Path,
    secrets: Path,
    port: int,
    *,
    more: Mapping[str, dict[str, str]] = {},
    replicas: int = 2,
    uid: int | None = None,
) -> Iterator[Release]:
    """Migrated, with all pods ready. `name` is one of VALUES; `more` are further Secrets."""

    def value(file: str) -> str:
        return (secrets / file).read_text().replace("@postgres:5432/", f"@postgres:{port}/")

    kept = {
        "eventboard-database-auth": {"url": value("database-auth-url")},
        "eventboard-database-events": {"url": value("database-events-url")},
        "eventboard-database-migration": {"url": value("database-migration-url")},
        "eventboard-service-credential": {"credential": value("service-credential")},
        "eventboard-signing-keys": {"first.pem": value("signing-key.pem")},
        **more,
    }
    cluster = Cluster(folder, kept, {"postgres": "127.0.0.1"}, uid)
    cluster.publish()
    release = Release(cluster, workloads()[name], replicas)
    try:
        release.migrate()
        release.roll_out(*release.deployments)
        yield release
        for values in kept.values():
            for secret in values.values():
                assert not any(secret.strip() in pod.output for pod in cluster.pods)
    finally:
        cluster.close()


def signed_up(client: httpx.Client) -> str:
    account = {"email": "ada@example.com", "password": "correct horse battery", "firstName": "Ada"}
    account |= {"lastName": "Lovelace", "organizationName": "Engines"}
    answer = client.post("/auth/signup", json=account)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["accessToken"])


def writing(client: httpx.Client) -> httpx.Response:
    return client.post("/events", json=EVENT, headers={"Idempotency-Key": uuid4().hex})


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy is installed")
async def test_upgrade_under_load(tmp_path: Path, secrets: Path, postgres: tuple[Postgres, int]) -> None:
    """Every pod of the three Deployments is replaced while keyed writes go on: none fails, none happens twice."""
    server, port = postgres
    with ExitStack() as stack:
        release = stack.enter_context(installed("services", tmp_path, secrets, port))
        running = stack.enter_context(
            edge(*release.behind("eventboard-gateway"), EDGE_REQUEST_TIMEOUT="10s", EDGE_CLIENT_TIMEOUT="20s")
        )
        clients = [stack.enter_context(httpx.Client(base_url=running.url, timeout=30)) for _ in range(CLIENTS)]
        token = signed_up(clients[0])
        for client in clients:
            client.headers["Authorization"] = f"Bearer {token}"
        begun = time.monotonic()
        with load([partial(writing, client) for client in clients]) as writes:
            release.migrate()
            release.roll_out(*release.deployments)
            for pod in release.ended:
                pod.until_gone()
        seconds = time.monotonic() - begun
        assert writes.failures == []
        print(f"{writes.total} writes in {seconds:.0f} s, the slowest took {max(writes.seconds):.2f} s")
        assert len(release.ended) == 6
        for pod in release.ended:
            assert (pod.popen.returncode, pod.killed, pod.restarts) == (0, False, 0), pod.output
        pods = [pod for several in release.pods.values() for pod in several]
        assert [pod.restarts for pod in pods] == [0] * len(pods)
    superuser = await asyncpg.connect(f"postgresql://{SUPERUSER}@/eventboard?host={server.socket}&port={port}")
    try:
        assert await superuser.fetchval("SELECT count(*) FROM events.events") == writes.statuses[201]
    finally:
        await superuser.close()


def test_pod_that_hangs(tmp_path: Path, secrets: Path, postgres: tuple[Postgres, int]) -> None:
    """In one process, as an account that the machine doesn't know: a pod that doesn't hear SIGTERM is killed."""
    with installed("monolith", tmp_path, secrets, postgres[1], uid=1_000_650_000) as release:
        hanging, other = release.pods["eventboard-monolith"]
        subprocess.run(["kill", "-STOP", str(hanging.popen.pid)], check=True)
        hanging.delete()
        hanging.until_gone()
        assert hanging.killed
        assert hanging.seconds_to_end >= hanging.spec["terminationGracePeriodSeconds"]
        url = f"http://{other.address}:{release.cluster.port(3000)}"
        with httpx.Client(base_url=url, timeout=30) as client:
            client.headers["Authorization"] = f"Bearer {signed_up(client)}"
            assert writing(client).status_code == 201


def test_encrypted(tmp_path: Path, secrets: Path, postgres: tuple[Postgres, int]) -> None:
    """TLS of clients and between the services, from Secrets. A key is added to its Secret, and one is removed."""
    authority = Authority(tmp_path)
    pods = ("gateway", "auth", "events")
    more = {f"eventboard-{pod}-tls": tls_secret(authority, f"eventboard-{pod}") for pod in pods}
    more["public-tls"] = tls_secret(authority, *addresses("eventboard-gateway"))
    with installed("encrypted", tmp_path, secrets, postgres[1], more=more, replicas=1) as release:
        (gateway,), (auth,) = release.pods["eventboard-gateway"], release.pods["eventboard-auth"]
        url = f"https://{gateway.address}:{release.cluster.port(3000)}"
        trusted = ssl.create_default_context(cafile=authority.certificate)
        with httpx.Client(base_url=url, verify=trusted, timeout=30) as client:
            client.headers["Authorization"] = f"Bearer {signed_up(client)}"
            assert writing(client).status_code == 201

            keys = release.cluster.secrets["eventboard-signing-keys"]
            keys["20260101T000000Z-second.pem"] = subprocess.check_output(NEW_KEY, text=True)
            auth.update("keys")
            until(lambda: published(client) == 2)
            assert writing(client).status_code == 201
            del keys["first.pem"]
            auth.update("keys")
            until(lambda: published(client) == 1)
            until(lambda: writing(client).status_code == 401)


# As docs/kubernetes.md shows it.
NEW_KEY = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def tls_secret(authority: Authority, *hosts: str) -> dict[str, str]:
    """As cert-manager makes it."""
    made = authority.issue(*hosts, name=hosts[0])
    files = {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": authority.certificate}
    return {name: file.read_text() for name, file in files.items()}


def published(client: httpx.Client) -> int:
    return len(client.get("/.well-known/jwks.json").json()["keys"])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
