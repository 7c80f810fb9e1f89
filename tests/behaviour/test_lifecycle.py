"""The life of an event: every command, from every state, by everybody."""

from typing import Any

import httpx
import pytest

from tests.support.board import Board, Member, Organization
from tests.support.problems import assert_problem
from tests.support.tables import COMMANDS, TARGETS, put_every_cell

REASON = "Please name a room."


@pytest.fixture
def organization(shared_organization: Organization) -> Organization:
    return shared_organization


def stored(board: Board, organization: Organization) -> dict[str, tuple[str, int, str | None, int]]:
    """Status, version, reason, and the number of history entries, of each event."""
    rows = board.sql(
        "SELECT id::text, status, version, rejection_reason,"
        " (SELECT count(*) FROM events.history AS entry WHERE entry.event_id = event.id)"
        " FROM events.events AS event WHERE organization_id = $1",
        organization.id,
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def send(member: Member, event_id: str, command: str, **headers: str) -> httpx.Response:
    body = {"reason": REASON} if command == "reject" else None
    return member.http.post(f"/events/{event_id}/{command}", json=body, headers=headers)


@pytest.mark.parametrize("command", TARGETS)
def test_command_in_every_cell(board: Board, organization: Organization, command: str) -> None:
    """It is obeyed, or refused as the table says; what is refused leaves no trace."""
    events = put_every_cell(board, organization)
    before = stored(board, organization)
    answers = {cell: send(member, id_, command) for cell, (member, id_) in events.items()}
    assert {cell: answer.status_code for cell, answer in answers.items()} == COMMANDS[command]

    target, after = TARGETS[command], stored(board, organization)
    reason = REASON if command == "reject" else None
    for (caller, state), answer in answers.items():
        id_ = events[caller, state][1]
        if answer.status_code == 200:
            event = answer.json()
            assert (event["status"], event["version"], event["rejectionReason"]) == (target, 2, reason)
            assert answer.headers["etag"] == '"2"'
            assert after[id_] == (target, 2, reason, 2)
        else:
            codes = {403: "forbidden", 404: "not-found", 409: "wrong-state"}
            problem = assert_problem(answer, codes[answer.status_code])
            assert answer.status_code != 409 or state in problem["detail"]
            assert after[id_] == before[id_]


def test_whole_life(organization: Organization) -> None:
    """Rejected, mended, withdrawn, submitted anew, approved, cancelled: each step finds what the last one left."""
    author, moderator = organization.user, organization.moderator
    event = author.create()
    steps: list[tuple[Member, str, str, str | None]] = [
        (author, "submit", "SUBMITTED", None),
        (moderator, "reject", "REJECTED", REASON),
        (author, "submit", "SUBMITTED", None),
        (author, "withdraw", "DRAFT", None),
        (author, "submit", "SUBMITTED", None),
        (moderator, "reject", "REJECTED", REASON),
        (author, "submit", "SUBMITTED", None),
        (moderator, "approve", "APPROVED", None),
        (author, "cancel", "CANCELLED", None),
    ]
    for number, (member, command, status, reason) in enumerate(steps, start=2):
        answer = send(member, event["id"], command)
        assert answer.status_code == 200, answer.text
        read = author.http.get(f"/events/{event['id']}").json()
        assert read == answer.json()
        assert (read["status"], read["rejectionReason"], read["version"]) == (status, reason, number)


def test_rejection_reason_stays_while_the_event_is_edited(organization: Organization) -> None:
    """An author mends what was asked for with the reason in view."""
    event = organization.event_in("REJECTED")
    answer = organization.user.http.patch(f"/events/{event['id']}", json={"location": "Room 4.12"})
    assert (answer.status_code, answer.json()["status"]) == (200, "REJECTED")
    assert answer.json()["rejectionReason"] == event["rejectionReason"] == REASON


def test_reason_of_a_cancellation_is_no_rejection_reason(organization: Organization) -> None:
    """It is told in the history alone."""
    event = organization.event_in("APPROVED")
    answer = organization.user.command(event, "cancel", reason="The room is closed.")
    assert (answer.status_code, answer.json()["rejectionReason"]) == (200, None)


@pytest.mark.parametrize("command", ["submit", "approve", "withdraw", "cancel"])
@pytest.mark.parametrize("body", [b"", b"{}"], ids=["no body", "empty object"])
def test_command_without_a_body(board: Board, organization: Organization, command: str, body: bytes) -> None:
    """These commands say all by their name."""
    state = {"submit": "DRAFT", "approve": "SUBMITTED", "withdraw": "SUBMITTED", "cancel": "APPROVED"}[command]
    author = organization.admin
    (id_,) = board.put([{"author": author, "status": state}])
    headers = {"content-type": "application/json"} if body else {}
    answer = author.http.post(f"/events/{id_}/{command}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, TARGETS[command])


@pytest.mark.parametrize(
    ("command", "body", "pointer"),
    [
        ("submit", {"reason": REASON}, "/reason"),
        ("approve", {"reason": REASON}, "/reason"),
        ("withdraw", {"reason": REASON}, "/reason"),
        ("reject", {}, "/reason"),
        ("reject", {"reason": None}, "/reason"),
        ("reject", {"reason": "Too short"}, "/reason"),
        ("reject", {"reason": "a" * 501}, "/reason"),
        ("reject", {"reason": " " * 20}, "/reason"),
        ("cancel", {"reason": "Too short"}, "/reason"),
        ("cancel", {"reason": 5}, "/reason"),
    ],
)
def test_reason_that_breaks_a_rule(
    organization: Organization, command: str, body: dict[str, Any], pointer: str
) -> None:
    """Only a rejection and a cancellation have reasons, of 10 to 500 characters; judged before the event is found."""
    event = {"id": "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"}
    assert_problem(organization.admin.command(event, command, **body), "invalid-request", pointer)


@pytest.mark.parametrize("reason", ["a" * 10, "ä" * 500, "In two\nlines, please."])
def test_reason_at_its_limits(organization: Organization, reason: str) -> None:
    """Characters count, not bytes; a reason may have lines."""
    event = organization.event_in("SUBMITTED")
    answer = organization.moderator.command(event, "reject", reason=reason)
    assert (answer.status_code, answer.json()["rejectionReason"]) == (200, reason)
