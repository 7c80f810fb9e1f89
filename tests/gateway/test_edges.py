"""What browsers are told: over HTTP, by a gateway in production with one site that may call."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.processes import Process, address_of, spawned
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
    with httpx.Client(base_url=production.url) as client:
        yield client


@pytest.fixture(scope="module")
def by_default() -> Iterator[httpx.Client]:
    """As development has it."""
    with spawned("serve", "--target", "gateway", **NOBODY) as process, httpx.Client() as client:
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
    """Data, problems and the pages that explain them load and run nothing at all."""
    for path in ("/health/live", "/nowhere", "/problems/forbidden"):
        assert "-src 'self'" not in client.get(path).headers["content-security-policy"]


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
