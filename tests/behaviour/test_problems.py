"""What every problem has: a type with a page, a correlation id, a challenge where a token is missing."""

import json
import re
from html import unescape

import pytest

from tests.support import raw
from tests.support.board import Board, Member, Organization
from tests.support.bodies import BODIES
from tests.support.problems import STATUS, assert_problem


def test_every_type_has_its_page(board: Board) -> None:
    """`type` leads to a page for people, for each documented code; the index lists them all."""
    http = board.client()
    for code, status in STATUS.items():
        page = http.get(f"/problems/{code}")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert f"<h1>{status} " in page.text
        assert f"<code>{code}</code>" in page.text
        example = json.loads(unescape(page.text.partition("problem+json\n\n")[2].partition("</pre>")[0]))
        assert (example["status"], example["code"], example["type"]) == (status, code, f"/problems/{code}")
        for part in ("What it means", "What to do", 'href="/problems"', 'href="/schema/swagger"', 'rel="stylesheet"'):
            assert part in page.text
    index = http.get("/problems").text
    listed = re.findall(r'href="/problems/([a-z-]+)"', index)
    assert set(listed) == STATUS.keys()
    assert [(STATUS[code], code) for code in listed] == sorted((status, code) for code, status in STATUS.items())
    (style,) = re.findall(r'rel="stylesheet" href="([^"]+)"', index)
    assert http.get(style).headers["content-type"].startswith("text/css")
    assert_problem(http.get("/problems/no-such-problem"), "not-found")


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/nowhere", "/problems/no-such-problem", "/schema/nowhere", "/schema/static/x/y.js"])
def test_nothing_there(board: Board, path: str) -> None:
    """Somebody with a browser sees a page with ways on; a program gets a problem, whatever it takes."""
    http = board.client()
    page = http.get(path, headers={"accept": BROWSER})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1>" in page.text
    assert 'href="/schema/swagger"' in page.text
    for accept in ("*/*", "application/json", "application/json, text/plain, */*"):
        answer = http.get(path, headers={"accept": accept})
        assert_problem(answer, "not-found")
        assert page.headers["vary"] == answer.headers["vary"] == "Accept"


def test_things_of_the_api_in_a_browser(member: Member) -> None:
    """What the API itself answers is a problem for everybody."""
    assert_problem(member.http.get("/events/1", headers={"accept": BROWSER}), "not-found")
    assert_problem(member.http.get("/auth/login", headers={"accept": BROWSER}), "method-not-allowed")


@pytest.mark.parametrize("given", ["a", "A-Z.a_z:0-9", "x" * 128])
def test_correlation_id_taken(board: Board, given: str) -> None:
    """A well-formed correlation id comes back, on a good answer and in a problem."""
    headers = {"x-correlation-id": given}
    assert board.client().get("/health/live", headers=headers).headers["x-correlation-id"] == given
    assert assert_problem(board.client().get("/nope", headers=headers), "not-found")["correlationId"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "a,b", "a\tb", "\xe4", "a=b", '"a"'])
def test_correlation_id_replaced(board: Board, given: str) -> None:
    """One that isn't is replaced by a new one, each time another."""
    answers = [raw.request(board.url, "GET", "/nope", headers=(f"X-Correlation-ID: {given}",)) for _ in range(2)]
    ids = {assert_problem(answer, "not-found")["correlationId"] for answer in answers}
    assert len(ids) == 2
    assert given not in ids
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", id_) for id_ in ids)


def test_correlation_id_on_every_answer(organization: Organization) -> None:
    """Whatever the answer is, and whoever makes it."""
    user = organization.user.http
    event = organization.user.create()
    path = f"/events/{event['id']}"
    page = user.get("/schema/swagger").text
    static = re.findall(r'"(/schema/static/[^"]+\.js)"', page)[0]
    expected = {
        ("GET", path): 200,
        ("POST", "/auth/signup"): 400,
        ("GET", "/nope"): 404,
        ("PUT", path): 405,
        ("OPTIONS", path): 204,
        ("HEAD", path): 200,
        ("GET", "/"): 307,
        ("GET", "/docs"): 307,
        ("GET", "/schema"): 200,
        ("GET", "/schema/openapi.json"): 200,
        ("GET", "/schema/swagger"): 200,
        ("GET", static): 200,
        ("GET", static.replace(".js", ".css")): 404,
        ("GET", "/problems"): 200,
        ("GET", "/health"): 200,
        ("GET", "/health/ready"): 200,
        ("GET", "/.well-known/jwks.json"): 200,
        ("POST", f"{path}/submit"): 200,
        ("POST", f"{path}/withdraw"): 200,
        ("POST", f"{path}/approve"): 403,
        ("DELETE", path): 204,
    }
    for number, ((method, target), status) in enumerate(expected.items()):
        answer = user.request(method, target, headers={"x-correlation-id": f"answer-{number}"}, json={})
        assert (method, target, answer.status_code) == (method, target, status)
        assert answer.headers.get_list("x-correlation-id") == [f"answer-{number}"]
    unchanged = user.get(f"/events/{organization.user.create()['id']}", headers={"if-none-match": '"1"'})
    assert unchanged.status_code == 304
    assert unchanged.headers["x-correlation-id"]


@pytest.mark.parametrize("authorization", [None, "Basic dXNlcjpwYXNz", "Digest x", "Negotiate"])
def test_challenge_where_no_token_was_sent(board: Board, authorization: str | None) -> None:
    """RFC 6750, section 3.1: a client that doesn't know bearer tokens is told of no error."""
    headers = {} if authorization is None else {"authorization": authorization}
    answer = board.client().get("/auth/me", headers=headers)
    assert_problem(answer, "invalid-token")
    assert answer.headers["www-authenticate"] == 'Bearer realm="eventboard"'


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer x", "bearer a.b.c", "Bearer a b", "BEARER \xe4", "Bearer ,"]
)
def test_challenge_where_the_token_is_wrong(board: Board, authorization: str) -> None:
    """The error is named, in characters that RFC 6750 allows there."""
    answer = raw.request(board.url, "GET", "/auth/me", headers=(f"Authorization: {authorization}",))
    assert_problem(answer, "invalid-token")
    challenge = answer.headers["www-authenticate"]
    assert re.fullmatch(
        r'Bearer realm="eventboard", error="invalid_token", error_description="[\x20\x21\x23-\x5b\x5d-\x7e]+"',
        challenge,
    )


def test_two_tokens(member: Member) -> None:
    """Neither of two Authorization headers is chosen."""
    headers = (f"Authorization: Bearer {member.token}", "Authorization: Bearer x")
    assert_problem(raw.request(str(member.http.base_url), "GET", "/auth/me", headers=headers), "invalid-token")


def test_token_before_everything_else(board: Board) -> None:
    """Who may not call at all is told nothing about the request."""
    http = board.client()
    for method, path in [*BODIES, ("GET", "/events?nope=1"), ("GET", "/auth/me?nope=1"), ("GET", "/events/1/history")]:
        if not path.startswith("/auth/signup") and not path.startswith("/auth/login"):
            assert_problem(http.request(method, path, content=b"\xff"), "invalid-token")
