"""Who sees, edits, deletes what; and what anybody who doesn't see it is told."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.problems import assert_problem
from tests.support.tables import CALLERS, RIGHTS, STATES, put_every_cell

Answers = dict[tuple[str, str], httpx.Response]


def ask(
    board: Board, organization: Organization, request: Callable[[Member, str], httpx.Response]
) -> tuple[Answers, dict[tuple[str, str], str]]:
    """The answer in each cell, and the event it was about."""
    events = put_every_cell(board, organization)
    answers = {cell: request(member, id_) for cell, (member, id_) in events.items()}
    return answers, {cell: id_ for cell, (_, id_) in events.items()}


def statuses(answers: Answers) -> dict[tuple[str, str], int]:
    codes = {403: "forbidden", 404: "not-found"}
    for answer in answers.values():
        if answer.status_code in codes:
            assert_problem(answer, codes[answer.status_code])
    return {cell: answer.status_code for cell, answer in answers.items()}


def test_who_sees(board: Board, organization: Organization) -> None:
    """By its id, and on the list: the same."""
    answers, ids = ask(board, organization, lambda member, id_: member.http.get(f"/events/{id_}"))
    assert statuses(answers) == RIGHTS["sees"]
    for (caller, state), answer in answers.items():
        if answer.status_code == 200:
            assert (answer.json()["id"], answer.json()["status"]) == (ids[caller, state], state)

    for caller, (_, who) in CALLERS.items():
        if who == "stranger":
            continue
        page = getattr(organization, who).http.get("/events", params={"limit": 100}).json()
        listed = {event["id"] for event in page["data"]}
        assert page["meta"]["total"] == len(listed)
        for state in STATES:
            assert (ids[caller, state] in listed) == (RIGHTS["sees"][caller, state] == 200), (caller, state)


def test_who_edits(board: Board, organization: Organization) -> None:
    """An edit changes what it names, and neither state nor author."""
    answers, ids = ask(
        board, organization, lambda member, id_: member.http.patch(f"/events/{id_}", json={"title": "Another title"})
    )
    assert statuses(answers) == RIGHTS["edits"]
    rows = board.sql(
        "SELECT id::text, title, status, version, created_by_id FROM events.events WHERE organization_id = $1",
        organization.id,
    )
    stored = {row[0]: row[1:] for row in rows}
    for (caller, state), status in RIGHTS["edits"].items():
        author = getattr(organization, CALLERS[caller][0])
        title, version = ("Another title", 2) if status == 200 else (EVENT["title"], 1)
        assert stored[ids[caller, state]] == (title, state, version, author.id), (caller, state)


def test_who_edits_nothing(board: Board, organization: Organization) -> None:
    """A patch that changes nothing is refused to whom an edit is."""
    answers, _ = ask(board, organization, lambda member, id_: member.http.patch(f"/events/{id_}", json={}))
    assert statuses(answers) == RIGHTS["edits"]


def test_who_deletes(board: Board, organization: Organization) -> None:
    """What was deleted is gone, and what wasn't is there."""
    answers, ids = ask(board, organization, lambda member, id_: member.http.delete(f"/events/{id_}"))
    assert statuses(answers) == RIGHTS["deletes"]
    rows = board.sql("SELECT id::text FROM events.events WHERE organization_id = $1", organization.id)
    left = {row[0] for row in rows}
    for cell, status in RIGHTS["deletes"].items():
        assert (ids[cell] in left) == (status != 204), cell


def test_who_reads_the_history(board: Board, organization: Organization) -> None:
    """It tells what moderators said to the author, and to nobody else."""
    answers, _ = ask(board, organization, lambda member, id_: member.http.get(f"/events/{id_}/history"))
    assert statuses(answers) == RIGHTS["reads the history of"]


# Every operation on one event, as a request that would be right.
ON_ONE: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "read": ("GET", "", None),
    "edit": ("PATCH", "", {"title": "Another title"}),
    "delete": ("DELETE", "", None),
    "submit": ("POST", "/submit", None),
    "approve": ("POST", "/approve", None),
    "reject": ("POST", "/reject", {"reason": "Please name a room."}),
    "withdraw": ("POST", "/withdraw", None),
    "cancel": ("POST", "/cancel", None),
    "history": ("GET", "/history", None),
}


@pytest.mark.parametrize("operation", ON_ONE)
def test_invisible_is_as_absent(board: Board, organization: Organization, operation: str) -> None:
    """Another organization's event, a stranger's draft and an id that never was: one answer, byte for byte."""
    method, path, body = ON_ONE[operation]
    stranger = board.organization().admin
    drafts = board.put([{"author": organization.user, "status": "DRAFT"}])

    def answer(member: Member, id_: str) -> httpx.Response:
        headers = {"x-correlation-id": "the-same"}
        return member.http.request(method, f"/events/{id_}{path}", json=body, headers=headers)

    absent = answer(stranger, str(uuid4()))
    assert_problem(absent, "not-found")
    for found in (answer(stranger, drafts[0]), answer(organization.other, drafts[0]), answer(stranger, "no-uuid")):
        assert found.status_code == absent.status_code
        assert found.content == absent.content
        assert comparable(found) == comparable(absent)


# By nature, between any two answers.
DIFFERING = {"date", "ratelimit", "server-timing"}


def comparable(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.multi_items() if name not in DIFFERING]


def test_author_who_left_and_came_back_in_another_organization(board: Board, organization: Organization) -> None:
    """Authorship counts within the event's organization: the same person elsewhere sees nothing."""
    elsewhere = board.organization()
    event = organization.user.create()
    board.sql(
        "INSERT INTO auth.memberships (organization_id, user_id, role) VALUES ($1, $2, 'ADMIN')",
        elsewhere.id,
        organization.user.id,
    )
    answer = board.client().post(
        "/auth/login",
        json={"email": organization.user.email, "password": PASSWORD, "organizationId": str(elsewhere.id)},
    )
    there = board.client(answer.json()["accessToken"])
    assert_problem(there.get(f"/events/{event['id']}"), "not-found")
    assert there.get("/events").json()["data"] == []
    assert organization.user.http.get(f"/events/{event['id']}").status_code == 200
