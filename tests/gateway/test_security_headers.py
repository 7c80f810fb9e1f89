"""What browsers are told: over HTTP, by a gateway in production with one site that may call."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.processes import PATIENCE, Process, address_of, spawned
from tests.support.shapes import CREDENTIAL

SITE = "https://app.example"
NOBODY = {
    "PEERS_AUTH": "http://127.0.0.1:1",
    "PEERS_EVENTS": "http://127.0.0.1:1",
    "RPC_CREDENTIAL": CREDENTIAL,
    "RETRIES_RETRIES": "0",
    "SERVER_HOST": "127.0.0.1",
    "SERVER_PORT": "0",
    "PASSWORDS_MEMORY_KIB": "19456",
    "PASSWORDS_ITERATIONS": "2",
    "LOGS_FORMAT": "text",
}

# What there is for a stranger without any module: pages, files, health, and problems.
PATHS = ["/schema/swagger", "/schema/openapi.json", "/problems/forbidden", "/problems", "/health/live", "/nowhere"]
PATHS += ["/", "/events", "/.well-known/jwks.json", "/schema/static/any/pages/swagger.js"]


@pytest.fixture(scope="module")
def production() -> Iterator[Process]:
    """Alone: nothing that is asked of it here needs a module."""
    with spawned(
        "serve", "--target", "gateway", ENVIRONMENT="production", SERVER_CORS_ORIGINS=SITE, **NOBODY
    ) as process:
        process.url = address_of(process)
        yield process


@pytest.fixture(scope="module")
def client(production: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=production.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def by_default() -> Iterator[httpx.Client]:
    """As development has it."""
    with spawned("serve", "--target", "gateway", **NOBODY) as process, httpx.Client(timeout=PATIENCE) as client:
        client.base_url = address_of(process)
        yield client


def preflight(client: httpx.Client, origin: str, method: str = "PATCH", headers: str = "if-match") -> httpx.Response:
    asked = {"access-control-request-method": method, "access-control-request-headers": headers}
    return client.options("/events/1", headers={"origin": origin, **asked})


# ---------------------------------------------------------------------------------------------------------------------
# Which other sites may call


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_preflight_of_the_site(client: httpx.Client, method: str) -> None:
    """Every method of the API, and every header that a client may want to send; no cookies."""
    wanted = "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent, x-correlation-id"
    answer = preflight(client, SITE, method, wanted)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SITE
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert set(wanted.split(", ")) <= set(answer.headers["access-control-allow-headers"].lower().split(", "))
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["access-control-max-age"] == "7200"
    assert "origin" in answer.headers["vary"].lower()


def test_answer_to_the_site(client: httpx.Client) -> None:
    """A refusal too can be read there, with the headers that a client needs; and a cache keeps it for that site."""
    answer = client.get("/events", headers={"origin": SITE})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == SITE
    exposed = set(answer.headers["access-control-expose-headers"].lower().split(", "))
    assert {"etag", "location", "idempotency-status", "retry-after", "x-correlation-id"} <= exposed
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" in answer.headers["vary"].lower()


FOREIGN = [
    "https://evil.example",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://appXexample",
    "https://sub.app.example",
    "null",
    "*",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_site(client: httpx.Client, origin: str) -> None:
    """However alike its name is, it may neither ask nor read."""
    answer = preflight(client, origin)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    answer = client.get("/events", headers={"origin": origin})
    assert "access-control-allow-origin" not in answer.headers


def test_no_site_by_default(by_default: httpx.Client) -> None:
    """Unless the settings name one, no other site may call."""
    for answer in (preflight(by_default, SITE), by_default.get("/events", headers={"origin": SITE})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.fixture(scope="module")
def busy() -> Iterator[httpx.Client]:
    """One request at a time, and that one waits for an auth service that doesn't answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {
            **NOBODY,
            "PEERS_AUTH": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "SERVER_CORS_ORIGINS": SITE,
            "SERVER_MAX_REQUESTS": "1",
            "SERVER_BODY_TIMEOUT": "0.2",
            # It waits until the process ends, and that doesn't wait for it.
            "BUDGETS_AUTH": "600",
            "SERVER_GRACE": "0.1",
        }
        with (
            ThreadPoolExecutor(1) as waiting,
            spawned("serve", "--target", "gateway", **settings) as process,
            httpx.Client(base_url=address_of(process), timeout=PATIENCE) as client,
        ):
            waiting.submit(httpx.get, f"{client.base_url}/.well-known/jwks.json", timeout=None)
            while client.get("/nowhere").status_code != 503:
                pass
            yield client


def test_busy(busy: httpx.Client) -> None:
    """A page of the site reads the 503 of a full process, and its preflight is answered all the same."""
    answer = busy.get("/events", headers={"origin": SITE})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
    assert preflight(busy, SITE).status_code == 204


def test_body_that_is_refused(busy: httpx.Client) -> None:
    """It reads 413 and 408 as well, which come before the application."""
    answer = busy.post("/auth/login", content=b" " * 10_000, headers={"origin": SITE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (413, SITE)
    with socket.create_connection(("127.0.0.1", busy.base_url.port or 0), timeout=PATIENCE) as half:
        head = f"POST /auth/login HTTP/1.1\r\nHost: a\r\nOrigin: {SITE}\r\nContent-Length: 9\r\n\r\n{{"
        half.sendall(head.encode())
        status, _, headers = half.makefile("rb").read().decode().partition("\r\n")
    assert " 408 " in status
    assert f"access-control-allow-origin: {SITE}" in headers


def test_vary(client: httpx.Client) -> None:
    """Every answer says that it depends on the origin, asked for by a page or not, beside what else it depends on."""
    for path in PATHS:
        for headers in ({}, {"origin": SITE}, {"origin": "https://evil.example"}):
            assert "Origin" in client.get(path, headers=headers).headers["vary"].split(", ")
    file = client.get("/schema/static/any/pages/swagger.js", headers={"origin": SITE})
    assert file.headers.get_list("vary") == ["Accept-Encoding, Origin"]


# ---------------------------------------------------------------------------------------------------------------------
# What no page may do with an answer


@pytest.mark.parametrize("path", PATHS)
def test_headers_of_every_answer(client: httpx.Client, path: str) -> None:
    """Each of them once, whatever the answer is."""
    answer = client.get(path)
    expected = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "strict-transport-security": "max-age=63072000; includeSubDomains",
    }
    for name, value in expected.items():
        assert answer.headers.get_list(name) == [value], name
    (policy,) = answer.headers.get_list("content-security-policy")
    for part in ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert part in policy.split("; ")
    assert "server" not in answer.headers


def test_policy_of_what_is_no_page(client: httpx.Client) -> None:
    """Data and problems load and run nothing at all; the pages that explain problems have a style, and run nothing."""
    for path in ("/health/live", "/nowhere"):
        assert "-src 'self'" not in client.get(path).headers["content-security-policy"]
    policy = client.get("/problems/forbidden").headers["content-security-policy"].split("; ")
    assert {part for part in policy if "'none'" not in part} == {"style-src 'self'", "img-src 'self'"}
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("page", ["swagger", "scalar", "redoc"])
def test_policy_of_an_explorer(client: httpx.Client, page: str) -> None:
    """Scripts come from files of our own only: none inline, none by eval, none from elsewhere."""
    answer = client.get(f"/schema/{page}")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert "<script>" not in answer.text


def test_no_hsts_without_tls(by_default: httpx.Client) -> None:
    """On a developer's machine a browser would never come back by plain HTTP."""
    assert "strict-transport-security" not in by_default.get("/health/live").headers


def test_health_of_production_names_nothing(client: httpx.Client) -> None:
    """Whose database is away is nobody else's business."""
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "down"})


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PROPFIND", "TRACK"])
def test_method_that_nothing_has(client: httpx.Client, method: str) -> None:
    """It is refused, and repeats nothing of the request."""
    answer = client.request(method, "/events", headers={"x-canary": "canary"})
    assert answer.status_code in (400, 404, 405)
    assert "canary" not in answer.text
