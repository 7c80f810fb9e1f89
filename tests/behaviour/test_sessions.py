"""Sessions: refresh tokens that rotate, the end of a family, and how soon an end is felt."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from eventboard.modules.auth.limits import KNOWN, key_of
from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.holding import holding
from tests.support.problems import assert_problem
from tests.support.stopwatch import Stopwatch

# Seconds within which an end, or another role, is felt on every replica: promised.
WITHIN = 5.0


@pytest.fixture
def organization(board: Board) -> Organization:
    """Its members have logged in before a test begins."""
    return board.organization()


def log_in(board: Board, member: Member, password: str = PASSWORD) -> dict[str, Any]:
    answer = board.client().post("/auth/login", json={"email": member.email, "password": password})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refresh(board: Board, token: str) -> httpx.Response:
    return board.client().post("/auth/refresh", json={"refreshToken": token})


def refused_within(http: httpx.Client, seconds: float = WITHIN) -> bool:
    """Whether an access token is refused before so many seconds are over."""
    waited = Stopwatch()
    while waited.seconds < seconds:
        if http.get("/auth/me").status_code == 401:
            return True
    return False


def test_refresh(board: Board, organization: Organization) -> None:
    """A new pair for the same person; the spent token is refused, and its family has ended."""
    first = log_in(board, organization.user)
    answer = refresh(board, first["refreshToken"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert second["user"] == first["user"]
    assert second["refreshToken"] != first["refreshToken"]
    assert board.client(second["accessToken"]).get("/auth/me").status_code == 200
    assert_problem(refresh(board, first["refreshToken"]), "invalid-token")
    assert_problem(refresh(board, second["refreshToken"]), "invalid-token")
    assert refused_within(board.client(second["accessToken"]))


def test_a_hundred_at_once_with_one_refresh_token(board: Board, organization: Organization) -> None:
    """At most one of them goes on, and after the others' coming not even that one."""
    token = log_in(board, organization.user)["refreshToken"]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: refresh(board, token), range(100)))
    assert {answer.status_code for answer in answers} <= {200, 401}
    descendants = [answer.json()["refreshToken"] for answer in answers if answer.status_code == 200]
    assert len(descendants) <= 1
    assert all(refresh(board, descendant).status_code == 401 for descendant in descendants)


def test_unknown_refresh_token(board: Board, organization: Organization) -> None:
    """Neither a stranger's text nor an access token is one."""
    for token in ("x", organization.user.token):
        assert_problem(refresh(board, token), "invalid-request" if len(token) > 256 else "invalid-token")


def test_refresh_says_the_role_in_force(board: Board, organization: Organization) -> None:
    """What was changed meanwhile is in the new token."""
    token = log_in(board, organization.user)["refreshToken"]
    patch = {"role": "MODERATOR"}
    assert organization.admin.http.patch(f"/members/{organization.user.id}", json=patch).status_code == 200
    assert refresh(board, token).json()["user"]["role"] == "MODERATOR"


def test_log_out(board: Board, organization: Organization) -> None:
    """Its family is dead, others live; a token that nobody knows is logged out already."""
    mine, other = log_in(board, organization.user), log_in(board, organization.user)
    for token in (mine["refreshToken"], mine["refreshToken"], "unknown"):
        assert board.client().post("/auth/logout", json={"refreshToken": token}).status_code == 204
    assert_problem(refresh(board, mine["refreshToken"]), "invalid-token")
    assert refused_within(board.client(mine["accessToken"]))
    assert refresh(board, other["refreshToken"]).status_code == 200


def test_log_out_everywhere(board: Board, organization: Organization) -> None:
    """Every session of the person ends, this one included; nobody else's does."""
    sessions = [log_in(board, organization.user) for _ in range(2)]
    stranger = log_in(board, organization.other)
    assert board.client(sessions[0]["accessToken"]).post("/auth/logout-all").status_code == 204
    for session in sessions:
        assert_problem(refresh(board, session["refreshToken"]), "invalid-token")
        assert refused_within(board.client(session["accessToken"]))
    assert refresh(board, stranger["refreshToken"]).status_code == 200


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout-all"])
def test_ended_session_goes_on_at_once(board: Board, organization: Organization, path: str) -> None:
    """The seconds until its end is felt everywhere don't do to begin another, or to take the account over."""
    elsewhere = board.organization(open_signup=True)
    session = log_in(board, organization.user)
    thief = board.client(session["accessToken"])
    assert thief.get("/auth/me").status_code == 200
    assert board.client(session["accessToken"]).post(path, json=_its_body(path, session)).status_code == 204
    calls = [
        ("/auth/switch", {"organizationId": str(organization.id)}),
        ("/auth/join", {"organizationId": str(elsewhere.id)}),
        ("/auth/join", {"organizationName": f"Founded {uuid4().hex}"}),
        ("/auth/password", {"currentPassword": PASSWORD, "newPassword": "quite another one"}),
    ]
    for called, body in calls:
        assert_problem(thief.post(called, json=body), "invalid-token")
    assert log_in(board, organization.user)["user"]["organizationId"] == str(organization.id)


def _its_body(path: str, session: dict[str, Any]) -> dict[str, str] | None:
    return {"refreshToken": session["refreshToken"]} if path == "/auth/logout" else None


def test_switch_while_logging_out_everywhere(board: Board, organization: Organization) -> None:
    """However they race, no session begun from an ended one goes on."""
    for _ in range(10):
        clients = [board.client(log_in(board, organization.user)["accessToken"]) for _ in range(3)]
        body = {"organizationId": str(organization.id)}
        with ThreadPoolExecutor(3) as threads:
            switched = [threads.submit(client.post, "/auth/switch", json=body) for client in clients[:2]]
            ended = threads.submit(clients[2].post, "/auth/logout-all")
        assert ended.result().status_code == 204
        for answer in (future.result() for future in switched):
            assert answer.status_code in (200, 401)
            if answer.status_code == 200:
                assert_problem(refresh(board, answer.json()["refreshToken"]), "invalid-token")


def test_own_sessions(board: Board, organization: Organization) -> None:
    """Listed with the one used last first; one is ended by its id, which must be one's own."""
    session, stranger = log_in(board, organization.user), log_in(board, organization.other)
    http = board.client(session["accessToken"])
    listed = http.get("/auth/sessions").json()["data"]
    assert [item["current"] for item in listed] == [True, False]
    assert listed[0].keys() == {"id", "organizationId", "createdAt", "usedAt", "expiresAt", "current"}
    theirs = board.client(stranger["accessToken"]).get("/auth/sessions").json()["data"][0]["id"]
    for id_ in (theirs, uuid4(), "x"):
        assert_problem(http.delete(f"/auth/sessions/{id_}"), "not-found")
    assert http.delete(f"/auth/sessions/{listed[1]['id']}").status_code == 204
    assert [item["id"] for item in http.get("/auth/sessions").json()["data"]] == [listed[0]["id"]]
    assert_problem(http.delete(f"/auth/sessions/{listed[1]['id']}"), "not-found")
    assert refused_within(organization.user.http)


def test_another_password(board: Board, organization: Organization) -> None:
    """It needs the present one; then the new one holds, and all other sessions have ended."""
    mine, other = log_in(board, organization.user), log_in(board, organization.user)
    http = board.client(mine["accessToken"])
    new = f"quite another {uuid4().hex}"
    for current, wanted, code, pointers in (
        ("not the password", new, "forbidden", ()),
        (PASSWORD, "short", "invalid-request", ("/newPassword",)),
        (PASSWORD, "iloveyou", "invalid-request", ("/newPassword",)),
        (PASSWORD, organization.user.email, "invalid-request", ("/newPassword",)),
        (PASSWORD, organization.name.upper(), "invalid-request", ("/newPassword",)),
    ):
        body = {"currentPassword": current, "newPassword": wanted}
        assert_problem(http.post("/auth/password", json=body), code, *pointers)
    body = {"currentPassword": PASSWORD, "newPassword": new}
    assert http.post("/auth/password", json=body).status_code == 204
    credentials = {"email": organization.user.email, "password": PASSWORD}
    assert_problem(board.client().post("/auth/login", json=credentials), "invalid-credentials")
    assert log_in(board, organization.user, new)["user"]["id"] == str(organization.user.id)
    assert_problem(refresh(board, other["refreshToken"]), "invalid-token")
    assert refresh(board, mine["refreshToken"]).status_code == 200


def test_another_password_while_logging_in(board: Board, organization: Organization) -> None:
    """A log-in whose password was found right a moment before begins no session after the others have ended."""
    user, body = organization.user, {"currentPassword": PASSWORD, "newPassword": f"quite another {uuid4().hex}"}
    mine = board.client(log_in(board, user)["accessToken"])
    # What a log-in counts between the two.
    known = "SELECT 1 FROM auth.counters WHERE key = $1 FOR UPDATE"
    with (
        ThreadPoolExecutor(1) as thread,
        holding(board.database_url, known, key_of(KNOWN, user.email, "127.0.0.1")) as counter,
    ):
        credentials = {"email": user.email, "password": PASSWORD}
        logging_in = thread.submit(board.client().post, "/auth/login", json=credentials)
        counter.until_waited_for()
        assert mine.post("/auth/password", json=body).status_code == 204
        counter.commit()
        assert_problem(logging_in.result(), "invalid-credentials")
    assert [item["current"] for item in mine.get("/auth/sessions").json()["data"]] == [True]


def test_session_that_was_not_refreshed_in_time(board: Board, organization: Organization) -> None:
    """After its time it is over, by the database's clock."""
    session = log_in(board, organization.user)
    board.sql("UPDATE auth.sessions SET expires_at = now() WHERE user_id = $1", organization.user.id)
    assert_problem(refresh(board, session["refreshToken"]), "invalid-token")


def test_only_hashes_are_kept(board: Board, organization: Organization) -> None:
    """Whoever reads the database can't refresh anything."""
    token = log_in(board, organization.user)["refreshToken"]
    rows = board.sql("SELECT * FROM auth.refresh_tokens")
    assert all(len(row["hash"]) == 32 for row in rows)
    assert not any(token.encode() in repr(tuple(row)).encode() for row in rows)


def test_another_role_takes_effect_at_once(organization: Organization) -> None:
    """A token issued before does what the role in force allows, within five seconds, both ways."""
    event = organization.event_in("SUBMITTED", author=organization.other)
    member = f"/members/{organization.user.id}"
    assert_problem(organization.user.http.get(f"/events/{event['id']}"), "not-found")
    assert organization.admin.http.patch(member, json={"role": "MODERATOR"}).status_code == 200
    changed = Stopwatch()
    while organization.user.http.get(f"/events/{event['id']}").status_code != 200:
        assert changed.seconds < WITHIN
    assert organization.admin.http.patch(member, json={"role": "USER"}).status_code == 200
    changed = Stopwatch()
    while organization.user.http.get(f"/events/{event['id']}").status_code != 404:
        assert changed.seconds < WITHIN


def test_deactivation_takes_effect_at_once(board: Board, organization: Organization) -> None:
    """Refused everywhere within five seconds, and nothing is replayed to them, whatever key they used."""
    event = organization.user.create()
    key = {"idempotency-key": uuid4().hex}
    http = organization.user.http
    assert http.post(f"/events/{event['id']}/submit", headers=key).status_code == 200
    token = log_in(board, organization.user)["refreshToken"]
    member = f"/members/{organization.user.id}"
    assert organization.admin.http.patch(member, json={"active": False}).status_code == 200
    changed = Stopwatch()
    while (answer := http.post(f"/events/{event['id']}/submit", headers=key)).status_code == 200:
        assert changed.seconds < WITHIN
    assert_problem(answer, "invalid-token")
    assert_problem(refresh(board, token), "forbidden")
    credentials = {"email": organization.user.email, "password": PASSWORD}
    assert_problem(board.client().post("/auth/login", json=credentials), "forbidden")
