"""Session families: what a log-in leads to by switch and join begins with it, and ends with it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest

from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.holding import holding
from tests.support.problems import assert_problem

# As config/base.toml has it.
SESSIONS = 100
LONGEST = timedelta(days=90)

Tokens = dict[str, Any]


def log_in(board: Board, member: Member) -> Tokens:
    answer = board.client().post("/auth/login", json={"email": member.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refresh(board: Board, tokens: Tokens) -> httpx.Response:
    return board.client().post("/auth/refresh", json={"refreshToken": tokens["refreshToken"]})


def switching(board: Board, tokens: Tokens) -> httpx.Response:
    """With nothing but the access token, as a thief has it."""
    body = {"organizationId": tokens["user"]["organizationId"]}
    return board.client(tokens["accessToken"]).post("/auth/switch", json=body)


def switch(board: Board, tokens: Tokens) -> Tokens:
    answer = switching(board, tokens)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def join(board: Board, tokens: Tokens) -> Tokens:
    body = {"organizationName": f"Founded {uuid4().hex}"}
    answer = board.client(tokens["accessToken"]).post("/auth/join", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def session_id(tokens: Tokens) -> UUID:
    return UUID(jwt.decode(tokens["accessToken"], options={"verify_signature": False})["sid"])


def assert_ended(board: Board, tokens: Tokens) -> None:
    """At once for what begins another session; refreshed it can't be."""
    assert_problem(switching(board, tokens), "invalid-token")
    assert_problem(refresh(board, tokens), "invalid-token")


def reuse(board: Board, tokens: Tokens) -> None:
    assert refresh(board, tokens).status_code == 200
    assert_problem(refresh(board, tokens), "invalid-token")


def log_out(board: Board, tokens: Tokens) -> None:
    body = {"refreshToken": tokens["refreshToken"]}
    assert board.client().post("/auth/logout", json=body).status_code == 204


def end_listed(board: Board, tokens: Tokens) -> None:
    path = f"/auth/sessions/{session_id(tokens)}"
    assert board.client(tokens["accessToken"]).delete(path).status_code == 204


def log_out_everywhere(board: Board, tokens: Tokens) -> None:
    assert board.client(tokens["accessToken"]).post("/auth/logout-all").status_code == 204


Ending = Callable[[Board, Tokens], None]
of_family = pytest.mark.parametrize("end", [reuse, log_out, end_listed])


@pytest.mark.parametrize("begin", [switch, join])
@pytest.mark.parametrize("end", [reuse, log_out, end_listed, log_out_everywhere])
def test_family_ends_together(
    board: Board, organization: Organization, begin: Callable[[Board, Tokens], Tokens], end: Ending
) -> None:
    """Whatever was begun from a session ends with it, however far down; another log-in doesn't."""
    first, other = log_in(board, organization.user), log_in(board, organization.user)
    second = begin(board, first)
    third = begin(board, second)
    end(board, first)
    for tokens in (first, second, third):
        assert_ended(board, tokens)
    assert refresh(board, other).status_code == (401 if end is log_out_everywhere else 200)


@of_family
def test_family_ends_from_below(board: Board, organization: Organization, end: Ending) -> None:
    """What a switch led to is the same log-in: its end is that of where it came from, too."""
    first = log_in(board, organization.user)
    second, third = switch(board, first), switch(board, first)
    end(board, second)
    for tokens in (first, second, third):
        assert_ended(board, tokens)


def test_both_go_on_after_a_switch(board: Board, organization: Organization) -> None:
    """Two tabs in two organizations: each is refreshed by itself."""
    first = log_in(board, organization.user)
    second = join(board, first)
    for _ in range(2):
        first, second = dict(refresh(board, first).json()), dict(refresh(board, second).json())
    assert first["user"]["organizationId"] != second["user"]["organizationId"]


def test_another_password_ends_the_rest_of_the_family(board: Board, organization: Organization) -> None:
    """The session that changed it goes on alone: a thief's switch isn't the owner's session."""
    mine = log_in(board, organization.user)
    stolen = switch(board, mine)
    body = {"currentPassword": PASSWORD, "newPassword": f"quite another {uuid4().hex}"}
    assert board.client(mine["accessToken"]).post("/auth/password", json=body).status_code == 204
    assert_ended(board, stolen)
    assert refresh(board, mine).status_code == 200


@pytest.mark.parametrize("begin", [switch, join])
def test_no_session_outlives_the_longest(
    board: Board, organization: Organization, begin: Callable[[Board, Tokens], Tokens]
) -> None:
    """The longest lifetime counts from the log-in, not from the last switch."""
    first = log_in(board, organization.user)
    begun = datetime.now(UTC) - LONGEST + timedelta(hours=1)
    board.sql("UPDATE auth.sessions SET created_at = $2 WHERE id = $1", session_id(first), begun)
    second = begin(board, begin(board, first))
    for tokens in (second, refresh(board, second).json()):
        listed = board.client(tokens["accessToken"]).get("/auth/sessions").json()["data"]
        (current,) = [item for item in listed if item["current"]]
        assert datetime.fromisoformat(current["createdAt"]) == begun
        assert datetime.fromisoformat(current["expiresAt"]) <= begun + LONGEST


def test_expired_session(board: Board, organization: Organization) -> None:
    """It works no more than an ended one, whatever its access token says, and isn't listed."""
    tokens, other = log_in(board, organization.admin), log_in(board, organization.admin)
    http = board.client(tokens["accessToken"])
    assert http.get("/auth/me").status_code == 200
    board.sql("UPDATE auth.sessions SET expires_at = now() WHERE id = $1", session_id(tokens))
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", "/auth/me", None),
        ("POST", "/auth/switch", {"organizationId": str(organization.id)}),
        ("POST", "/auth/join", {"organizationName": f"Founded {uuid4().hex}"}),
        ("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": "quite another one"}),
        ("PATCH", f"/members/{organization.user.id}", {"role": "MODERATOR"}),
        ("POST", "/invitations", {"email": f"{uuid4().hex}@example.com", "role": "USER"}),
        ("PATCH", "/organization", {"openSignup": True}),
    ]
    for method, path, body in calls:
        assert_problem(http.request(method, path, json=body), "invalid-token")
    mine = board.client(other["accessToken"])
    assert_problem(mine.delete(f"/auth/sessions/{session_id(tokens)}"), "not-found")
    assert str(session_id(tokens)) not in [item["id"] for item in mine.get("/auth/sessions").json()["data"]]
    assert_problem(refresh(board, tokens), "invalid-token")


@of_family
def test_session_of_older_code(board: Board, organization: Organization, end: Ending) -> None:
    """One that names no family is its own: what is begun from it joins that one."""
    first = log_in(board, organization.user)
    board.sql("UPDATE auth.sessions SET family_id = NULL WHERE id = $1", session_id(first))
    second = switch(board, first)
    end(board, second)
    for tokens in (first, second):
        assert_ended(board, tokens)


def test_log_in_by_older_code(board: Board, organization: Organization) -> None:
    """During an upgrade the older function goes on, and its session is like any other."""
    tokens = log_in(board, organization.user)
    begun = uuid4()
    board.sql(
        "SELECT * FROM auth.begin_session($1, sha256('older'), $2, NULL, NULL, NULL, 60, 60)",
        begun,
        organization.user.id,
    )
    http = board.client(tokens["accessToken"])
    assert str(begun) in [item["id"] for item in http.get("/auth/sessions").json()["data"]]
    assert http.delete(f"/auth/sessions/{begun}").status_code == 204
    assert refresh(board, tokens).status_code == 200


@of_family
@pytest.mark.parametrize("switch_first", [True, False])
def test_switch_while_its_family_ends(
    board: Board, organization: Organization, end: Ending, switch_first: bool
) -> None:
    """In whichever order they come, no session is left: the second waits for the first, and sees it."""
    tokens = log_in(board, organization.user)
    if end is reuse:
        spent, tokens = tokens, refresh(board, tokens).json()
    person = "SELECT 1 FROM auth.users WHERE id = $1 FOR NO KEY UPDATE"

    def ending() -> httpx.Response:
        if end is reuse:
            return refresh(board, spent)
        if end is log_out:
            return board.client().post("/auth/logout", json={"refreshToken": tokens["refreshToken"]})
        return board.client(tokens["accessToken"]).delete(f"/auth/sessions/{session_id(tokens)}")

    calls: list[Callable[[], httpx.Response]] = [lambda: switching(board, tokens), ending]
    with ThreadPoolExecutor(2) as threads, holding(board.database_url, person, organization.user.id) as holder:
        first = threads.submit(calls[0 if switch_first else 1])
        holder.until_waited_for()
        second = threads.submit(calls[1 if switch_first else 0])
        # Whoever comes second waits for the first one, which waits for the test.
        holder.until_in_line(2)
        holder.release()
        switched = (first if switch_first else second).result()
        assert (second if switch_first else first).result().status_code == (401 if end is reuse else 204)
    assert switched.status_code == (200 if switch_first else 401)
    if switch_first:
        assert_ended(board, switched.json())
    assert_ended(board, tokens)


def put_sessions(board: Board, tokens: Tokens, count: int, *, family: UUID | None) -> None:
    """As many more, used an hour ago; in one family, or each in its own."""
    board.sql(
        "INSERT INTO auth.sessions (id, user_id, organization_id, used_at, expires_at, family_id)"
        " SELECT gen_random_uuid(), $1, $2, now() - interval '1 hour', now() + interval '1 day', $3"
        " FROM generate_series(1, $4)",
        UUID(tokens["user"]["id"]),
        UUID(tokens["user"]["organizationId"]),
        family,
        count,
    )


def live(board: Board, member: Member) -> int:
    rows = board.sql(
        "SELECT count(*) FROM auth.sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > now()", member.id
    )
    return int(rows[0][0])


def test_too_many_sessions(board: Board, organization: Organization) -> None:
    """A log-in beyond the bound ends the log-in that was used longest ago, with all that came of it."""
    oldest, recent = log_in(board, organization.user), log_in(board, organization.user)
    child = switch(board, oldest)
    board.sql(
        "UPDATE auth.sessions SET used_at = now() - interval '2 hours' WHERE id = ANY($1::uuid[])",
        [session_id(oldest), session_id(child)],
    )
    put_sessions(board, oldest, SESSIONS - live(board, organization.user), family=None)
    newest = log_in(board, organization.user)
    assert live(board, organization.user) == SESSIONS - 1
    for tokens in (oldest, child):
        assert_ended(board, tokens)
    for tokens in (recent, newest):
        assert refresh(board, tokens).status_code == 200


def test_too_many_log_ins_at_once(board: Board, organization: Organization) -> None:
    """Together they keep to the bound."""
    put_sessions(board, log_in(board, organization.user), SESSIONS, family=None)
    with ThreadPoolExecutor(8) as threads:
        sessions = list(threads.map(lambda _: log_in(board, organization.user), range(8)))
    assert live(board, organization.user) == SESSIONS
    assert all(refresh(board, tokens).status_code == 200 for tokens in sessions)


def test_too_many_sessions_of_one_log_in(board: Board, organization: Organization) -> None:
    """Switching pushes nobody out of their own log-in: at the bound it is a 429, and a new log-in goes on."""
    tokens = log_in(board, organization.user)
    put_sessions(board, tokens, SESSIONS - 2, family=session_id(tokens))
    switch(board, tokens)
    rejected = switching(board, tokens)
    assert_problem(rejected, "too-many-requests")
    assert int(rejected.headers["retry-after"]) > 0
    assert refresh(board, tokens).status_code == 200
    assert log_in(board, organization.user)["user"]["id"] == str(organization.user.id)
    assert_problem(refresh(board, tokens), "invalid-token")


def test_ended_sessions_are_kept_for_a_day(board: Board, organization: Organization) -> None:
    """Nothing asks for them any longer: what has ended expires, and is deleted like what expired."""
    for end in (reuse, log_out, end_listed, log_out_everywhere):
        end(board, log_in(board, organization.user))
    rows = board.sql(
        "SELECT expires_at <= now() FROM auth.sessions WHERE user_id = $1 AND ended_at IS NOT NULL",
        organization.user.id,
    )
    assert len(rows) >= 4
    assert all(row[0] for row in rows)
