"""HEAD: what GET would answer, but for the body (RFC 9110, section 9.3.2)."""

import httpx
import pytest

from tests.support.board import Board, Organization

# Of each answer its own.
ITS_OWN = {"date", "server-timing", "x-correlation-id", "ratelimit"}


def headers_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ITS_OWN}


def alike(http: httpx.Client, path: str, **headers: str) -> httpx.Response:
    """The answer to HEAD, once it is found to be as GET's."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    full, short = http.get(path, headers=headers), http.head(path, headers=headers)
    assert (short.status_code, headers_of(short)) == (full.status_code, headers_of(full))
    assert short.content == b""
    assert short.headers["x-correlation-id"]
    return short


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/docs",
        "/schema/openapi.json",
        "/schema/swagger",
        "/problems",
        "/problems/not-found",
        "/.well-known/jwks.json",
    ],
)
def test_open_to_all(board: Board, path: str) -> None:
    assert alike(board.client(), path).status_code in (200, 307)


def test_of_a_member(organization: Organization) -> None:
    """An event, with its conditions; lists; refusals."""
    user = organization.user
    event = f"/events/{user.create()['id']}"
    assert int(alike(user.http, event).headers["content-length"]) > 100
    assert alike(user.http, event, if_none_match='"1"').status_code == 304
    for path in (f"{event}/history", "/events?limit=1", "/auth/me", "/auth/sessions"):
        assert alike(user.http, path).status_code == 200
    assert alike(user.http, "/events?page=0").status_code == 400
    assert alike(user.http, "/members").status_code == 403
    assert alike(user.http, f"{event}x").status_code == 404


def test_without_a_token(board: Board) -> None:
    assert alike(board.client(), "/events").status_code == 401


def test_where_there_is_no_get(board: Board) -> None:
    """It is refused as GET is."""
    answer = alike(board.client(), "/auth/login")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


def test_connection_goes_on(board: Board) -> None:
    """Nothing of a body is left on it, for the next answer to be confused with."""
    with httpx.Client(base_url=board.url) as http:
        for _ in range(3):
            assert http.head("/health").status_code == 200
            assert http.get("/health/live").json()
