"""lifecycle.py says what docs/api.md says, cell by cell."""

from itertools import product
from uuid import UUID

import pytest

from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events import lifecycle
from eventboard.modules.events.contract import Action, Status
from tests.support.tables import CALLERS, COMMANDS, RIGHTS, STATES, TARGETS, Cells

ROLES = {"user": Role.USER, "other": Role.USER, "moderator": Role.MODERATOR, "admin": Role.ADMIN}
IDS = {name: UUID(int=number) for number, name in enumerate(ROLES)}

# The pure table knows one organization: a stranger never gets as far as to it.
MEMBERS = {caller: who for caller, who in CALLERS.items() if who[1] != "stranger"}


def principal(name: str) -> Principal:
    return Principal(IDS[name], UUID(int=100), ROLES[name], name, UUID(int=101), 0)


def within(table: Cells) -> Cells:
    return {(caller, state): status for (caller, state), status in table.items() if caller in MEMBERS}


def test_states_and_commands_are_all_there() -> None:
    """A state or a command that api.md doesn't have would be in no other test."""
    assert set(Status) == set(STATES)
    assert set(lifecycle.TRANSITIONS) == set(TARGETS)
    assert lifecycle.INITIAL == "DRAFT"


@pytest.mark.parametrize("command", TARGETS)
def test_commands(command: str) -> None:
    """Who may command what in which state, and where it leads."""

    def status(caller: str, state: str) -> int:
        author, who = MEMBERS[caller]
        if not lifecycle.may_see(principal(who), IDS[author], Status(state)):
            return 404
        if not lifecycle.may_command(principal(who), IDS[author], Action(command)):
            return 403
        return 200 if Status(state) in lifecycle.TRANSITIONS[Action(command)].sources else 409

    found = {(caller, state): status(caller, state) for caller, state in product(MEMBERS, STATES)}
    assert found == within(COMMANDS[command])
    assert lifecycle.TRANSITIONS[Action(command)].target == TARGETS[command]


@pytest.mark.parametrize(
    ("right", "rule", "granted"),
    [
        ("sees", lifecycle.may_see, 200),
        ("edits", lifecycle.may_edit, 200),
        ("deletes", lifecycle.may_delete, 204),
        ("reads the history of", lifecycle.may_read_history, 200),
    ],
    ids=["sees", "edits", "deletes", "history"],
)
def test_rights(right: str, rule: lifecycle.Rule, granted: int) -> None:
    """Who may do what with an event in which state; what isn't seen isn't there."""

    def status(caller: str, state: str) -> int:
        author, who = MEMBERS[caller]
        if not lifecycle.may_see(principal(who), IDS[author], Status(state)):
            return 404
        return granted if rule(principal(who), IDS[author], Status(state)) else 403

    found = {(caller, state): status(caller, state) for caller, state in product(MEMBERS, STATES)}
    assert found == within(RIGHTS[right])
