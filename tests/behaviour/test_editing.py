"""Creating and editing events: what a merge patch changes, and what it leaves."""

from typing import Any

import pytest

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.problems import assert_problem


@pytest.fixture
def organization(shared_organization: Organization) -> Organization:
    return shared_organization


def trace(board: Board, event: dict[str, Any]) -> list[Any]:
    """All that the database holds of an event: the row itself, and its history."""
    rows = board.sql("SELECT to_jsonb(event)::text FROM events.events AS event WHERE id = $1", event["id"])
    entries = board.sql(
        "SELECT to_jsonb(entry)::text FROM events.history AS entry WHERE event_id = $1 ORDER BY version", event["id"]
    )
    return [row[0] for row in [*rows, *entries]]


def test_new_event(organization: Organization) -> None:
    """It is a draft of its author, as they called themselves, in their organization, with the defaults."""
    event = organization.user.create()
    me = organization.user.http.get("/auth/me").json()
    assert {name: event[name] for name in EVENT} == EVENT
    assert event.keys() - EVENT.keys() == {
        "id",
        "location",
        "timeZone",
        "status",
        "rejectionReason",
        "organizationId",
        "createdById",
        "createdByName",
        "createdAt",
        "updatedAt",
        "version",
    }
    assert (event["location"], event["timeZone"], event["rejectionReason"]) == (None, "UTC", None)
    assert (event["status"], event["version"]) == ("DRAFT", 1)
    assert (event["createdById"], event["organizationId"]) == (me["id"], me["organizationId"])
    assert event["createdByName"] == f"{me['firstName']} {me['lastName']}"
    assert event["createdAt"] == event["updatedAt"]
    assert event["id"][14] == "7"  # UUIDv7
    assert organization.user.http.get(f"/events/{event['id']}").json() == event


def test_times_come_back_in_utc(organization: Organization) -> None:
    """Whatever offset they came with; the time zone is kept beside them."""
    event = organization.user.create(
        startDate="2027-07-01T20:00:00.25+02:00", endDate="2027-07-01T21:30:00-03:30", timeZone="Europe/Berlin"
    )
    assert (event["startDate"], event["endDate"]) == ("2027-07-01T18:00:00.250000Z", "2027-07-02T01:00:00Z")
    assert event["timeZone"] == "Europe/Berlin"


@pytest.mark.parametrize("body", [{}, {"title": EVENT["title"]}, {**EVENT, "location": None, "timeZone": None}])
def test_patch_that_changes_nothing(board: Board, organization: Organization, body: dict[str, Any]) -> None:
    """Neither version nor `updatedAt` nor history: nothing happened."""
    event = organization.user.create()
    before = trace(board, event)
    answer = organization.user.http.patch(f"/events/{event['id']}", json=body)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.json() == event
    assert trace(board, event) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "Another title"),
        ("description", "Something else entirely."),
        ("location", "Room 4.12"),
        ("startDate", "2027-03-01T17:00:00Z"),
        ("endDate", "2027-03-01T23:00:00Z"),
        ("timeZone", "Asia/Tokyo"),
    ],
)
def test_patch_of_one_field(organization: Organization, field: str, value: str) -> None:
    """That field, the version and `updatedAt` change, and nothing else."""
    before = organization.user.create(location="Cellar", timeZone="Europe/Berlin")
    answer = organization.user.http.patch(f"/events/{before['id']}", json={field: value})
    after = answer.json()
    assert answer.status_code == 200, answer.text
    assert {name for name in after if after[name] != before[name]} == {field, "version", "updatedAt"}
    assert (after[field], after["version"]) == (value, 2)
    assert after["updatedAt"] > before["updatedAt"]


def test_null_clears_what_is_optional(organization: Organization) -> None:
    """The location goes; the time zone is UTC again."""
    event = organization.user.create(location="Cellar", timeZone="Europe/Berlin")
    answer = organization.user.http.patch(f"/events/{event['id']}", json={"location": None, "timeZone": None})
    assert (answer.json()["location"], answer.json()["timeZone"], answer.json()["version"]) == (None, "UTC", 2)


@pytest.mark.parametrize("field", ["title", "description", "startDate", "endDate"])
def test_null_in_what_is_required(organization: Organization, field: str) -> None:
    """An event can't be without it."""
    event = organization.user.create()
    answer = organization.user.http.patch(f"/events/{event['id']}", json={field: None})
    assert_problem(answer, "invalid-request", f"/{field}")


@pytest.mark.parametrize(
    "field",
    ["id", "status", "version", "createdById", "createdByName", "organizationId", "rejectionReason", "updatedAt"],
)
def test_field_that_nobody_sets(organization: Organization, field: str) -> None:
    """What the board itself keeps is refused as unknown, with the value it has as well."""
    event = organization.admin.create()
    answer = organization.admin.http.patch(f"/events/{event['id']}", json={field: event[field]})
    assert_problem(answer, "invalid-request", f"/{field}")
    answer = organization.admin.http.post("/events", json={**EVENT, field: event[field]})
    assert_problem(answer, "invalid-request", f"/{field}")


@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json; charset=utf-8"])
def test_patch_by_either_name(organization: Organization, content_type: str) -> None:
    """A merge patch is one under both media types."""
    event = organization.user.create()
    answer = organization.user.http.patch(
        f"/events/{event['id']}", content=b'{"location": "Cellar"}', headers={"content-type": content_type}
    )
    assert (answer.status_code, answer.json()["location"]) == (200, "Cellar")


def test_dates_of_a_patch_against_those_that_stay(organization: Organization) -> None:
    """A patch of one date is judged with the other one; both may move together past either."""
    event = organization.user.create()
    path = f"/events/{event['id']}"

    def patch(**fields: str) -> Any:
        return organization.user.http.patch(path, json=fields)

    assert_problem(patch(endDate=event["startDate"]), "invalid-request", "/endDate")
    assert_problem(patch(startDate=event["endDate"]), "invalid-request", "/endDate")
    assert_problem(patch(endDate="2026-01-01T00:00:00Z"), "invalid-request", "/endDate")
    assert organization.user.http.get(path).json() == event
    moved = patch(startDate="2028-01-01T00:00:00Z", endDate="2028-01-01T00:00:00.000001Z")
    assert (moved.status_code, moved.json()["version"]) == (200, 2)


def test_edit_by_another_leaves_the_author(organization: Organization) -> None:
    """It stays the author's event, under the author's name."""
    event = organization.event_in("SUBMITTED")
    answer = organization.moderator.http.patch(f"/events/{event['id']}", json={"title": "A clearer title"})
    assert (answer.status_code, answer.json()["title"], answer.json()["status"]) == (
        200,
        "A clearer title",
        "SUBMITTED",
    )
    for field in ("createdById", "createdByName", "createdAt"):
        assert answer.json()[field] == event[field]


def test_author_who_changes_their_name(board: Board) -> None:
    """An event shows the name as it was when the event was made."""
    organization = board.organization()
    event = organization.user.create()
    board.sql("UPDATE auth.users SET first_name = 'Renamed' WHERE id = $1", organization.user.id)
    login = board.client().post("/auth/login", json={"email": organization.user.email, "password": PASSWORD})
    renamed = board.client(login.json()["accessToken"])
    answer = renamed.patch(f"/events/{event['id']}", json={"title": "Another title"})
    assert (answer.status_code, answer.json()["createdByName"]) == (200, event["createdByName"])
    assert renamed.post("/events", json=EVENT).json()["createdByName"].startswith("Renamed ")
    names = [entry["actorName"] for entry in renamed.get(f"/events/{event['id']}/history").json()["data"]]
    assert names[0] == event["createdByName"]
    assert names[1].startswith("Renamed ")


def test_deleted_event_is_gone(organization: Organization) -> None:
    """For everybody, in every way: it is read, edited, commanded and deleted no more."""
    event = organization.user.create()
    path = f"/events/{event['id']}"
    deleted = organization.user.http.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert "etag" not in deleted.headers
    for member in (organization.user, organization.moderator, organization.admin, organization.other):
        assert_problem(member.http.get(path), "not-found")
        assert_problem(member.http.patch(path, json={"title": "Another title"}), "not-found")
        assert_problem(member.http.delete(path), "not-found")
        for command in ("submit", "approve", "withdraw", "cancel"):
            assert_problem(member.http.post(f"{path}/{command}"), "not-found")
    listed = organization.admin.http.get("/events", params={"sortBy": "createdAt", "sortOrder": "desc"}).json()["data"]
    assert event["id"] not in [other["id"] for other in listed]
