"""Who did what, when and why: told to the author and the moderators, and kept when the event is gone."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.support.board import EVENT, Board, Member, Organization
from tests.support.problems import assert_problem


@pytest.fixture
def organization(shared_organization: Organization) -> Organization:
    return shared_organization


def history(member: Member, event: dict[str, Any]) -> list[dict[str, Any]]:
    answer = member.http.get(f"/events/{event['id']}/history")
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"data", "meta"}
    assert answer.json()["meta"] == {"limit": 100, "hasNext": False, "nextCursor": None}
    return list(answer.json()["data"])


def test_history_tells_who_did_what_when_and_why(organization: Organization) -> None:
    """One entry for each change, in order, with the correlation id that was sent with it."""
    author, moderator, admin = organization.user, organization.moderator, organization.admin
    begun = datetime.now(UTC)
    created = author.http.post("/events", json=EVENT, headers={"x-correlation-id": "step-1"})
    path = f"/events/{created.json()['id']}"
    steps: list[tuple[Member, str, str, dict[str, str] | None, str, str | None]] = [
        (author, "PATCH", "", {"location": "Cellar"}, "update", "DRAFT"),
        (author, "POST", "/submit", None, "submit", "SUBMITTED"),
        (moderator, "PATCH", "", {"title": "Chess and go night"}, "update", "SUBMITTED"),
        (moderator, "POST", "/reject", {"reason": "The cellar is flooded."}, "reject", "REJECTED"),
        (author, "POST", "/submit", None, "submit", "SUBMITTED"),
        (author, "POST", "/withdraw", None, "withdraw", "DRAFT"),
        (author, "POST", "/submit", None, "submit", "SUBMITTED"),
        (admin, "POST", "/approve", None, "approve", "APPROVED"),
        (author, "POST", "/cancel", {"reason": "Nobody wants to come."}, "cancel", "CANCELLED"),
        (admin, "DELETE", "", None, "delete", None),
    ]
    expected: list[tuple[int, str, str | None, Member, str | None]] = [(1, "create", "DRAFT", author, None)]
    for version, (member, method, tail, body, action, status) in enumerate(steps, start=2):
        headers = {"x-correlation-id": f"step-{version}"}
        answer = member.http.request(method, path + tail, json=body, headers=headers)
        assert answer.is_success, answer.text
        reason = body.get("reason") if body else None
        expected.append((version, action, status, member, reason))

    entries = history(author, created.json())
    names = {member.id: member.http.get("/auth/me").json() for member in (author, moderator, admin)}
    assert [{name: value for name, value in entry.items() if name != "at"} for entry in entries] == [
        {
            "version": version,
            "action": action,
            "status": status,
            "actorId": str(member.id),
            "actorName": f"{names[member.id]['firstName']} {names[member.id]['lastName']}",
            "reason": reason,
            "correlationId": f"step-{version}",
        }
        for version, action, status, member, reason in expected
    ]
    times = [datetime.fromisoformat(entry["at"]) for entry in entries]
    assert times == sorted(times)
    assert begun < times[0] < times[-1] < datetime.now(UTC)
    assert entries[0]["at"] == created.json()["createdAt"]


def test_history_of_a_correlation_id_that_was_replaced(organization: Organization) -> None:
    """What isn't a correlation id is replaced, and the history has the one that the answer names."""
    answer = organization.user.http.post("/events", json=EVENT, headers={"x-correlation-id": "no spaces allowed"})
    (entry,) = history(organization.user, answer.json())
    assert entry["correlationId"] == answer.headers["x-correlation-id"] != "no spaces allowed"


def test_history_outlives_the_event(organization: Organization) -> None:
    """Its author and the moderators read it still; to everybody else the event is as if it never was."""
    for status in ("DRAFT", "APPROVED"):
        event = organization.event_in(status)
        assert organization.admin.http.delete(f"/events/{event['id']}").status_code == 204
        for member in (organization.user, organization.moderator, organization.admin):
            entries = history(member, event)
            assert (entries[-1]["action"], entries[-1]["status"]) == ("delete", None)
            assert entries[-1]["version"] == event["version"] + 1
        assert_problem(organization.other.http.get(f"/events/{event['id']}/history"), "not-found")


def test_history_of_another_organization(board: Board, organization: Organization) -> None:
    """It is none, while the event is there and when it is gone."""
    event = organization.event_in("APPROVED")
    stranger = board.organization().admin
    assert_problem(stranger.http.get(f"/events/{event['id']}/history"), "not-found")
    organization.admin.http.delete(f"/events/{event['id']}")
    assert_problem(stranger.http.get(f"/events/{event['id']}/history"), "not-found")


def test_history_of_what_never_was(organization: Organization) -> None:
    """404, for those who may read every history, too."""
    for event_id in (str(uuid4()), "no-uuid"):
        assert_problem(organization.admin.http.get(f"/events/{event_id}/history"), "not-found")


def test_refused_changes_are_no_history(organization: Organization) -> None:
    """Nothing happened, so nothing is told: a wrong state, no right, another version, a patch without a change."""
    event = organization.event_in("SUBMITTED")
    path = f"/events/{event['id']}"
    before = history(organization.admin, event)
    assert_problem(organization.user.command(event, "submit"), "wrong-state")
    assert_problem(organization.user.command(event, "approve"), "forbidden")
    assert_problem(organization.user.http.delete(path), "forbidden")
    assert_problem(organization.admin.http.delete(path, headers={"if-match": '"1"'}), "version-changed")
    assert_problem(organization.admin.http.patch(path, json={"endDate": event["startDate"]}), "invalid-request")
    assert organization.admin.http.patch(path, json={"title": event["title"]}).status_code == 200
    assert history(organization.admin, event) == before


def long_history(board: Board, member: Member, entries: int) -> dict[str, Any]:
    """An event with so many."""
    event = member.create()
    board.sql(
        "INSERT INTO events.history SELECT organization_id, event_id, n, 'update', status, 'Reason ' || n, author_id,"
        " actor_id, actor_name, at + n * interval '1 ms', 'long' FROM events.history, generate_series(2, $2::int) n"
        " WHERE event_id = $1 AND version = 1",
        event["id"],
        entries,
    )
    return event


def test_history_in_pages(board: Board, organization: Organization) -> None:
    """A hundred entries at a time, or as many as were asked for, each once, to the end."""
    event = long_history(board, organization.user, 250)
    path = f"/events/{event['id']}/history"
    for limit, sizes in ((None, [100, 100, 50]), (100, [100, 100, 50]), (125, None), (50, [50] * 5), (249, None)):
        query: dict[str, Any] = {} if limit is None else {"limit": limit}
        if sizes is None:
            assert_problem(organization.user.http.get(path, params=query), "invalid-request", "/limit")
            continue
        versions, pages = [], []
        while True:
            page = organization.user.http.get(path, params=query).json()
            versions += [entry["version"] for entry in page["data"]]
            pages.append(len(page["data"]))
            meta = page["meta"]
            assert meta["limit"] == (limit or 100)
            assert meta["hasNext"] == (meta["nextCursor"] is not None)
            if not meta["hasNext"]:
                break
            query["cursor"] = meta["nextCursor"]
        assert (versions, pages) == (list(range(1, 251)), sizes)


def test_history_by_a_wrong_cursor(board: Board, organization: Organization) -> None:
    """One of another event, of a list of events, or of nothing at all is no cursor of this history."""
    event, other = (long_history(board, organization.user, 3) for _ in range(2))
    path = f"/events/{event['id']}/history"
    user = organization.user.http
    cursor = user.get(path, params={"limit": 1}).json()["meta"]["nextCursor"]
    listed = user.get("/events", params={"limit": 1}).json()["meta"]["nextCursor"]
    assert_problem(user.get(f"/events/{other['id']}/history", params={"cursor": cursor}), "invalid-cursor")
    for wrong in (listed, "nonsense", cursor[:-3]):
        assert_problem(user.get(path, params={"cursor": wrong}), "invalid-cursor")
    assert_problem(user.get("/events", params={"cursor": cursor}), "invalid-cursor")
    assert_problem(user.get(path, params={"limit": 0}), "invalid-request", "/limit")
    # Who may not read it isn't shown more of it by a cursor.
    assert_problem(organization.other.http.get(path, params={"cursor": cursor}), "not-found")
    assert_problem(organization.other.http.get(path, params={"limit": 1}), "not-found")


def test_history_takes_no_other_parameters(organization: Organization) -> None:
    """An unknown one is an error here, too."""
    event = organization.user.create()
    answer = organization.user.http.get(f"/events/{event['id']}/history?page=1")
    assert_problem(answer, "invalid-request", "/page")
