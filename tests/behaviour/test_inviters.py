"""Invitations are as good as whoever made them: judged when they are used."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.holding import holding
from tests.support.problems import assert_problem

# As config/base.toml has it.
PENDING = 1000

Use = Callable[[Board, Member, str], httpx.Response]


def invite(inviter: Member, email: str, role: str = "ADMIN") -> dict[str, Any]:
    answer = inviter.http.post("/invitations", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def sign_up(board: Board, invitee: Member, token: str) -> httpx.Response:
    """As somebody new, with the address of nobody who has an account."""
    board.sql("UPDATE auth.users SET email = $2 WHERE email = $1", invitee.email, f"{uuid4().hex}@example.com")
    body = {"email": invitee.email, "password": PASSWORD, "firstName": "Nia", "lastName": "New"}
    return board.client().post("/auth/signup", json={**body, "invitationToken": token})


def join(_: Board, invitee: Member, token: str) -> httpx.Response:
    return invitee.http.post("/auth/join", json={"invitationToken": token})


def change(organization: Organization, member: Member, **patch: Any) -> None:
    assert organization.admin.http.patch(f"/members/{member.id}", json=patch).status_code == 200


@pytest.mark.parametrize("use", [sign_up, join])
@pytest.mark.parametrize("patch", [{"role": "MODERATOR"}, {"active": False}, {"role": "USER", "active": False}])
def test_inviter_who_is_no_admin_any_more(
    organization: Organization, board: Board, use: Use, patch: dict[str, Any]
) -> None:
    """Demoted or switched off, they let nobody in, in whichever role; and the invitation isn't spent on it."""
    inviter, invitees = board.member(organization.id, "ADMIN"), [board.organization().user for _ in range(2)]
    roles = ("ADMIN", "USER")
    invitations = [invite(inviter, who.email, role) for who, role in zip(invitees, roles, strict=True)]
    change(organization, inviter, **patch)
    for invitee, invitation in zip(invitees, invitations, strict=True):
        problem = assert_problem(use(board, invitee, invitation["token"]), "forbidden")
        assert "no longer an ADMIN" in problem["detail"]
    members = {member["email"] for member in organization.admin.http.get("/members").json()["data"]}
    assert not members & {invitee.email for invitee in invitees}
    listed = organization.admin.http.get("/invitations").json()["data"]
    assert [(item["state"], item["usable"]) for item in listed] == [("pending", False)] * 2
    change(organization, inviter, role="ADMIN", active=True)
    assert {item["usable"] for item in organization.admin.http.get("/invitations").json()["data"]} == {True}
    assert use(board, invitees[0], invitations[0]["token"]).json()["user"]["role"] == "ADMIN"


def test_inviter_is_told_to_the_invited_alone(organization: Organization, board: Board) -> None:
    """For anybody else it is an invitation like any that isn't theirs."""
    inviter, invitee = board.member(organization.id, "ADMIN"), board.organization().user
    token = invite(inviter, invitee.email)["token"]
    change(organization, inviter, role="USER")
    stranger = board.organization().user
    answers = [join(board, stranger, text).json()["detail"] for text in (token, f"{token[:-4]}AAAA")]
    assert answers[0] == answers[1]


def test_inviter_who_logged_out(organization: Organization, board: Board) -> None:
    """Their membership decides, not the session in which they invited."""
    inviter, invitee = board.member(organization.id, "ADMIN"), board.organization().user
    token = invite(inviter, invitee.email)["token"]
    assert inviter.http.post("/auth/logout-all").status_code == 204
    assert join(board, invitee, token).status_code == 200


def test_admin_elsewhere(organization: Organization, board: Board) -> None:
    """Being an ADMIN of another organization is of no use here."""
    inviter, invitee = board.member(organization.id, "ADMIN"), board.organization().user
    token = invite(inviter, invitee.email)["token"]
    founded = inviter.http.post("/auth/join", json={"organizationName": f"Founded {uuid4().hex}"})
    assert founded.json()["user"]["role"] == "ADMIN"
    change(organization, inviter, role="MODERATOR")
    assert_problem(join(board, invitee, token), "forbidden")


@pytest.mark.parametrize("demoted_first", [True, False])
def test_invitation_used_while_its_inviter_is_demoted(
    organization: Organization, board: Board, demoted_first: bool
) -> None:
    """One waits for the other: after the demotion nobody comes in."""
    inviter, invitee = board.member(organization.id, "ADMIN"), board.organization().user
    token = invite(inviter, invitee.email)["token"]
    calls: list[Callable[[], httpx.Response]] = [
        lambda: organization.admin.http.patch(f"/members/{inviter.id}", json={"role": "USER"}),
        lambda: join(board, invitee, token),
    ]
    if not demoted_first:
        calls.reverse()
    membership = "SELECT 1 FROM auth.memberships WHERE organization_id = $1 AND user_id = $2 FOR UPDATE"
    with (
        ThreadPoolExecutor(2) as threads,
        holding(board.database_url, membership, organization.id, inviter.id) as holder,
    ):
        first = threads.submit(calls[0])
        holder.until_waited_for()
        second = threads.submit(calls[1])
        holder.until_in_line(2)
        holder.release()
        answers = [first.result().status_code, second.result().status_code]
    assert answers == ([200, 403] if demoted_first else [200, 200])


def test_list_says_who_invited(organization: Organization, board: Board) -> None:
    """By id and name, whether they are here still or not, as the answer to the invitation did."""
    inviter = board.member(organization.id, "ADMIN")
    made = [invite(who, f"{uuid4().hex}@example.com") for who in (organization.admin, inviter)]
    change(organization, inviter, active=False)
    listed = organization.admin.http.get("/invitations").json()["data"]
    assert [item["invitedById"] for item in listed] == [str(inviter.id), str(organization.admin.id)]
    for item, invitation in zip(listed, reversed(made), strict=True):
        assert item["invitedByName"] == invitation["invitedByName"] != ""
        assert invitation["usable"] is True
    assert [item["usable"] for item in listed] == [False, True]


def test_what_is_over_is_not_usable(organization: Organization, board: Board) -> None:
    """Used, revoked or expired."""
    admin, invitee = organization.admin, board.organization().user
    emails = [f"{uuid4().hex}@example.com" for _ in range(2)]
    revoked, _, used = (invite(admin, email) for email in (*emails, invitee.email))
    assert admin.http.delete(f"/invitations/{revoked['id']}").status_code == 204
    board.sql("UPDATE auth.invitations SET expires_at = now() WHERE email = $1", emails[1])
    assert join(board, invitee, used["token"]).status_code == 200
    listed = admin.http.get("/invitations").json()["data"]
    assert [(item["state"], item["usable"]) for item in listed] == [
        ("used", False),
        ("expired", False),
        ("revoked", False),
    ]


def test_too_many_pending_invitations(organization: Organization, board: Board) -> None:
    """At the bound it is a 429, whoever of the organization invites; of two at once one gets the last place."""
    board.sql(
        "INSERT INTO auth.invitations (organization_id, id, email, role, hash, invited_by_id, expires_at)"
        " SELECT $1, gen_random_uuid(), n || '@example.com', 'USER', sha256(n::text::bytea), $2,"
        " now() + n * interval '1 hour' FROM generate_series(1, $3) AS n",
        organization.id,
        organization.admin.id,
        PENDING - 1,
    )
    inviters = [organization.admin, board.member(organization.id, "ADMIN")]
    bodies = [{"email": f"{uuid4().hex}@example.com", "role": "USER"} for _ in inviters]
    with ThreadPoolExecutor(2) as threads:
        answers = list(
            threads.map(lambda two: two[0].http.post("/invitations", json=two[1]), zip(inviters, bodies, strict=True))
        )
    answers.sort(key=lambda answer: answer.status_code)
    assert answers[0].status_code == 201
    assert_problem(answers[1], "too-many-requests")
    assert 3500 < int(answers[1].headers["retry-after"]) <= 3600
    pending = answers[0].json()["id"]
    assert organization.admin.http.delete(f"/invitations/{pending}").status_code == 204
    assert organization.admin.http.post("/invitations", json=bodies[0]).status_code == 201
