"""What is checked before anything is done, and in which order; entity tags."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, Board, Member, Organization
from tests.support.problems import assert_problem

REASON = {"reason": "Please name a room."}


@dataclass
class Operation:
    """A write on one event; `right` is a body that it takes, `wrong` one that it doesn't."""

    method: str
    path: str
    right: dict[str, Any] | None
    wrong: bytes | None
    success: int = 200

    def send(
        self, http: httpx.Client, event_id: str, *, wrong: bool = False, if_match: str | None = None
    ) -> httpx.Response:
        path = f"/events/{event_id}{self.path}"
        headers = {} if if_match is None else {"if-match": if_match}
        if not wrong:
            return http.request(self.method, path, json=self.right, headers=headers)
        if self.wrong is None:  # a deletion has no body: its precondition is what can be wrong
            return http.request(self.method, path, headers={"if-match": "unquoted"})
        return http.request(self.method, path, content=self.wrong, headers={"content-type": "application/json"})


OPERATIONS = {
    "edit": Operation("PATCH", "", {"title": "Another title"}, b'{"title": 5}'),
    "delete": Operation("DELETE", "", None, None, 204),
    "submit": Operation("POST", "/submit", None, b'{"force": true}'),
    "approve": Operation("POST", "/approve", None, b'{"force": true}'),
    "reject": Operation("POST", "/reject", REASON, b'{"reason": "No."}'),
    "withdraw": Operation("POST", "/withdraw", None, b'{"force": true}'),
    "cancel": Operation("POST", "/cancel", None, b'{"reason": "No."}'),
}
# The state in which everything else is right for an ADMIN who is the author.
STATES = {
    "edit": "DRAFT",
    "delete": "DRAFT",
    "submit": "DRAFT",
    "approve": "SUBMITTED",
    "reject": "SUBMITTED",
    "withdraw": "SUBMITTED",
    "cancel": "APPROVED",
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)
each_command = pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("edit", "delete")])


@pytest.fixture
def organization(shared_organization: Organization) -> Organization:
    return shared_organization


def put(board: Board, author: Member, state: str) -> str:
    return board.put([{"author": author, "status": state}])[0]


@each_operation
def test_token_before_content(board: Board, name: str) -> None:
    """401 before 400: who doesn't say who they are learns nothing about the request."""
    assert_problem(OPERATIONS[name].send(board.client(), str(uuid4()), wrong=True), "invalid-token")


@each_operation
def test_content_before_existence(organization: Organization, name: str) -> None:
    """400 before 404."""
    assert_problem(OPERATIONS[name].send(organization.admin.http, str(uuid4()), wrong=True), "invalid-request")


@each_operation
def test_content_before_a_malformed_id(organization: Organization, name: str) -> None:
    """400 before 404, for a text that is no id, too."""
    assert_problem(OPERATIONS[name].send(organization.admin.http, "no-uuid", wrong=True), "invalid-request")


@each_operation
def test_existence_before_permission(board: Board, organization: Organization, name: str) -> None:
    """404 before 403: a member isn't told that there is an event which they may not see."""
    invisible = put(board, organization.user, "SUBMITTED")
    assert_problem(OPERATIONS[name].send(organization.other.http, invisible), "not-found")


@each_operation
def test_existence_before_the_version(organization: Organization, name: str) -> None:
    """404 before 412, for `*` as well."""
    for tags in ('"1"', "*"):
        answer = OPERATIONS[name].send(organization.admin.http, str(uuid4()), if_match=tags)
        assert_problem(answer, "not-found")


@each_operation
def test_permission_before_the_version(board: Board, organization: Organization, name: str) -> None:
    """403 before 412."""
    public = put(board, organization.user, "CANCELLED")
    answer = OPERATIONS[name].send(organization.other.http, public, if_match='"99"')
    assert_problem(answer, "forbidden")


@each_command
def test_version_before_the_state(board: Board, organization: Organization, name: str) -> None:
    """412 before 409: who has read another version is told so first."""
    author, other_state = organization.admin, "CANCELLED"
    event_id = put(board, author, other_state)
    assert_problem(OPERATIONS[name].send(author.http, event_id, if_match='"99"'), "version-changed")
    problem = assert_problem(OPERATIONS[name].send(author.http, event_id, if_match='"1"'), "wrong-state")
    assert other_state in problem["detail"]


def test_version_before_dates(board: Board, organization: Organization) -> None:
    """412 before what only the event itself shows to be wrong: the dates a patch is judged with may be others now."""
    event_id, patch = put(board, organization.user, "DRAFT"), {"endDate": "2000-01-01T00:00:00Z"}
    edit = Operation("PATCH", "", patch, None)
    assert_problem(edit.send(organization.user.http, event_id, if_match='"2"'), "version-changed")
    assert_problem(edit.send(organization.user.http, event_id, if_match='"1"'), "invalid-request", "/endDate")


# The event is at version 1.
MATCHING = ['"1"', '"7", "1"', '"1","7"', '"1",', ', "1"', '"7",, "1"', 'W/"1", "1"', "*"]
OTHER = ['"2"', '"01"', '"1.0"', '"+1"', '"one"', '""', '"*"', 'W/"1"', 'W/"1", "2"', '"18446744073709551617"', ""]
MALFORMED = ["," + " " * 30_000 + ";", "1", '"1', '1"', '"1" "2"', '"1", *', "*, *", 'w/"1"', "W/1", '"a b"', ";"]


@each_operation
@pytest.mark.parametrize("tags", ['"1"', "*"])
def test_if_match_of_the_version_that_was_read(board: Board, organization: Organization, name: str, tags: str) -> None:
    """The write happens."""
    event_id = put(board, organization.admin, STATES[name])
    answer = OPERATIONS[name].send(organization.admin.http, event_id, if_match=tags)
    assert answer.status_code == OPERATIONS[name].success, answer.text


@each_operation
@pytest.mark.parametrize("tags", ['"2"', 'W/"1"'])
def test_if_match_of_another_version(board: Board, organization: Organization, name: str, tags: str) -> None:
    """Nothing happens; a weak tag matches nothing, for a write must be exact."""
    event_id = put(board, organization.admin, STATES[name])
    answer = OPERATIONS[name].send(organization.admin.http, event_id, if_match=tags)
    assert_problem(answer, "version-changed")
    assert organization.admin.http.get(f"/events/{event_id}").json()["version"] == 1


@pytest.mark.parametrize(
    ("tags", "status"),
    [(tags, 200) for tags in MATCHING] + [(tags, 412) for tags in OTHER] + [(tags, 400) for tags in MALFORMED],
    ids=lambda value: value[:20] or "empty" if isinstance(value, str) else None,
)
def test_if_match_as_rfc_9110_writes_it(board: Board, organization: Organization, tags: str, status: int) -> None:
    """One tag, a list of them (also with empty places), or `*`; a tag that was never given out is another version's."""
    event_id = put(board, organization.user, "DRAFT")
    answer = organization.user.http.patch(f"/events/{event_id}", json={}, headers={"if-match": tags})
    if status == 200:
        assert answer.status_code == 200, answer.text
    else:
        assert_problem(answer, {412: "version-changed", 400: "invalid-request"}[status])


def test_if_match_in_two_headers(board: Board, organization: Organization) -> None:
    """Two headers are one list."""
    event_id = put(board, organization.user, "DRAFT")
    headers = [("if-match", '"7"'), ("if-match", '"1"')]
    assert organization.user.http.patch(f"/events/{event_id}", json={}, headers=headers).status_code == 200


def test_entity_tag_is_on_every_answer_with_one_event(organization: Organization) -> None:
    """It changes with the event, and names the version that the body shows."""
    http = organization.admin.http
    created = http.post("/events", json=EVENT)
    path = f"/events/{created.json()['id']}"
    assert created.headers["location"] == path
    answers = [
        created,
        http.patch(path, json={"title": "Another title"}),
        *(http.post(f"{path}/{command}") for command in ("submit", "withdraw", "submit")),
        http.post(f"{path}/reject", json=REASON),
        *(http.post(f"{path}/{command}") for command in ("submit", "approve", "cancel")),
        http.get(path),
    ]
    versions = [answer.json()["version"] for answer in answers]
    assert versions == [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert [answer.headers["etag"] for answer in answers] == [f'"{version}"' for version in versions]


@pytest.mark.parametrize("tags", ['"1"', 'W/"1"', '"7", "1"', 'W/"7", W/"1"', "*"])
def test_if_none_match_of_what_the_client_has(board: Board, organization: Organization, tags: str) -> None:
    """304, without a body, with the tag: reading may compare weakly."""
    event_id = put(board, organization.user, "DRAFT")
    answer = organization.user.http.get(f"/events/{event_id}", headers={"if-none-match": tags})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    assert "content-type" not in answer.headers
    assert answer.headers["x-correlation-id"]


@pytest.mark.parametrize("tags", ['"2"', 'W/"2"', '"*"', '"01"', ""])
def test_if_none_match_of_something_else(board: Board, organization: Organization, tags: str) -> None:
    """The event, as without it."""
    event_id = put(board, organization.user, "DRAFT")
    plain = organization.user.http.get(f"/events/{event_id}")
    answer = organization.user.http.get(f"/events/{event_id}", headers={"if-none-match": tags})
    assert (answer.status_code, answer.content) == (200, plain.content)


@pytest.mark.parametrize("event_id", ["there", "absent", "no-uuid"])
def test_malformed_if_none_match(board: Board, organization: Organization, event_id: str) -> None:
    """400, before the event is looked for."""
    if event_id == "there":
        event_id = put(board, organization.user, "DRAFT")
    elif event_id == "absent":
        event_id = str(uuid4())
    answer = organization.user.http.get(f"/events/{event_id}", headers={"if-none-match": "unquoted"})
    assert_problem(answer, "invalid-request")


def test_moderator_approves_what_was_read_or_nothing(organization: Organization) -> None:
    """An author who withdraws, changes and submits again isn't approved unseen."""
    author, moderator = organization.user, organization.moderator
    event = organization.event_in("SUBMITTED")
    path = f"/events/{event['id']}"
    read = moderator.http.get(path)
    author.command(event, "withdraw")
    author.http.patch(path, json={"title": "Something else entirely"})
    author.command(event, "submit")
    stale = moderator.http.post(f"{path}/approve", headers={"if-match": read.headers["etag"]})
    assert_problem(stale, "version-changed")
    fresh = moderator.http.get(path)
    answer = moderator.http.post(f"{path}/approve", headers={"if-match": fresh.headers["etag"]})
    assert (answer.status_code, answer.json()["title"]) == (200, "Something else entirely")
