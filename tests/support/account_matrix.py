"""Who may do what with accounts and organizations: role, whose thing it is, operation; written out."""

from typing import Any
from uuid import uuid4

import httpx

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.matrix import NOBODY, as_seen
from tests.support.problems import assert_problem

ROLES = ("USER", "MODERATOR", "ADMIN", NOBODY)
MINE, COLLEAGUES, FOREIGN, ABSENT, NONE = "mine", "a colleague's", "another organization's", "nobody's", "none"

# Method, path, body, whose thing it is about, and what USER, MODERATOR and ADMIN are answered. `{…}` is that thing's
# id, in the path or in the body.
ON_OTHERS: list[tuple[str, str, dict[str, Any] | None, str, tuple[int, int, int]]] = [
    ("GET", "/auth/me", None, NONE, (200, 200, 200)),
    ("POST", "/events", EVENT, NONE, (201, 201, 201)),
    ("GET", "/members", None, NONE, (403, 403, 200)),
    ("GET", "/invitations", None, NONE, (403, 403, 200)),
    ("POST", "/invitations", {"email": "{email}", "role": "USER"}, NONE, (403, 403, 201)),
    ("PATCH", "/organization", {}, NONE, (403, 403, 200)),
    ("PATCH", "/members/{id}", {"active": True}, COLLEAGUES, (403, 403, 200)),
    ("PATCH", "/members/{id}", {"active": False}, FOREIGN, (403, 403, 404)),
    ("PATCH", "/members/{id}", {"active": False}, ABSENT, (403, 403, 404)),
    ("DELETE", "/invitations/{id}", None, COLLEAGUES, (403, 403, 204)),
    ("DELETE", "/invitations/{id}", None, FOREIGN, (403, 403, 404)),
    ("DELETE", "/invitations/{id}", None, ABSENT, (403, 403, 404)),
    ("GET", "/auth/sessions", None, NONE, (200, 200, 200)),
    ("DELETE", "/auth/sessions/{id}", None, MINE, (204, 204, 204)),
    ("DELETE", "/auth/sessions/{id}", None, COLLEAGUES, (404, 404, 404)),
    ("DELETE", "/auth/sessions/{id}", None, FOREIGN, (404, 404, 404)),
    ("DELETE", "/auth/sessions/{id}", None, ABSENT, (404, 404, 404)),
    ("GET", "/idempotency-keys/{key}", None, MINE, (200, 200, 200)),
    ("GET", "/idempotency-keys/{key}", None, COLLEAGUES, (200, 200, 200)),
    ("GET", "/idempotency-keys/{key}", None, FOREIGN, (200, 200, 200)),
    ("GET", "/idempotency-keys/{key}", None, ABSENT, (200, 200, 200)),
    ("POST", "/auth/switch", {"organizationId": "{id}"}, MINE, (200, 200, 200)),
    ("POST", "/auth/switch", {"organizationId": "{id}"}, FOREIGN, (403, 403, 403)),
    ("POST", "/auth/switch", {"organizationId": "{id}"}, ABSENT, (403, 403, 403)),
    ("POST", "/auth/join", {"organizationId": "{id}"}, MINE, (403, 403, 403)),
    ("POST", "/auth/join", {"organizationId": "{id}"}, FOREIGN, (403, 403, 403)),
    ("POST", "/auth/join", {"organizationId": "{id}"}, ABSENT, (403, 403, 403)),
]
CODES = {401: "invalid-token", 403: "forbidden", 404: "not-found"}


def walk(board: Board) -> int:
    """Every cell, over HTTP; another organization's thing is answered as nobody's, to the byte. Returns how many."""
    here, there = board.organization(), board.organization()
    count = 0
    for number, role in enumerate(ROLES):
        member = here.admin if role == NOBODY else getattr(here, role.lower())
        http = board.client() if role == NOBODY else member.http
        answers: dict[tuple[str, str, str], httpx.Response] = {}
        things: dict[tuple[str, str, str], bytes] = {}
        for method, path, body, whose, statuses in ON_OTHERS:
            thing = _thing(board, path, whose, member, here, there)
            answer = http.request(
                method,
                path.replace("{id}", thing).replace("{key}", thing),
                json=_filled(body, thing),
                headers={"x-correlation-id": "matrix"},
            )
            wanted = 401 if role == NOBODY else statuses[number]
            assert answer.status_code == wanted, (role, method, path, whose, answer.text)
            if wanted in CODES:
                assert_problem(answer, CODES[wanted])
            answers[method, path, whose], things[method, path, whose] = answer, thing.encode()
            count += 1
        for foreign in answers:
            if foreign[2] == FOREIGN:
                absent = (*foreign[:2], ABSENT)
                status, headers, content = as_seen(answers[foreign])
                # An answer about a key names it.
                content = content.replace(things[foreign], things[absent])
                assert (status, headers, content) == as_seen(answers[absent]), (role, foreign)
        for whose, state in ((MINE, "done"), (COLLEAGUES, "unknown"), (FOREIGN, "unknown")):
            if role != NOBODY:
                assert answers["GET", "/idempotency-keys/{key}", whose].json()["state"] == state
    active = board.sql("SELECT bool_and(active) FROM auth.memberships WHERE organization_id = $1", there.id)
    assert active[0][0]
    return count


def _filled(body: dict[str, Any] | None, thing: str) -> dict[str, Any] | None:
    if body is None:
        return None
    unique = {"{id}": thing, "{email}": f"{uuid4().hex}@example.com"}
    return {name: unique.get(value, value) for name, value in body.items()}


def _thing(board: Board, path: str, whose: str, member: Member, here: Organization, there: Organization) -> str:
    """The id of a new thing of theirs, as the path means it; or a text that names nothing."""
    if whose == ABSENT:
        return "0" * 32 if "{key}" in path else str(uuid4())
    if whose == NONE:
        return ""
    owner = {MINE: member, COLLEAGUES: here.other, FOREIGN: there.user}[whose]
    organization = there if whose == FOREIGN else here
    if path.startswith("/members"):
        return str(owner.id)
    if path.startswith("/invitations"):
        body = {"email": f"{uuid4().hex}@example.com", "role": "USER"}
        return str(organization.admin.http.post("/invitations", json=body).json()["id"])
    if path.startswith("/auth/sessions"):
        # Another log-in: with one that was begun by switch, the session that asks would end, too.
        other = board.client().post("/auth/login", json={"email": owner.email, "password": PASSWORD})
        rows = board.client(other.json()["accessToken"]).get("/auth/sessions").json()["data"]
        return next(str(row["id"]) for row in rows if row["current"])
    if path.startswith("/idempotency-keys"):
        key = uuid4().hex
        assert owner.http.post("/events", json=EVENT, headers={"idempotency-key": key}).status_code == 201
        return key
    return str(organization.id)
