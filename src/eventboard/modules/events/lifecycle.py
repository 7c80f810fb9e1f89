"""The life of an event and who may do what: the two tables of docs/api.md, as data.

Nothing here reads a clock, a database or a request.
"""

from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from eventboard.modules.events.contract import Action, Status
from eventboard.platform.identity import Principal, Role


class Who(StrEnum):
    """The author, or any member of that role, of the event's own organization."""

    AUTHOR = "author"
    USER = Role.USER.value
    MODERATOR = Role.MODERATOR.value
    ADMIN = Role.ADMIN.value


class Transition(Struct, frozen=True):
    sources: frozenset[Status]
    by: frozenset[Who]
    target: Status


S, A, W = Status, Action, Who

FIRST = S.DRAFT  # what a new event is

# command            from                              who                             to
TRANSITIONS: dict[Action, Transition] = {
    A.SUBMIT: Transition(frozenset({S.DRAFT, S.REJECTED}), frozenset({W.AUTHOR}), S.SUBMITTED),
    A.APPROVE: Transition(frozenset({S.SUBMITTED}), frozenset({W.MODERATOR, W.ADMIN}), S.APPROVED),
    A.REJECT: Transition(frozenset({S.SUBMITTED}), frozenset({W.MODERATOR, W.ADMIN}), S.REJECTED),
    A.WITHDRAW: Transition(frozenset({S.SUBMITTED}), frozenset({W.AUTHOR}), S.DRAFT),
    A.CANCEL: Transition(frozenset({S.APPROVED}), frozenset({W.AUTHOR, W.ADMIN}), S.CANCELLED),
}

EVERY = frozenset(Status)
NONE: frozenset[Status] = frozenset()
PUBLIC = frozenset({S.APPROVED, S.CANCELLED})  # what every member of the organization sees
UNFINISHED = frozenset({S.DRAFT, S.REJECTED})  # what its author still works on


class Rights(Struct, frozen=True):
    """The states in which a member of some role may do something, with events of their own and with others'."""

    own: frozenset[Status]
    others: frozenset[Status]


#                                     own         others'
SEES: dict[Role, Rights] = {
    Role.USER: Rights(EVERY, PUBLIC),
    Role.MODERATOR: Rights(EVERY, EVERY),
    Role.ADMIN: Rights(EVERY, EVERY),
}
EDITS: dict[Role, Rights] = {
    Role.USER: Rights(UNFINISHED, NONE),
    Role.MODERATOR: Rights(UNFINISHED, frozenset({S.SUBMITTED, S.APPROVED})),
    Role.ADMIN: Rights(EVERY, EVERY),
}
DELETES: dict[Role, Rights] = {
    Role.USER: Rights(frozenset({S.DRAFT}), NONE),
    Role.MODERATOR: Rights(frozenset({S.DRAFT}), NONE),
    Role.ADMIN: Rights(EVERY, EVERY),
}
# The history tells what moderators said to the author: others who see the event don't read it.
READS_HISTORY: dict[Role, Rights] = {
    Role.USER: Rights(EVERY, NONE),
    Role.MODERATOR: Rights(EVERY, EVERY),
    Role.ADMIN: Rights(EVERY, EVERY),
}

Judge = Callable[[Principal, UUID, Status], bool]


def _allows(table: dict[Role, Rights]) -> Judge:
    def judge(caller: Principal, author_id: UUID, status: Status) -> bool:
        rights = table[caller.role]
        return status in (rights.own if caller.user_id == author_id else rights.others)

    return judge


sees = _allows(SEES)
may_edit = _allows(EDITS)
may_delete = _allows(DELETES)
may_read_history = _allows(READS_HISTORY)


def role_may(role: Role, action: Action) -> bool:
    """Whether some member of this role may do this with some event: what can be said without an event at hand."""
    transition = TRANSITIONS.get(action)
    return transition is None or W.AUTHOR in transition.by or Who(role) in transition.by


def may_command(caller: Principal, author_id: UUID, command: Action) -> bool:
    """Whether the caller is one of those the command is for; the state is judged apart, and after."""
    by = TRANSITIONS[command].by
    return Who(caller.role) in by or (W.AUTHOR in by and caller.user_id == author_id)
