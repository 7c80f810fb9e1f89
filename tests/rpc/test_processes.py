"""Whole processes, as app.py puts them together: what they serve to each other, and a gateway that is newer."""

import asyncio
from collections.abc import AsyncIterator
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from eventboard import settings
from eventboard.app import build
from eventboard.core.asgi import Receive, Scope, Send
from eventboard.core.contract import Budget, Operation, operation, operations
from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import PublicKeys
from eventboard.modules.auth.contract import Auth, GetKeys, Login, Session
from eventboard.modules.auth.tokens import TokenIssuer
from eventboard.modules.events.contract import Events
from eventboard.rpc import codec
from eventboard.rpc.server import RpcServer, mount
from eventboard.settings.targets import target_of
from eventboard.web.server import encryption
from tests.support.certificates import Authority
from tests.support.keys import OneKey
from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.problems import assert_problem
from tests.support.processes import PATIENCE, Process, address_of, logged_so_far, spawned
from tests.support.rpc import CREDENTIAL, listening, service_of

PARTS = ("gateway", "auth", "events")
TARGETS = [",".join(parts) for size in (1, 2, 3) for parts in combinations(PARTS, size)]
KNOWN = {"authorization": f"Bearer {CREDENTIAL}"}
CONTRACTS = {"auth": Auth, "events": Events}


@pytest.mark.parametrize("target", TARGETS)
async def test_who_serves_calls(tmp_path: Path, target: str) -> None:
    """A process without the gateway serves its own modules; one with it none at all, whoever asks."""
    environ = {
        "EVENTBOARD_DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
        "EVENTBOARD_TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
        "EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL,
    }
    application = build(settings.load(environ), target_of(target))
    async with (
        listening(application.asgi) as url,
        httpx.AsyncClient(base_url=url, verify=NO_TLS, timeout=PATIENCE) as http,
    ):
        for module, contract in CONTRACTS.items():
            for known in operations(contract):
                answer = await http.post(f"/rpc/{known.name}", content=b"\xc1", headers=KNOWN)
                stranger = await http.post(f"/rpc/{known.name}", content=b"\xc1")
                if "gateway" in target:
                    assert_problem(answer, "not-found")
                    assert_problem(stranger, "not-found")
                else:
                    # It doesn't run: the call can't be read.
                    assert answer.status_code == (400 if module in target else 501)
                    assert stranger.status_code == 401


class OldAuth(Protocol):
    """Auth as an earlier version had it: without sign-up."""

    @operation("auth.login", budget=Budget.AUTH, repeatable=True)
    async def login(self, command: Login) -> Session: ...

    @operation("auth.keys", budget=Budget.AUTH, repeatable=True)
    async def keys(self, query: GetKeys) -> PublicKeys: ...


async def alive(_: Scope, __: Receive, send: Send) -> None:
    """All that a peer is asked beside its calls."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def skewed() -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """A gateway, and the public API through it, whose auth is older and whose events is its own age."""
    issuer = TokenIssuer(OneKey(), issuer="x", audience="x", lifetime=60)

    def answer(known: Operation, _: Any) -> Any:
        if known.method == "keys":
            return issuer.public_keys
        raise ServiceError(Code.INVALID_CREDENTIALS, "No account has this e-mail address and password.")

    auth = RpcServer({OldAuth: service_of(OldAuth, answer)}, credential=CREDENTIAL)
    events = RpcServer({Events: service_of(Events, answer)}, credential=CREDENTIAL)
    async with listening(mount(alive, auth)) as auth_url, listening(mount(alive, events)) as events_url:
        peers = {"PEERS_AUTH": auth_url, "PEERS_EVENTS": events_url, "RPC_CREDENTIAL": CREDENTIAL}
        with spawned("serve", "--target", "gateway", SERVER_PORT="0", **peers) as gateway:
            gateway.url = await asyncio.to_thread(address_of, gateway)
            async with httpx.AsyncClient(base_url=gateway.url, verify=NO_TLS, timeout=PATIENCE) as http:
                yield gateway, http
            # Off the loop that its peers run in, which it may still ask something.
            assert await asyncio.to_thread(gateway.stop) == 0


def test_caller_that_is_newer(tmp_path: Path) -> None:
    """A service's /health shows it, beside its database."""
    settings = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
        "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
        "RPC_CREDENTIAL": CREDENTIAL,
    }
    with spawned("serve", "--target", "auth", SERVER_PORT="0", **settings) as auth:
        url = address_of(auth)
        headers = {**KNOWN, codec.CONTRACT: "newer"}
        assert httpx.post(f"{url}/rpc/auth.keys", content=b"\x80", headers=headers, verify=NO_TLS).status_code == 200
        part = httpx.get(f"{url}/health", verify=NO_TLS).json()["parts"]["auth"]
        assert part["contract"] == f"newer there, {codec.contract_hash(Auth)} here"
        assert "newer" not in httpx.get(f"{url}/health/ready", verify=NO_TLS).text


async def test_services_with_tls(tmp_path: Path) -> None:
    """A gateway shows its certificate to services that ask for one, and holds theirs to its CA."""
    ca = Authority(tmp_path)
    server, client = ca.issue("localhost"), ca.issue(name="gateway")

    def answer(known: Operation, _: Any) -> Any:
        if known.method == "keys":
            return TokenIssuer(OneKey(), issuer="x", audience="x", lifetime=60).public_keys
        raise ServiceError(Code.INVALID_CREDENTIALS, "No account has this e-mail address and password.")

    given = {"TLS_CERTIFICATE": server.certificate, "TLS_KEY": server.key, "TLS_CLIENT_CA": ca.certificate}
    tls = encryption(settings.load({f"EVENTBOARD_SERVER_{name}": str(path) for name, path in given.items()}).server)
    auth = mount(alive, RpcServer({Auth: service_of(Auth, answer)}, credential=CREDENTIAL))
    async with listening(auth, tls) as url:
        peer = url.replace("127.0.0.1", "localhost")
        files = {"TLS_CA": ca.certificate, "TLS_CERTIFICATE": client.certificate, "TLS_KEY": client.key}
        known = {
            "PEERS_AUTH": peer,
            "PEERS_EVENTS": peer,
            "RPC_CREDENTIAL": CREDENTIAL,
            **{f"RPC_{name}": str(path) for name, path in files.items()},
        }
        with spawned("serve", "--target", "gateway", SERVER_PORT="0", **known) as gateway:
            public = await asyncio.to_thread(address_of, gateway)
            async with httpx.AsyncClient(base_url=public, verify=NO_TLS, timeout=PATIENCE) as http:
                account = {"email": "ada@example.com", "password": "correct horse battery"}
                assert_problem(await http.post("/auth/login", json=account), "invalid-credentials")
                assert (await http.get("/health")).json()["parts"]["auth"]["status"] == "up"
            assert await asyncio.to_thread(gateway.stop) == 0


def test_health_of_a_service_that_asks_for_certificates(tmp_path: Path) -> None:
    """`eventboard health` has none: it asks the admin port."""
    ca = Authority(tmp_path)
    server = ca.issue("127.0.0.1")
    known = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/nobody",
        "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
        "RPC_CREDENTIAL": CREDENTIAL,
        "SERVER_PORT": str(free_port()),
        "SERVER_ADMIN_PORT": str(free_port()),
        "SERVER_TLS_CERTIFICATE": str(server.certificate),
        "SERVER_TLS_KEY": str(server.key),
        "SERVER_TLS_CLIENT_CA": str(ca.certificate),
    }
    with spawned("serve", "--target", "auth", **known) as auth:
        address_of(auth)
        with spawned("health", **known) as health:
            assert health.popen.wait(PATIENCE) == 0, health.output
        with spawned("health", "--ready", **known) as health:
            assert health.popen.wait(PATIENCE) == 1
            assert "503" in health.output


async def test_gateway_that_is_newer(skewed: tuple[Process, httpx.AsyncClient]) -> None:
    """What both know works, what the service doesn't is 501; the difference is in /health, and in the log once."""
    gateway, http = skewed
    account = {"email": "ada@example.com", "password": "correct horse battery"}
    names = {"firstName": "Ada", "lastName": "King", "organizationName": "Engines"}
    for _ in range(3):
        assert_problem(await http.post("/auth/login", json=account), "invalid-credentials")
        assert_problem(await http.post("/auth/signup", json={**account, **names}), "not-implemented")
    assert (await http.get("/.well-known/jwks.json")).json()["keys"]
    health = await http.get("/health")
    there, here = codec.contract_hash(OldAuth), codec.contract_hash(Auth)
    assert health.status_code == 200
    assert health.json()["parts"]["auth"] == {
        "status": "up",
        "breaker": "closed",
        "contract": f"{there} there, {here} here",
    }
    assert health.json()["parts"]["events"] == {"status": "up", "breaker": "closed"}
    assert logged_so_far(gateway).count(there) == 1
