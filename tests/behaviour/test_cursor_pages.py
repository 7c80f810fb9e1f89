"""The lists of members, invitations and sessions, page by page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from tests.support.board import Board, Organization
from tests.support.problems import assert_problem

PATHS = ("/members", "/invitations", "/auth/sessions")
every_list = pytest.mark.parametrize("path", PATHS)
# A page's, unless another is asked for; and one more.
MOST = 100
MORE = MOST + 30


@pytest.fixture
def organization(board: Board) -> Organization:
    """Its members have logged in before there are so many sessions that the oldest end."""
    return board.organization()


def put(board: Board, organization: Organization, path: str, count: int = MORE) -> None:
    """As many more as that: some of one name, or of one moment."""
    admin = organization.admin
    if path == "/members":
        board.sql(
            "WITH person AS (INSERT INTO auth.users (id, email, password_hash, first_name, last_name)"
            " SELECT gen_random_uuid(), gen_random_uuid() || '@example.com', '', 'Ann-' || n % 7, 'Lee ' || n % 3"
            " FROM generate_series(1, $2) AS n RETURNING id)"
            " INSERT INTO auth.memberships (organization_id, user_id, role) SELECT $1, id, 'USER' FROM person",
            organization.id,
            count,
        )
    elif path == "/invitations":
        board.sql(
            "INSERT INTO auth.invitations"
            " (organization_id, id, email, role, hash, invited_by_id, created_at, expires_at)"
            " SELECT $1, gen_random_uuid(), n || '@example.com', 'USER', sha256(n::text::bytea), $2,"
            " now() - n % 5 * interval '1 minute', now() + interval '1 day' FROM generate_series(1, $3) AS n",
            organization.id,
            admin.id,
            count,
        )
    else:
        board.sql(
            "INSERT INTO auth.sessions (id, user_id, organization_id, used_at, expires_at)"
            " SELECT gen_random_uuid(), $1, $2, now() - n % 5 * interval '1 minute', now() + interval '1 day'"
            " FROM generate_series(1, $3) AS n",
            admin.id,
            organization.id,
            count,
        )


def page(http: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    answer = http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def walk(http: httpx.Client, path: str, limit: int, between: Callable[[], object] = lambda: None) -> list[Any]:
    """Every page up to the last."""
    shown, cursor = [], None
    while True:
        given = page(http, path, limit=limit, **({"cursor": cursor} if cursor else {}))
        shown += given["data"]
        cursor = given["meta"]["nextCursor"]
        assert given["meta"] == {"limit": limit, "hasNext": cursor is not None, "nextCursor": cursor}
        if cursor is None:
            return shown
        assert len(given["data"]) == limit
        between()


def order(path: str, row: dict[str, Any]) -> Any:
    """What a list is ordered by, ascending."""
    if path == "/members":
        return row["lastName"], row["firstName"], row["id"]
    moment = datetime.fromisoformat(row["createdAt" if path == "/invitations" else "usedAt"])
    return -moment.timestamp(), -UUID(row["id"]).int


@every_list
def test_pages(organization: Organization, board: Board, path: str) -> None:
    """A hundred unless fewer are asked for; page by page everything is shown once, in the same order."""
    put(board, organization, path)
    http = organization.admin.http
    first = page(http, path)
    assert (len(first["data"]), first["meta"]["limit"], first["meta"]["hasNext"]) == (MOST, MOST, True)
    whole = walk(http, path, MOST)
    assert whole[:MOST] == first["data"]
    assert len(whole) == len({row["id"] for row in whole}) >= MORE
    assert whole == sorted(whole, key=lambda row: order(path, row))
    assert walk(http, path, 50) == whole


@every_list
def test_short_list(organization: Organization, path: str) -> None:
    """It says that it is all there is."""
    assert page(organization.admin.http, path)["meta"] == {"limit": MOST, "hasNext": False, "nextCursor": None}


@every_list
def test_exactly_one_page(organization: Organization, board: Board, path: str) -> None:
    """There is no empty page behind it."""
    put(board, organization, path, 10)
    count = len(page(organization.admin.http, path)["data"])
    assert page(organization.admin.http, path, limit=count)["meta"]["nextCursor"] is None


@every_list
def test_what_comes_and_goes_meanwhile(organization: Organization, board: Board, path: str) -> None:
    """What was there all the time is shown once, whatever else is added or removed."""
    put(board, organization, path, 30)
    http = organization.admin.http
    before = {row["id"] for row in walk(http, path, MOST)}
    gone = {"/invitations": "auth.invitations", "/auth/sessions": "auth.sessions"}
    removed: list[str] = []

    def between() -> None:
        put_one()
        if path in gone:
            here = page(http, path, limit=1)["data"][0]["id"]
            board.sql(f"DELETE FROM {gone[path]} WHERE id = $1", UUID(here))
            removed.append(here)

    def put_one() -> None:
        if path == "/invitations":
            body = {"email": f"{uuid4().hex}@example.com", "role": "USER"}
            assert http.post("/invitations", json=body).status_code == 201
        else:
            board.members(organization.id, ["USER"])

    shown = [row["id"] for row in walk(http, path, 10, between)]
    assert before - set(removed) <= set(shown)
    assert len(shown) == len(set(shown))


@every_list
def test_wrong_query(organization: Organization, path: str) -> None:
    """Limits from 1 to 100; unknown parameters, and those given twice, are errors."""
    http = organization.admin.http
    for query, pointers in (
        ("limit=0", ["/limit"]),
        ("limit=101", ["/limit"]),
        ("limit=x", ["/limit"]),
        ("limit=10&limit=10", ["/limit"]),
        ("page=2", ["/page"]),
        ("limit=0&color=red", ["/limit", "/color"]),
    ):
        assert_problem(http.get(f"{path}?{query}"), "invalid-request", *pointers)


@every_list
def test_bad_cursor(organization: Organization, board: Board, path: str) -> None:
    """Whatever wasn't made by this list of this organization, or person, is rejected."""
    foreign = board.organization()
    for where in (organization, foreign):
        for other in PATHS:
            put(board, where, other, 5)
    http = organization.admin.http
    good = page(http, path, limit=2)["meta"]["nextCursor"]
    fingerprint, id_, at = msgspec.msgpack.decode(urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    bad = [page(foreign.admin.http, path, limit=2)["meta"]["nextCursor"]]
    bad += [page(http, other, limit=2)["meta"]["nextCursor"] for other in PATHS if other != path]
    bad += ["x", good[:-1], good + "A", "AAAA"]
    forged: list[Any] = [
        [fingerprint, id_, None if at else datetime.fromisoformat("2027-01-01T00:00:00Z")],
        [fingerprint, id_, "0001-01-01T00:00:00+14:00"],
        [fingerprint, "x", at],
        [b"", id_, at],
        [fingerprint],
        {},
    ]
    bad += [urlsafe_b64encode(msgspec.msgpack.encode(parts)).rstrip(b"=").decode() for parts in forged]
    for cursor in bad:
        assert_problem(http.get(path, params={"cursor": cursor}), "invalid-cursor")
    assert page(http, path, cursor=good, limit=2)["data"]


def test_malformed_cursor(organization: Organization) -> None:
    """Text that can't be a cursor breaks the parameter's rule, in every list alike."""
    event = organization.admin.create()
    for path in (*PATHS, "/events", f"/events/{event['id']}/history"):
        for cursor in ("", "!", "é", "AAAA\n", "\0", "A" * 2049):
            assert_problem(organization.admin.http.get(path, params={"cursor": cursor}), "invalid-request", "/cursor")


def test_cursor_after_a_stranger(organization: Organization, board: Board) -> None:
    """A forged one tells nothing of who isn't a member: not even where their name would be."""
    put(board, organization, "/members", 3)
    http = organization.admin.http
    good = page(http, "/members", limit=1)["meta"]["nextCursor"]
    fingerprint, *_ = msgspec.msgpack.decode(urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    for id_ in (board.organization().user.id, uuid4()):
        forged = urlsafe_b64encode(msgspec.msgpack.encode([fingerprint, str(id_), None])).rstrip(b"=").decode()
        assert_problem(http.get("/members", params={"cursor": forged}), "invalid-cursor")


def test_cursor_holds_no_names(organization: Organization, board: Board) -> None:
    """It is part of a URL, which others log."""
    put(board, organization, "/members", 3)
    cursor = page(organization.admin.http, "/members", limit=2)["meta"]["nextCursor"]
    assert b"Lee" not in urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def test_cursor_of_another_person(organization: Organization, board: Board) -> None:
    """Members and invitations are the organization's, and any ADMIN goes on with them; sessions are one's own."""
    second = board.member(organization.id, "ADMIN")
    for path in PATHS:
        put(board, organization, path, 5)
        cursor = page(organization.admin.http, path, limit=2)["meta"]["nextCursor"]
        answer = second.http.get(path, params={"cursor": cursor})
        if path == "/auth/sessions":
            assert_problem(answer, "invalid-cursor")
        else:
            assert answer.status_code == 200
