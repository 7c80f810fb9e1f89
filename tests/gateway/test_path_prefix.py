"""A gateway below a path of another's, behind a proxy that takes the path away, or doesn't."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest
import yaml

from eventboard.core import request_context
from eventboard.gateway.path_prefix import prefix_of
from eventboard.gateway.responses import key_outcome
from eventboard.modules.events.contract import KeyReport, KeyState
from tests.gateway.test_security_headers import NOBODY
from tests.support.processes import address_of, spawned

FORWARDED = {"x-forwarded-prefix": "/board"}


@pytest.fixture(scope="module")
def trusting() -> Iterator[httpx.Client]:
    """It trusts what stands before it, which says where that is."""
    with (
        spawned("serve", "--target", "gateway", SERVER_TRUSTED_PROXIES="127.0.0.1", **NOBODY) as process,
        httpx.Client(base_url=address_of(process)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def told() -> Iterator[httpx.Client]:
    """It has been told, and trusts nobody."""
    settings = {"SERVER_PUBLIC_URL": "https://example.com/board/", **NOBODY}
    with (
        spawned("serve", "--target", "gateway", **settings) as process,
        httpx.Client(base_url=address_of(process)) as client,
    ):
        yield client


def _lead_below(client: httpx.Client, below: str, headers: dict[str, str]) -> None:
    """Whatever leads on from an answer begins with /board, and with `below` in front of it something is there."""
    redirect = client.get(f"{below}/docs", headers=headers)
    assert redirect.headers["location"] == "/board/schema/swagger"
    redirect = client.get(f"{below}/api-json", headers=headers)
    assert redirect.headers["location"] == "/board/schema/openapi.json"
    assert client.get(f"{below}/nope", headers=headers).json()["detail"].endswith("/board/docs.")
    page = client.get(f"{below}/schema/swagger", headers=headers).text
    links = re.findall(r'(?:src|href|data-openapi)="([^"]+)"', page)
    assert len(links) >= 4
    document = client.get(f"{below}/schema/openapi.json", headers=headers)
    assert document.json()["servers"] == [{"url": "/board"}]
    assert '"type":"/problems' not in document.text
    assert "](/problems" not in document.text
    as_yaml = yaml.safe_load(client.get(f"{below}/schema/openapi.yaml", headers=headers).text)
    assert as_yaml == document.json()
    problem = client.get(f"{below}/events", headers=headers).json()
    links += [problem["type"], *re.findall('href="([^"]+)"', client.get(f"{below}/problems", headers=headers).text)]
    for link in links:
        assert link.startswith("/board/"), link
        there = client.get(urljoin("/", f"{below}{link.removeprefix('/board')}"), headers=headers)
        assert there.status_code == 200, link


def test_taken_away(trusting: httpx.Client) -> None:
    """A trusted proxy serves us under /board, asks for what is below it, and says so."""
    _lead_below(trusting, "", FORWARDED)


def test_left_there(trusting: httpx.Client) -> None:
    """A trusted proxy that passes paths on as they are."""
    _lead_below(trusting, "/board", FORWARDED)


@pytest.mark.parametrize("below", ["", "/board"])
def test_by_setting(told: httpx.Client, below: str) -> None:
    """`server.public_url` says it, whatever the proxy does with the path."""
    _lead_below(told, below, {})


def test_nobody_says(trusting: httpx.Client) -> None:
    """Without the header, what is asked for directly leads where it always did."""
    assert trusting.get("/docs").headers["location"] == "/schema/swagger"
    assert trusting.get("/schema/openapi.json").json()["servers"] == [{"url": "/"}]


def test_stranger_says(told: httpx.Client) -> None:
    """Who isn't trusted sends no page elsewhere."""
    answer = told.get("/docs", headers={"x-forwarded-prefix": "/evil"})
    assert answer.headers["location"] == "/board/schema/swagger"


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/a b", "board", "/board?x", '/"><script>', "/ö", "/../x", "/%2e"]
)
def test_no_prefix(trusting: httpx.Client, prefix: str) -> None:
    """What is no plain path is ignored."""
    answer = trusting.get("/docs", headers=[(b"x-forwarded-prefix", prefix.encode())])
    assert answer.headers["location"] == "/schema/swagger"


def test_types_are_urls() -> None:
    """By `server.problem_base`: elsewhere, too, they lead to the pages of this API. Other links stay as they are."""
    settings = {"SERVER_PUBLIC_URL": "/board", "SERVER_PROBLEM_BASE": "https://example.com/board/", **NOBODY}
    with (
        spawned("serve", "--target", "gateway", **settings) as process,
        httpx.Client(base_url=address_of(process)) as client,
    ):
        assert client.get("/events").json()["type"] == "https://example.com/board/problems/invalid-token"
        assert '"type":"https://example.com/board/problems/internal"' in client.get("/schema/openapi.json").text
        page = client.get("/problems/forbidden").text
        assert "https://example.com/board/problems/forbidden" in page
        assert 'href="/board/problems"' in page


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("", ""), ("/", ""), ("/board", "/board"), ("https://example.com", ""), ("https://example.com/a/b/", "/a/b")],
)
def test_prefix_of(url: str, prefix: str) -> None:
    """The path of a URL, or a path alone."""
    assert prefix_of(url) == prefix


@pytest.mark.parametrize(
    "url", ["board", "ftp://example.com/board", "https:///board", "//evil.example", "/a b", "/a?b", "/a#b"]
)
def test_no_public_url(url: str) -> None:
    """Anything else doesn't start."""
    with pytest.raises(ValueError, match="it"):
        prefix_of(url)


def test_event_of_an_idempotency_key() -> None:
    """What a key has made is where `Location` said: below the prefix."""
    id_ = uuid4()
    report = KeyReport(state=KeyState.DONE, operation="events.create", resource=id_)
    with request_context.use(request_context.Context("the-id", prefix="/board")):
        assert key_outcome("k", report).resource == f"/board/events/{id_}"
