"""Several write one event at once: one wins, the others are told, and the history tells who it was."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.board import Board, Organization
from tests.support.crowd import Call, Crowd, Reply, crowd

CLIENTS = 20
REASON = {"reason": "Please name a room."}


@pytest.fixture
def clients(board: Board) -> Iterator[Crowd]:
    with crowd(board.url, CLIENTS) as everybody:
        yield everybody


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Who comes first is mixed, in the same way each time."""
    return random.Random(request.node.name)


Story = list[tuple[int, str, str | None, str]]


def stories(board: Board, organization: Organization) -> dict[str, Story]:
    """Version, action, status and correlation id of each entry of each event's history."""
    found: dict[str, Story] = {}
    for row in board.sql(
        "SELECT event_id::text, version, action, status, correlation_id FROM events.history"
        " WHERE organization_id = $1 ORDER BY event_id, version",
        organization.id,
    ):
        found.setdefault(row[0], []).append((row[1], row[2], row[3], row[4]))
    return found


def events(board: Board, organization: Organization) -> dict[str, dict[str, Any]]:
    rows = board.sql("SELECT * FROM events.events WHERE organization_id = $1", organization.id)
    return {str(row["id"]): dict(row) for row in rows}


def assert_consistent(board: Board, organization: Organization) -> dict[str, Story]:
    """Every history runs without a gap, and in time, to the event as it is, or to its deletion."""
    told, stored = stories(board, organization), events(board, organization)
    back_in_time = board.sql(
        "SELECT * FROM (SELECT *, lag(at) OVER (PARTITION BY event_id ORDER BY version) AS before FROM events.history"
        " WHERE organization_id = $1) AS entry WHERE at < before",
        organization.id,
    )
    assert back_in_time == []
    for event_id, story in told.items():
        assert [version for version, *_ in story] == list(range(1, len(story) + 1))
        version, action, status, _ = story[-1]
        if action == "delete":
            assert event_id not in stored
        else:
            assert (stored[event_id]["version"], stored[event_id]["status"]) == (version, status)
    tallies = board.sql(
        "SELECT status, sum(events) FROM events.tallies WHERE organization_id = $1 GROUP BY status"
        " HAVING sum(events) <> 0",
        organization.id,
    )
    assert dict(map(tuple, tallies)) == Counter(event["status"] for event in stored.values())
    return told


def winner(replies: list[Reply], refusals: set[int]) -> int:
    """Which call succeeded, where exactly one did and the others got one of `refusals`."""
    won = [number for number, reply in enumerate(replies) if reply.status in (200, 204)]
    statuses = Counter(reply.status for reply in replies)
    assert len(won) == 1, statuses
    assert statuses.keys() - {200, 204} <= refusals, statuses
    return won[0]


@pytest.mark.parametrize(
    ("rounds", "if_match"), [(200, False), (50, True)], ids=["whatever it is now", "as it was read"]
)
def test_approving_and_rejecting(
    board: Board, organization: Organization, clients: Crowd, chance: random.Random, rounds: int, if_match: bool
) -> None:
    """One of twenty wins each time; the others hear of the state, or of the version where they named one."""
    ids = board.put([{"author": organization.user, "status": "SUBMITTED"}] * rounds)
    won: dict[str, tuple[str, str]] = {}
    for event_id in ids:
        calls = [
            Call(
                chance.choice([organization.moderator, organization.admin]),
                "POST",
                f"/events/{event_id}/{command}",
                REASON if command == "reject" else None,
                {"x-correlation-id": f"{command}-{number}", **({"if-match": '"1"'} if if_match else {})},
            )
            for number, command in enumerate(["approve", "reject"] * (CLIENTS // 2))
        ]
        chance.shuffle(calls)
        replies = clients.at_once(calls)
        first = winner(replies, {412} if if_match else {409})
        won[event_id] = (replies[first].body["status"], calls[first].headers["x-correlation-id"])
        for reply in replies:
            assert reply.status != 409 or won[event_id][0] in reply.body["detail"]

    told = assert_consistent(board, organization)
    for event_id, (status, correlation_id) in won.items():
        action = correlation_id.split("-")[0]
        assert told[event_id][1:] == [(2, action, status, correlation_id)]


def test_editing_the_version_that_was_read(board: Board, organization: Organization, clients: Crowd) -> None:
    """One edit counts, and no other overwrites it."""
    for event_id in board.put([{"author": organization.user, "status": "DRAFT"}] * 20):
        calls = [
            Call(organization.user, "PATCH", f"/events/{event_id}", {"title": f"Title {number}"}, {"if-match": '"1"'})
            for number in range(CLIENTS)
        ]
        first = winner(clients.at_once(calls), {412})
        assert organization.user.http.get(f"/events/{event_id}").json()["title"] == f"Title {first}"
    assert_consistent(board, organization)


def test_editing_whatever_it_is_now(board: Board, organization: Organization, clients: Crowd) -> None:
    """Every edit counts, one after the other: no two are answered with the same version, and none gets lost."""
    for event_id in board.put([{"author": organization.user, "status": "DRAFT"}] * 10):
        calls = [
            Call(organization.user, "PATCH", f"/events/{event_id}", {"title": f"Title {number}"})
            for number in range(CLIENTS)
        ]
        replies = clients.at_once(calls)
        assert [reply.status for reply in replies] == [200] * CLIENTS
        by_version = {reply.body["version"]: reply.body for reply in replies}
        assert sorted(by_version) == list(range(2, CLIENTS + 2))
        assert organization.user.http.get(f"/events/{event_id}").json() == by_version[CLIENTS + 1]
    assert_consistent(board, organization)


def test_editing_different_fields(board: Board, organization: Organization, clients: Crowd) -> None:
    """A merge patch writes what it names: what others write at the same time stays."""
    fields = {
        "title": "Another title",
        "description": "Something else entirely.",
        "location": "Cellar",
        "startDate": "2027-03-01T17:00:00Z",
        "endDate": "2027-03-01T23:00:00Z",
        "timeZone": "Asia/Tokyo",
    }
    for event_id in board.put([{"author": organization.user, "status": "DRAFT"}] * 20):
        calls = [
            Call(organization.user, "PATCH", f"/events/{event_id}", {name: value}) for name, value in fields.items()
        ]
        assert [reply.status for reply in clients.at_once(calls)] == [200] * len(fields)
        event = organization.user.http.get(f"/events/{event_id}").json()
        assert {name: event[name] for name in fields} == fields
    assert_consistent(board, organization)


def test_submitting_and_deleting(
    board: Board, organization: Organization, clients: Crowd, chance: random.Random
) -> None:
    """An author's draft is submitted or deleted, never both: what is submitted, its author can't delete."""
    seen = set()
    for event_id in board.put([{"author": organization.user, "status": "DRAFT"}] * 100):
        calls = [
            Call(organization.user, "POST", f"/events/{event_id}/submit"),
            Call(organization.user, "DELETE", f"/events/{event_id}"),
        ]
        chance.shuffle(calls)
        replies = clients.at_once(calls)
        first = winner(replies, {403, 404})
        deleted = calls[first].method == "DELETE"
        assert replies[1 - first].status == (404 if deleted else 403)
        seen.add(deleted)
    assert seen == {True, False}
    assert_consistent(board, organization)


def test_approving_and_deleting(
    board: Board, organization: Organization, clients: Crowd, chance: random.Random
) -> None:
    """An ADMIN deletes in any state: an approval before it counts, and after it finds nothing."""
    for event_id in board.put([{"author": organization.user, "status": "SUBMITTED"}] * 100):
        calls = [
            Call(organization.moderator, "POST", f"/events/{event_id}/approve"),
            Call(organization.admin, "DELETE", f"/events/{event_id}"),
        ]
        chance.shuffle(calls)
        replies = dict(zip((call.method for call in calls), clients.at_once(calls), strict=True))
        assert replies["DELETE"].status == 204
        assert replies["POST"].status in (200, 404)
    for story in assert_consistent(board, organization).values():
        assert [action for _, action, *_ in story] in (["create", "delete"], ["create", "approve", "delete"])


def test_approving_and_deleting_what_was_read(
    board: Board, organization: Organization, clients: Crowd, chance: random.Random
) -> None:
    """With the version named, one of the two happens."""
    for event_id in board.put([{"author": organization.user, "status": "SUBMITTED"}] * 50):
        calls = [
            Call(organization.moderator, "POST", f"/events/{event_id}/approve", headers={"if-match": '"1"'}),
            Call(organization.admin, "DELETE", f"/events/{event_id}", headers={"if-match": '"1"'}),
        ]
        chance.shuffle(calls)
        winner(clients.at_once(calls), {404, 412})
    assert_consistent(board, organization)


def test_withdrawing_and_approving(
    board: Board, organization: Organization, clients: Crowd, chance: random.Random
) -> None:
    """What its author has taken back isn't approved, and what is approved can't be taken back."""
    for event_id in board.put([{"author": organization.user, "status": "SUBMITTED"}] * 50):
        calls = [
            Call(organization.user, "POST", f"/events/{event_id}/withdraw"),
            Call(organization.moderator, "POST", f"/events/{event_id}/approve"),
        ]
        chance.shuffle(calls)
        winner(clients.at_once(calls), {409})
    assert_consistent(board, organization)


def test_deleting(board: Board, organization: Organization, clients: Crowd) -> None:
    """One deletes it; to the others it isn't there."""
    for event_id in board.put([{"author": organization.user, "status": "DRAFT"}] * 20):
        calls = [Call(organization.user, "DELETE", f"/events/{event_id}") for _ in range(CLIENTS)]
        winner(clients.at_once(calls), {404})
    assert_consistent(board, organization)


def test_creating(board: Board, organization: Organization, clients: Crowd) -> None:
    """Each is an event of its own."""
    body = {
        "title": "Chess night",
        "description": "Bring a board and a friend.",
        "startDate": "2027-03-01T18:00:00Z",
        "endDate": "2027-03-01T21:00:00Z",
    }
    replies = [
        reply
        for _ in range(10)
        for reply in clients.at_once([Call(organization.user, "POST", "/events", body) for _ in range(CLIENTS)])
    ]
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["id"] for reply in replies}) == len(replies) == len(events(board, organization))
    assert_consistent(board, organization)
