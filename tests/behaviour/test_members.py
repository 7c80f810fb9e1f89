"""Members, invitations, and belonging to several organizations."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx

from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.problems import assert_problem


def sign_up(board: Board, **fields: Any) -> httpx.Response:
    body = {"password": PASSWORD, "firstName": "Nia", "lastName": "New", **fields}
    return board.client().post("/auth/signup", json={"email": f"{uuid4().hex}@example.com", **body})


def log_in(board: Board, member: Member) -> httpx.Client:
    answer = board.client().post("/auth/login", json={"email": member.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return board.client(answer.json()["accessToken"])


def invite(organization: Organization, email: str, role: str = "USER") -> dict[str, Any]:
    answer = organization.admin.http.post("/invitations", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def states(organization: Organization) -> list[str]:
    return [item["state"] for item in organization.admin.http.get("/invitations").json()["data"]]


def test_members(organization: Organization, board: Board) -> None:
    """An ADMIN sees everybody of the organization, and nobody else's."""
    board.organization()
    members = organization.admin.http.get("/members").json()["data"]
    everybody = (organization.admin, organization.moderator, organization.user, organization.other)
    assert {member["id"] for member in members} == {str(member.id) for member in everybody}
    fields = {"id", "email", "firstName", "lastName", "role", "active", "joinedAt", "updatedAt"}
    assert all(member.keys() == fields for member in members)


def test_only_admins(organization: Organization, board: Board) -> None:
    """Whoever isn't ADMIN is refused, after what is wrong with the request and before what is not there."""
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", "/members", None),
        ("PATCH", f"/members/{uuid4()}", {"role": "USER"}),
        ("POST", "/invitations", {"email": "a@example.com", "role": "USER"}),
        ("GET", "/invitations", None),
        ("DELETE", f"/invitations/{uuid4()}", None),
        ("PATCH", "/organization", {"openSignup": True}),
    ]
    for method, path, body in calls:
        for member in (organization.moderator, organization.user):
            assert_problem(member.http.request(method, path, json=body), "forbidden")
        assert_problem(board.client().request(method, path, json=body), "invalid-token")
        if body:
            assert_problem(
                organization.user.http.request(method, path, json={"x": 1}), "invalid-request", *_wrong(path)
            )


def _wrong(path: str) -> list[str]:
    return ["/email", "/role", "/x"] if path == "/invitations" else ["/x"]


def test_changing_a_member(organization: Organization) -> None:
    """Role and access, alone or together; what isn't said stays; nobody is not found."""
    http, path = organization.admin.http, f"/members/{organization.user.id}"
    before = http.patch(path, json={}).json()
    assert (before["role"], before["active"]) == ("USER", True)
    assert http.patch(path, json={"role": "MODERATOR"}).json()["active"] is True
    assert http.patch(path, json={"active": False}).json()["role"] == "MODERATOR"
    after = http.patch(path, json={"active": True, "role": "USER"}).json()
    assert {**after, "updatedAt": before["updatedAt"]} == before
    for id_ in (uuid4(), "x"):
        assert_problem(http.patch(f"/members/{id_}", json={"role": "USER"}), "not-found")
    assert_problem(http.patch(path, json={"role": "OWNER", "active": 1}), "invalid-request", "/role", "/active")


def test_member_of_another_organization(organization: Organization, board: Board) -> None:
    """Is not found, like nobody."""
    stranger = board.organization().user
    answers = [
        organization.admin.http.patch(f"/members/{id_}", json={"active": False}) for id_ in (stranger.id, uuid4())
    ]
    for answer in answers:
        assert_problem(answer, "not-found")
    assert stranger.http.get("/auth/me").status_code == 200


def test_last_admin(organization: Organization) -> None:
    """Can't be demoted or switched off, by themselves least of all; with another ADMIN they can."""
    path = f"/members/{organization.admin.id}"
    for patch in ({"role": "USER"}, {"active": False}):
        assert_problem(organization.admin.http.patch(path, json=patch), "last-admin")
    other = f"/members/{organization.user.id}"
    assert organization.admin.http.patch(other, json={"role": "ADMIN", "active": False}).status_code == 200
    assert_problem(organization.admin.http.patch(path, json={"role": "USER"}), "last-admin")
    assert organization.admin.http.patch(other, json={"active": True}).status_code == 200
    assert organization.admin.http.patch(path, json={"role": "USER"}).status_code == 200


def test_two_admins_who_demote_each_other(board: Board) -> None:
    """However they race, one stays."""
    for _ in range(10):
        organization = board.organization()
        second: Member = board.member(organization.id, "ADMIN")
        pair = ((organization.admin, second), (second, organization.admin))
        with ThreadPoolExecutor(2) as threads:
            answers = list(
                threads.map(lambda two: two[0].http.patch(f"/members/{two[1].id}", json={"role": "USER"}), pair)
            )
        assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])
        left = board.sql(
            "SELECT count(*) FROM auth.memberships WHERE organization_id = $1 AND role = 'ADMIN' AND active",
            organization.id,
        )
        assert left[0][0] == 1


def test_demoted_admin_goes_on_at_once(organization: Organization, board: Board) -> None:
    """The seconds until it is felt everywhere don't do to get back in, or to let somebody else in."""
    second = board.member(organization.id, "ADMIN")
    pending = invite(organization, f"{uuid4().hex}@example.com")["id"]
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("PATCH", f"/members/{second.id}", {"role": "ADMIN", "active": True}),
        ("PATCH", f"/members/{organization.user.id}", {"role": "ADMIN"}),
        ("POST", "/invitations", {"email": f"{uuid4().hex}@example.com", "role": "ADMIN"}),
        ("DELETE", f"/invitations/{pending}", None),
        ("PATCH", "/organization", {"openSignup": True}),
    ]
    for patch, code in (({"role": "USER"}, "forbidden"), ({"role": "ADMIN", "active": False}, "invalid-token")):
        path = f"/members/{second.id}"
        assert organization.admin.http.patch(path, json={"role": "ADMIN", "active": True}).status_code == 200
        again = log_in(board, second)
        assert again.get("/members").status_code == 200
        assert organization.admin.http.patch(path, json=patch).status_code == 200
        for method, called, body in calls:
            assert_problem(again.request(method, called, json=body), code)
    assert organization.admin.http.patch("/organization", json={}).json()["openSignup"] is False
    assert states(organization) == ["pending"]


def test_invitation(organization: Organization, board: Board) -> None:
    """Its token is told once, and lets that address in, once, with the invited role."""
    email = f"{uuid4().hex}@example.com"
    invitation = invite(organization, email.upper(), "MODERATOR")
    assert (invitation["email"], invitation["role"], invitation["state"]) == (email, "MODERATOR", "pending")
    listed = organization.admin.http.get("/invitations").json()["data"]
    assert listed == [{name: value for name, value in invitation.items() if name != "token"}]
    assert_problem(sign_up(board, invitationToken=invitation["token"]), "forbidden")
    answer = sign_up(board, email=email, invitationToken=invitation["token"])
    assert answer.status_code == 201
    user = answer.json()["user"]
    assert (user["role"], user["organizationId"]) == ("MODERATOR", str(organization.id))
    assert states(organization) == ["used"]
    member = board.client(answer.json()["accessToken"])
    assert_problem(member.post("/auth/join", json={"invitationToken": invitation["token"]}), "forbidden")
    body = {"email": email, "role": "USER"}
    assert_problem(organization.admin.http.post("/invitations", json=body), "already-exists", "/email")


def test_invitation_and_the_organizations_name(organization: Organization, board: Board) -> None:
    """It is no password with an invitation either: the token isn't spent on it, and a stranger isn't told the name."""
    email = f"{uuid4().hex}@example.com"
    token = invite(organization, email)["token"]
    assert_problem(sign_up(board, password=organization.name, invitationToken=token), "forbidden")
    answer = sign_up(board, email=email, password=organization.name.upper(), invitationToken=token)
    assert_problem(answer, "invalid-request", "/password")
    assert states(organization) == ["pending"]
    assert sign_up(board, email=email, invitationToken=token).status_code == 201


def test_fifty_at_once_with_one_invitation(organization: Organization, board: Board) -> None:
    """It works once."""
    email = f"{uuid4().hex}@example.com"
    token = invite(organization, email)["token"]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: sign_up(board, email=email, invitationToken=token), range(50)))
    assert [answer.status_code for answer in answers].count(201) == 1
    assert {answer.status_code for answer in answers} <= {201, 403, 409}


def test_invitation_that_is_over(organization: Organization, board: Board) -> None:
    """Revoked, expired or made up, it lets nobody in, and the answer is the same."""
    emails = [f"{uuid4().hex}@example.com" for _ in range(2)]
    revoked, expired = (invite(organization, email) for email in emails)
    path = f"/invitations/{revoked['id']}"
    assert organization.admin.http.delete(path).status_code == 204
    assert_problem(organization.admin.http.delete(path), "not-found")
    board.sql("UPDATE auth.invitations SET expires_at = now() WHERE email = $1", emails[1])
    assert states(organization) == ["expired", "revoked"]
    headers = {"x-correlation-id": "same"}
    answers = [
        board.client().post(
            "/auth/signup",
            json={"email": email, "password": PASSWORD, "firstName": "N", "lastName": "N", "invitationToken": token},
            headers=headers,
        )
        for email, token in (*zip(emails, (revoked["token"], expired["token"]), strict=True), (emails[0], "made up"))
    ]
    for answer in answers:
        assert_problem(answer, "forbidden")
    assert len({answer.content for answer in answers}) == 1


def test_two_organizations(organization: Organization, board: Board) -> None:
    """One person joins a second organization, switches between the two, and each token is for one of them."""
    first, second = organization, board.organization()
    event = second.event_in("APPROVED")
    http = first.user.http
    assert_problem(http.post("/auth/switch", json={"organizationId": str(second.id)}), "forbidden")
    assert_problem(http.post("/auth/join", json={"organizationId": str(second.id)}), "forbidden")
    token = invite(second, first.user.email)["token"]
    joined = http.post("/auth/join", json={"invitationToken": token})
    assert joined.status_code == 200
    assert joined.json()["user"]["organizationId"] == str(second.id)
    there = board.client(joined.json()["accessToken"])
    assert there.get(f"/events/{event['id']}").status_code == 200
    assert_problem(http.get(f"/events/{event['id']}"), "not-found")
    back = there.post("/auth/switch", json={"organizationId": str(first.id)})
    assert back.status_code == 200
    assert back.json()["user"]["organizationId"] == str(first.id)
    # The one last used is where a log-in leads that names none.
    credentials = {"email": first.user.email, "password": PASSWORD}
    assert board.client().post("/auth/login", json=credentials).json()["user"]["organizationId"] == str(first.id)


def test_joining(organization: Organization, board: Board) -> None:
    """By founding or where sign-up is open; twice is a conflict; exactly one way is named."""
    http = organization.user.http
    open_one = board.organization(open_signup=True)
    assert http.post("/auth/join", json={"organizationId": str(open_one.id)}).json()["user"]["role"] == "USER"
    assert_problem(http.post("/auth/join", json={"organizationId": str(open_one.id)}), "already-exists")
    founded = http.post("/auth/join", json={"organizationName": f"Founded {uuid4().hex}"})
    assert founded.json()["user"]["role"] == "ADMIN"
    body = {"organizationName": organization.name}
    assert_problem(http.post("/auth/join", json=body), "already-exists", "/organizationName")
    for wrong in ({}, {"organizationName": "x", "organizationId": str(uuid4())}):
        assert_problem(http.post("/auth/join", json=wrong), "invalid-request", "/organizationName")


def test_member_who_was_switched_off_joins_again(organization: Organization, board: Board) -> None:
    """Neither an open door nor a new sign-up gives back what an ADMIN took."""
    assert organization.admin.http.patch("/organization", json={"openSignup": True}).status_code == 200
    home = board.organization(open_signup=True)
    there = organization.user.http.post("/auth/join", json={"organizationId": str(home.id)}).json()["accessToken"]
    organization.admin.http.patch(f"/members/{organization.user.id}", json={"active": False})
    http = board.client(there)
    assert_problem(http.post("/auth/join", json={"organizationId": str(organization.id)}), "already-exists")
    assert_problem(http.post("/auth/switch", json={"organizationId": str(organization.id)}), "forbidden")


def test_organization(organization: Organization, board: Board) -> None:
    """Its name, by which names are compared, and whether anybody may join; the slug stays."""
    http = organization.admin.http
    before = http.patch("/organization", json={}).json()
    assert before.keys() == {"id", "name", "slug", "openSignup", "createdAt", "updatedAt"}
    name = f"Renamed {uuid4().hex}"
    after = http.patch("/organization", json={"name": f" {name} ", "openSignup": True}).json()
    assert (after["name"], after["slug"], after["openSignup"]) == (name, before["slug"], True)
    assert sign_up(board, organizationId=str(organization.id)).status_code == 201
    other = board.organization()
    assert_problem(http.patch("/organization", json={"name": other.name.upper()}), "already-exists", "/name")
    assert_problem(http.patch("/organization", json={"name": "—"}), "invalid-request", "/name")
    assert_problem(http.patch("/organization", json={"slug": "x"}), "invalid-request", "/slug")
