"""The lifecycle of an event, and who may do what: the two tables of docs/api.md, as data, and their errors.

Nothing here reads a clock, a database or a request.
"""

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events.contract import NO_SUCH_EVENT, Action, Event, IfMatch, Status

# Versions of If-Match that an answer names.
MOST_NAMED = 3


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

INITIAL = S.DRAFT

# command            from                              who                             to
TRANSITIONS: dict[Action, Transition] = {
    A.SUBMIT: Transition(frozenset({S.DRAFT, S.REJECTED}), frozenset({W.AUTHOR}), S.SUBMITTED),
    A.APPROVE: Transition(frozenset({S.SUBMITTED}), frozenset({W.MODERATOR, W.ADMIN}), S.APPROVED),
    A.REJECT: Transition(frozenset({S.SUBMITTED}), frozenset({W.MODERATOR, W.ADMIN}), S.REJECTED),
    A.WITHDRAW: Transition(frozenset({S.SUBMITTED}), frozenset({W.AUTHOR}), S.DRAFT),
    A.CANCEL: Transition(frozenset({S.APPROVED}), frozenset({W.AUTHOR, W.ADMIN}), S.CANCELLED),
}

# They take an earlier step back: to take that step first would be no help.
UNDOING = frozenset({A.WITHDRAW, A.CANCEL})

ALL = frozenset(Status)
NONE: frozenset[Status] = frozenset()
PUBLIC = frozenset({S.APPROVED, S.CANCELLED})  # what every member of the organization sees
UNFINISHED = frozenset({S.DRAFT, S.REJECTED})  # what its author still works on


class Rights(Struct, frozen=True):
    """The statuses in which a role may do something with events of one's own, and with those of others."""

    own: frozenset[Status]
    others: frozenset[Status]


#                                     own         others'
SEES: dict[Role, Rights] = {
    Role.USER: Rights(ALL, PUBLIC),
    Role.MODERATOR: Rights(ALL, ALL),
    Role.ADMIN: Rights(ALL, ALL),
}
EDITS: dict[Role, Rights] = {
    Role.USER: Rights(UNFINISHED, NONE),
    Role.MODERATOR: Rights(UNFINISHED, frozenset({S.SUBMITTED, S.APPROVED})),
    Role.ADMIN: Rights(ALL, ALL),
}
DELETES: dict[Role, Rights] = {
    Role.USER: Rights(frozenset({S.DRAFT}), NONE),
    Role.MODERATOR: Rights(frozenset({S.DRAFT}), NONE),
    Role.ADMIN: Rights(ALL, ALL),
}
# The history has the moderators' reasons, which are for the author only.
READS_HISTORY: dict[Role, Rights] = {
    Role.USER: Rights(ALL, NONE),
    Role.MODERATOR: Rights(ALL, ALL),
    Role.ADMIN: Rights(ALL, ALL),
}

Rule = Callable[[Principal, UUID, Status], bool]


def _allows(table: dict[Role, Rights]) -> Rule:
    def rule(caller: Principal, author_id: UUID, status: Status) -> bool:
        rights = table[caller.role]
        return status in (rights.own if caller.user_id == author_id else rights.others)

    return rule


may_see = _allows(SEES)
may_edit = _allows(EDITS)
may_delete = _allows(DELETES)
may_read_history = _allows(READS_HISTORY)


def role_may(role: Role, action: Action) -> bool:
    """Whether there can be an event with which somebody of this role may do this."""
    transition = TRANSITIONS.get(action)
    return transition is None or W.AUTHOR in transition.by or Who(role) in transition.by


def may_command(caller: Principal, author_id: UUID, command: Action) -> bool:
    """Whether the command is for this caller, whatever the event's status."""
    by = TRANSITIONS[command].by
    return Who(caller.role) in by or (W.AUTHOR in by and caller.user_id == author_id)


def not_found() -> ServiceError:
    return ServiceError(Code.NOT_FOUND, NO_SUCH_EVENT)


def check_edit(caller: Principal, event: Event, if_match: IfMatch | None) -> None:
    """Raises `forbidden` or `version-changed`, in this order."""
    if not may_edit(caller, event.created_by_id, event.status):
        raise _not_while(caller, event, "edit", EDITS)
    _check_version(event, if_match)


def check_delete(caller: Principal, event: Event, if_match: IfMatch | None) -> None:
    """Raises `forbidden` or `version-changed`, in this order."""
    if not may_delete(caller, event.created_by_id, event.status):
        raise _not_while(caller, event, "delete", DELETES)
    _check_version(event, if_match)


def check_transition(caller: Principal, event: Event, command: Action, if_match: IfMatch | None) -> None:
    """Raises `forbidden`, `version-changed` or `wrong-state`, in this order."""
    if not may_command(caller, event.created_by_id, command):
        raise ServiceError(Code.FORBIDDEN, f"You may not {command} this event: {_named(TRANSITIONS[command].by)} may.")
    _check_version(event, if_match)
    if event.status not in TRANSITIONS[command].sources:
        raise ServiceError(Code.WRONG_STATE, f"You can't {command} this event: {_why_not(caller, event, command)}")


def _check_version(event: Event, if_match: IfMatch | None) -> None:
    if if_match is None or if_match.any or event.version in if_match.versions:
        return
    now = f"The event is at version {event.version} now"
    if if_match.versions:
        # A header may hold thousands, and the answer is stored with its idempotency key.
        many = len(if_match.versions) > MOST_NAMED
        named = f"{len(if_match.versions)} others" if many else " and ".join(map(str, if_match.versions))
        detail = f'{now}, and If-Match names {named}. Read it again, then decide, with If-Match: "{event.version}".'
    else:
        # As of W/"1", which RFC 9110 never lets match, or "abc".
        detail = (
            f"{now}, and no tag of If-Match can match: a weak one (W/) never does, nor one that isn't a version."
            f' Send the event\'s ETag as it is: If-Match: "{event.version}".'
        )
    raise ServiceError(Code.VERSION_CHANGED, detail, version=event.version)


def _not_while(caller: Principal, event: Event, verb: str, table: dict[Role, Rights]) -> ServiceError:
    """Says what the caller can do first, or who may do it."""
    detail = f"You may not {verb} this event while it is {event.status}"
    own = caller.user_id == event.created_by_id
    withdrawn = TRANSITIONS[A.WITHDRAW]
    if own and event.status in withdrawn.sources and withdrawn.target in table[caller.role].own:
        return ServiceError(Code.FORBIDDEN, f"{detail}: withdraw it first.")
    by = {Who(role) for role, rights in table.items() if event.status in rights.others}
    if not own and event.status in table[Role.USER].own:
        by.add(W.AUTHOR)
    who = _named(by)
    if caller.role is Role.MODERATOR:
        who = who.replace("a MODERATOR", "another MODERATOR")
    return ServiceError(Code.FORBIDDEN, f"{detail}: {who} may.")


def _why_not(caller: Principal, event: Event, command: Action) -> str:
    """Says which step comes first, or what the caller can do instead."""
    sources, target = TRANSITIONS[command].sources, TRANSITIONS[command].target
    if event.status == target:
        return f"it is {event.status} already."
    for first, step in TRANSITIONS.items():
        if command not in UNDOING and event.status in step.sources and step.target in sources:
            if may_command(caller, event.created_by_id, first):
                return f"it is {event.status}. Before that, {first} it."
            return f"it is {event.status}. Before that, {_named(step.by)} has to {first} it."
    wrong = f"it is {event.status}, and has to be {_either(sorted(sources))}."
    possible = _possible(caller, event)
    return f"{wrong} You can {_either(possible)} it." if possible else wrong


def _possible(caller: Principal, event: Event) -> list[str]:
    """What the caller can do with the event in its status."""
    author, status = event.created_by_id, event.status
    verbs = [
        command.value
        for command, step in TRANSITIONS.items()
        if status in step.sources and may_command(caller, author, command)
    ]
    if may_edit(caller, author, status):
        verbs.append("edit")
    if may_delete(caller, author, status):
        verbs.append("delete")
    return verbs


def _named(by: Collection[Who]) -> str:
    names = {W.AUTHOR: "its author", W.USER: "any member", W.MODERATOR: "a MODERATOR", W.ADMIN: "an ADMIN"}
    return _either([name for who, name in names.items() if who in by])


def _either(words: Sequence[str]) -> str:
    """As in "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
