"""Who may do what: every caller, event and operation, generated from the contract and judged by a small oracle.

The oracle says in its own words what docs/api.md says, and shares nothing with lifecycle.py: both would have to be
wrong in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from uuid import uuid4

import httpx

from eventboard.identity.access_tokens import Role
from eventboard.modules.events.contract import Action, Status
from tests.support.board import EVENT, Board, Member, Organization
from tests.support.problems import assert_problem

NOBODY = "nobody"
CALLERS = (*(role.value for role in Role), NOBODY)
STATES = tuple(status.value for status in Status)
REASON = {"reason": "Please name a room."}
TITLE = {"title": "Another title"}
# The way to look for an event, beside its id.
LISTS = {"list": {}, "search": {"search": EVENT["title"]}}
# Method, what follows the event's path, body.
ON_ONE: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "read": ("GET", "", None),
    "history": ("GET", "/history", None),
    Action.UPDATE: ("PATCH", "", TITLE),
    Action.DELETE: ("DELETE", "", None),
    **{
        command: ("POST", f"/{command}", REASON if command is Action.REJECT else None)
        for command in Action
        if command not in (Action.CREATE, Action.UPDATE, Action.DELETE)
    },
}
# What differs from answer to answer by nature.
_BY_NATURE = {"date", "server-timing", "traceparent", "ratelimit", "ratelimit-policy"}


@dataclass(frozen=True)
class Cell:
    """`here`: whether the event is of the organization that the caller's token is for."""

    caller: str
    own: bool
    here: bool
    status: str
    operation: str


def cells() -> Iterator[Cell]:
    for caller, own, here, status, operation in product(
        CALLERS, (True, False), (True, False), STATES, (*LISTS, *ON_ONE)
    ):
        if not (caller == NOBODY and own):
            yield Cell(caller, own, here, status, operation)


def expected(cell: Cell) -> int:
    """The status of the answer; for a list, 200 where the event is on it and 404 where it isn't."""
    if cell.caller == NOBODY:
        return 401
    decides = cell.caller in ("MODERATOR", "ADMIN")
    if not cell.here or not (cell.own or decides or cell.status in ("APPROVED", "CANCELLED")):
        return 404
    allowed, wrong_state, done = _RULES.get(cell.operation, _reading)(cell)
    if not allowed:
        return 403
    return 409 if wrong_state else done


def _reading(_: Cell) -> tuple[bool, bool, int]:
    return True, False, 200


def _history(cell: Cell) -> tuple[bool, bool, int]:
    return cell.own or cell.caller != "USER", False, 200


def _update(cell: Cell) -> tuple[bool, bool, int]:
    if cell.caller == "ADMIN":
        return True, False, 200
    if cell.own:
        return cell.status in ("DRAFT", "REJECTED"), False, 200
    return cell.caller == "MODERATOR" and cell.status in ("SUBMITTED", "APPROVED"), False, 200


def _delete(cell: Cell) -> tuple[bool, bool, int]:
    return cell.caller == "ADMIN" or (cell.own and cell.status == "DRAFT"), False, 204


def _authors(*states: str) -> Callable[[Cell], tuple[bool, bool, int]]:
    return lambda cell: (cell.own, cell.status not in states, 200)


def _deciders(cell: Cell) -> tuple[bool, bool, int]:
    return cell.caller in ("MODERATOR", "ADMIN"), cell.status != "SUBMITTED", 200


def _cancel(cell: Cell) -> tuple[bool, bool, int]:
    return cell.own or cell.caller == "ADMIN", cell.status != "APPROVED", 200


_RULES: dict[str, Callable[[Cell], tuple[bool, bool, int]]] = {
    "history": _history,
    "update": _update,
    "delete": _delete,
    "submit": _authors("DRAFT", "REJECTED"),
    "withdraw": _authors("SUBMITTED"),
    "approve": _deciders,
    "reject": _deciders,
    "cancel": _cancel,
}
_LEADS_TO = {
    "submit": "SUBMITTED",
    "withdraw": "DRAFT",
    "approve": "APPROVED",
    "reject": "REJECTED",
    "cancel": "CANCELLED",
}


def walk(board: Board) -> int:
    """Every cell over HTTP, with an event of its own; then what became of the events. Returns how many cells."""
    here, there = board.organization(), board.organization()
    http = {**{role: _member(here, role).http for role in CALLERS if role != NOBODY}, NOBODY: board.client()}
    every = list(cells())
    ids = dict(zip(every, board.put([_event(cell, here, there) for cell in every]), strict=True))
    listed = {(caller, name): _listed(http[caller], LISTS[name]) for caller, name in product(CALLERS, LISTS)}
    absent = {(caller, name): _send(http[caller], str(uuid4()), name) for caller, name in product(CALLERS, ON_ONE)}
    for cell in every:
        wanted = expected(cell)
        if cell.operation in LISTS:
            found = listed[cell.caller, cell.operation]
            assert (401 if found is None else 200 if ids[cell] in found else 404) == wanted, cell
            continue
        answer = _send(http[cell.caller], ids[cell], cell.operation)
        assert answer.status_code == wanted, (cell, answer.text)
        if wanted == 404:
            assert as_seen(answer) == as_seen(absent[cell.caller, cell.operation]), cell
        elif wanted >= 400:
            assert_problem(answer, {401: "invalid-token", 403: "forbidden", 409: "wrong-state"}[wanted])
    _look_at(board, (here, there), ids)
    return len(every)


def as_seen(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a client can tell an answer by. Whoever compares two sends both with one correlation id."""
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _BY_NATURE]
    return answer.status_code, headers, answer.content


def _member(organization: Organization, role: str) -> Member:
    member: Member = getattr(organization, role.lower())
    return member


def _event(cell: Cell, here: Organization, there: Organization) -> dict[str, Any]:
    """The caller's own ones of the other organization are of when they were a member there."""
    author = _member(here, cell.caller) if cell.own else here.other
    organization = here if cell.here else there
    return {"author": replace(author, organization_id=organization.id), "status": cell.status}


def _send(http: httpx.Client, event_id: str, operation: str) -> httpx.Response:
    method, rest, body = ON_ONE[operation]
    headers = {"x-correlation-id": "matrix"}
    return http.request(method, f"/events/{event_id}{rest}", json=body, headers=headers)


def _listed(http: httpx.Client, query: dict[str, str]) -> set[str] | None:
    """The ids on all pages; None for whom is refused."""
    found: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        answer = http.get("/events", params={"limit": 100, **query, **cursor})
        if answer.status_code == 401:
            return None
        page = answer.json()
        found |= {event["id"] for event in page["data"]}
        if page["meta"]["nextCursor"] is None:
            assert len(found) == page["meta"]["total"]
            return found
        cursor = {"cursor": page["meta"]["nextCursor"]}


def _look_at(board: Board, organizations: tuple[Organization, Organization], ids: dict[Cell, str]) -> None:
    """What was allowed has happened, once; what was refused left no trace."""
    rows = board.sql(
        "SELECT id::text, status, version, title FROM events.events WHERE organization_id = ANY ($1)",
        [organization.id for organization in organizations],
    )
    stored = {row["id"]: tuple(row)[1:] for row in rows}
    for cell, id_ in ids.items():
        done = expected(cell) in (200, 204)
        if done and cell.operation == "delete":
            assert id_ not in stored, cell
        elif done and cell.operation == "update":
            assert stored[id_] == (cell.status, 2, TITLE["title"]), cell
        elif done and cell.operation in _LEADS_TO:
            assert stored[id_] == (_LEADS_TO[cell.operation], 2, EVENT["title"]), cell
        else:
            assert stored[id_] == (cell.status, 1, EVENT["title"]), cell
