"""What the mail of invitations can be used for: not for flooding anybody, nor for a text of one's own."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import PASSWORD, Member, Organization
from tests.support.faces import Faces, at_once, statuses, two_faces
from tests.support.problems import assert_problem


@pytest.fixture(scope="module")
def both(shape: str, cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    with two_faces(shape, cluster_url, tmp_path_factory.mktemp("invitations"), LIMITS_REQUESTS="0") as faces:
        yield faces


@pytest.fixture
def faces(both: Faces) -> Faces:
    both.age()
    return both


def some_email() -> str:
    return f"{uuid4().hex}@example.com"


def invite(admin: Member, email: str) -> httpx.Response:
    return admin.http.post("/invitations", json={"email": email, "role": "USER"})


def listed(organization: Organization, email: str) -> list[str]:
    data = organization.admin.http.get("/invitations").json()["data"]
    return [item["state"] for item in data if item["email"] == email]


def sign_up(faces: Faces, email: str, token: str) -> httpx.Response:
    body: dict[str, Any] = {"email": email, "password": PASSWORD, "firstName": "Nia", "lastName": "New"}
    return faces.boards[0].client().post("/auth/signup", json={**body, "invitationToken": token})


def test_invitations_of_an_organization(faces: Faces) -> None:
    """Six, of many at once, by whichever of its ADMINs; another organization isn't concerned."""
    organization, other = faces.boards[0].organization(), faces.boards[1].organization()
    second = faces.boards[1].member(organization.id, "ADMIN")
    calls = [partial(invite, (organization.admin, second)[number % 2], some_email()) for number in range(10)]
    answers = at_once(calls)
    assert statuses(answers) == {201: 6, 429: 4}
    refused = invite(second, some_email())
    assert_problem(refused, "too-many-requests")
    assert (
        refused.json()["detail"]
        == "The limit invitations-by-organization is used up: 6 in 86400 s. Retry-After says when to try again."
    )
    assert 0 < int(refused.headers["retry-after"]) <= 86400
    assert invite(other.admin, some_email()).status_code == 201
    faces.age()
    assert invite(second, some_email()).status_code == 201


def test_invitations_of_a_person_with_many_organizations(faces: Faces) -> None:
    """Eight in all of them: whoever founds one more gets no more."""
    admin = faces.boards[0].organization().admin
    found: list[int] = []
    client = admin.http
    for _ in range(3):
        for _ in range(3):
            answer = client.post("/invitations", json={"email": some_email(), "role": "USER"})
            found.append(answer.status_code)
        joined = client.post("/auth/join", json={"organizationName": uuid4().hex}).json()
        client = faces.boards[0].client(joined["accessToken"])
    assert found == [201] * 8 + [429]
    assert (
        answer.json()["detail"]
        == "The limit invitations-by-user is used up: 8 in 86400 s. Retry-After says when to try again."
    )


def test_invitations_to_a_person(faces: Faces) -> None:
    """Three, from all organizations together, however the address is written."""
    email = f"nia.{uuid4().hex}@example.com"
    user, _, domain = email.partition("@")
    forms = [email, email.upper(), f"{user}+one@{domain}", f"{user}+two@{domain}", f" {email} "]
    organizations = [faces.boards[0].organization() for _ in forms]
    answers = [invite(each.admin, form) for each, form in zip(organizations, forms, strict=True)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
    assert (
        answers[-1].json()["detail"]
        == "The limit invitations-by-recipient is used up: 3 in 86400 s. Retry-After says when to try again."
    )
    assert invite(organizations[0].admin, some_email()).status_code == 201


def test_invitation_that_is_not_made(faces: Faces) -> None:
    """It counts for nobody: no mail was sent."""
    organization = faces.boards[0].organization()
    assert statuses([invite(organization.admin, organization.user.email) for _ in range(9)]) == {409: 9}
    assert statuses([invite(organization.moderator, some_email()) for _ in range(9)]) == {403: 9}
    assert invite(organization.admin, some_email()).status_code == 201


def test_invited_again(faces: Faces) -> None:
    """The new one takes the place of the old one, whose token is worth nothing from then on."""
    organization, other = faces.boards[0].organization(), faces.boards[1].organization()
    email = some_email()
    first, elsewhere, second = (
        invite(each.admin, email).json()["token"] for each in (organization, other, organization)
    )
    assert listed(organization, email) == ["pending", "revoked"]
    assert listed(other, email) == ["pending"]
    assert_problem(sign_up(faces, email, first), "forbidden")
    assert sign_up(faces, email, second).status_code == 201
    assert listed(organization, email) == ["used", "revoked"]
    assert elsewhere not in (first, second)


def test_invited_by_many_at_once(faces: Faces) -> None:
    """One of them is pending, through whichever process they came."""
    organization = faces.boards[0].organization()
    admins = [organization.admin, faces.boards[1].member(organization.id, "ADMIN")]
    for _ in range(2):
        email = some_email()
        answers = at_once([partial(invite, admins[number % 2], email) for number in range(3)])
        assert statuses(answers) == {201: 3}
        assert sorted(listed(organization, email)) == ["pending", "revoked", "revoked"]
        (working,) = [answer.json()["id"] for answer in answers if _pending(organization, answer.json()["id"])]
        assert working


def _pending(organization: Organization, id_: str) -> bool:
    data = organization.admin.http.get("/invitations").json()["data"]
    return any(item["id"] == id_ and item["state"] == "pending" for item in data)
