"""What many clients were told, held against what the tables say: every write happened as often as it may have.

`complaints` judges records and nothing else: tests/idempotency/test_ledger.py sees it find what is wrong with doctored
ones.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# An outcome that is stored under the client's key; no attempt with that key applies anything, before or after.
STORED_REFUSALS = {"wrong-state", "not-found", "version-changed"}
# Nothing of this attempt was applied; another with the same key may be.
REFUSALS = STORED_REFUSALS | {"forbidden"}
# Whether it was applied, or will be, the client doesn't know. A request that found another with its key still running
# may be the gateway's second try of one that runs.
AMBIGUOUS = {None, "unavailable", "deadline-exceeded", "request-in-progress"}

DELETED = None
# The life of an event, as docs/api.md has it: what each command leads to, and from where.
LIFE = {
    "submit": ({"DRAFT", "REJECTED"}, "SUBMITTED"),
    "approve": ({"SUBMITTED"}, "APPROVED"),
    "reject": ({"SUBMITTED"}, "REJECTED"),
    "withdraw": ({"SUBMITTED"}, "DRAFT"),
    "cancel": ({"APPROVED"}, "CANCELLED"),
}


@dataclass(frozen=True)
class Command:
    """What a client wants to happen once. Each has a title of its own, which a create or an update writes.

    `event_id` is None for a create, `version` the one that If-Match names. `allowed`: by the actor's role, whatever the
    event; where it isn't, nothing is kept under the key.
    """

    title: str
    action: str
    actor_id: str
    event_id: str | None = None
    key: str | None = None
    version: int | None = None
    allowed: bool = True


@dataclass(frozen=True)
class Attempt:
    """One request and its answer; without a `status` there was none. `code` is a problem's, as is `retryable`."""

    command: Command
    correlation_id: str
    status: int | None = None
    code: str | None = None
    retryable: bool = False
    key_status: str | None = None
    content: bytes = b""

    @property
    def acknowledged(self) -> bool:
        return self.status in (200, 201, 204)

    @property
    def ambiguous(self) -> bool:
        return not self.acknowledged and self.code in AMBIGUOUS

    @property
    def never(self) -> bool:
        """Refused, or said to be safe to repeat though no key makes it so: it is known not to have run."""
        return self.code in REFUSALS or (self.ambiguous and self.retryable and self.command.key is None)


@dataclass(frozen=True)
class Entry:
    """Of the history."""

    event_id: str
    version: int
    action: str
    status: str | None
    actor_id: str
    correlation_id: str


@dataclass(frozen=True)
class Row:
    """An event as it is now."""

    version: int
    status: str
    title: str


@dataclass(frozen=True)
class Record:
    """Of an idempotency key; `code` is the stored refusal's, None of a success."""

    actor_id: str
    key: str
    operation: str
    correlation_id: str
    code: str | None = None


@dataclass
class Tables:
    history: list[Entry] = field(default_factory=list)
    events: dict[str, Row] = field(default_factory=dict)
    keys: list[Record] = field(default_factory=list)


def complaints(attempts: Sequence[Attempt], tables: Tables) -> list[str]:
    """What is wrong, in words; nothing if all is well. Every entry and record must come from one of the attempts."""
    applied: dict[str, list[Entry]] = defaultdict(list)
    for entry in tables.history:
        applied[entry.correlation_id].append(entry)
    sent: dict[Command, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        sent[attempt.command].append(attempt)
    commands = {attempt.correlation_id: attempt.command for attempt in attempts}
    found = [f"{entry}: nobody asked for it" for entry in tables.history if entry.correlation_id not in commands]
    records = {(record.actor_id, record.key): record for record in tables.keys}
    for command, tries in sent.items():
        record = records.get((command.actor_id, command.key)) if command.key else None
        entries = [entry for attempt in tries for entry in applied[attempt.correlation_id]]
        wrong = [*_command(command, tries, applied, entries)]
        if command.key:
            wrong += _key(tries, entries, record)
        found += [f"{command}: {what}" for what in wrong]
    found += _records(tables.keys, applied, commands)
    found += _lives(tables, commands)
    return found


def _command(
    command: Command, tries: Sequence[Attempt], applied: Mapping[str, list[Entry]], entries: Sequence[Entry]
) -> Iterator[str]:
    acknowledged = [attempt for attempt in tries if attempt.acknowledged]
    if len(entries) > 1:
        yield f"applied {len(entries)} times"
    if acknowledged and not entries:
        yield "acknowledged and lost"
    for attempt in tries:
        if attempt.never and applied[attempt.correlation_id]:
            yield f"refused with {attempt.code} and applied"
        if not (attempt.acknowledged or attempt.never or attempt.ambiguous):
            yield f"answered {attempt.status} {attempt.code}"
    if command.key and entries and any(attempt.code in STORED_REFUSALS for attempt in tries):
        yield "refused for good and applied"
    if len({(attempt.status, attempt.content) for attempt in acknowledged}) > 1:
        yield "acknowledged in two ways"
    if sum(attempt.key_status == "executed" for attempt in tries) > 1:
        yield "executed twice, as its answers say"
    for entry in entries:
        yield from _entry(command, entry, acknowledged)


def _entry(command: Command, entry: Entry, acknowledged: Sequence[Attempt]) -> Iterator[str]:
    if (entry.action, entry.actor_id) != (command.action, command.actor_id):
        yield f"applied as {entry.action} by {entry.actor_id}"
    if command.event_id not in (None, entry.event_id):
        yield f"applied to {entry.event_id}"
    if command.version not in (None, entry.version - 1):
        yield f"applied to version {entry.version - 1}"
    for attempt in acknowledged:
        if attempt.content:
            told = json.loads(attempt.content)
            if (told["id"], told["version"], told["status"]) != (entry.event_id, entry.version, entry.status):
                yield f"told as {told['id']}, version {told['version']}, {told['status']}; it is {entry}"


def _key(tries: Sequence[Attempt], entries: Sequence[Entry], record: Record | None) -> Iterator[str]:
    codes = {attempt.code for attempt in tries if attempt.code in STORED_REFUSALS}
    if tries[-1].ambiguous:
        yield f"its key is stuck: {tries[-1].status} {tries[-1].code}"
    if not tries[-1].command.allowed:
        if record is not None:
            yield "kept for whom nothing is kept"
    elif record is None:
        if entries or codes:
            yield "its outcome isn't kept"
    elif record.code is None and not entries:
        yield "kept as done and not applied"
    elif record.code is not None and (entries or codes - {record.code}):
        yield f"kept as {record.code}, and it is otherwise"
    elif any(entry.correlation_id != record.correlation_id for entry in entries):
        yield "kept as done by another attempt"


def _records(
    records: Sequence[Record], applied: Mapping[str, list[Entry]], commands: Mapping[str, Command]
) -> Iterator[str]:
    """The gateway's own keys, too: of each attempt one at most, and done only what was applied."""
    seen = set()
    for record in records:
        command = commands.get(record.correlation_id)
        if command is None or record.operation != f"events.{command.action}" or record.actor_id != command.actor_id:
            yield f"{record}: nobody asked for it"
        if record.code is None and not applied.get(record.correlation_id):
            yield f"{record}: kept as done and not applied"
        if record.correlation_id in seen:
            yield f"{record}: one request has two keys"
        seen.add(record.correlation_id)


def _lives(tables: Tables, commands: Mapping[str, Command]) -> Iterator[str]:
    """Each event went from version to version as the table of life allows, and is what its history says."""
    histories: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(tables.history, key=lambda entry: entry.version):
        histories[entry.event_id].append(entry)
    for event_id in tables.events.keys() - histories.keys():
        yield f"{event_id}: it has no history"
    for event_id, history in histories.items():
        versions = [entry.version for entry in history]
        if versions != list(range(1, len(history) + 1)):
            yield f"{event_id}: its versions are {versions}"
        status, title = "", ""
        for entry in history:
            if not _follows(entry, status, first=entry is history[0]):
                yield f"{event_id}: {entry.action} from {status or 'nothing'} to {entry.status}"
            status = entry.status or ""
            if entry.action in ("create", "update") and entry.correlation_id in commands:
                title = commands[entry.correlation_id].title
        expected = None if history[-1].status is DELETED else Row(history[-1].version, status, title)
        row = tables.events.get(event_id)
        if row != expected:
            yield f"{event_id}: it is {row}; its history says {expected}"


def _follows(entry: Entry, status: str, *, first: bool) -> bool:
    if first or entry.action == "create":
        return first and entry.action == "create" and entry.status == "DRAFT"
    if entry.action == "delete":
        return bool(status) and entry.status is DELETED
    sources, target = LIFE.get(entry.action, ({status} - {""}, status))
    return status in sources and entry.status == target


def figures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """How much was tried, and what was told."""
    commands: dict[Command, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        commands[attempt.command].append(attempt)
    return {
        "commands": len(commands),
        "with a key": sum(command.key is not None for command in commands),
        "calls": len(attempts),
        "acknowledged": sum(attempt.acknowledged for attempt in attempts),
        "replayed": sum(attempt.key_status == "replayed" for attempt in attempts),
        "refused": sum(attempt.code in REFUSALS for attempt in attempts),
        "ambiguous": sum(attempt.ambiguous for attempt in attempts),
        "ambiguous, then acknowledged": sum(
            any(attempt.ambiguous for attempt in tries) and any(attempt.acknowledged for attempt in tries)
            for tries in commands.values()
        ),
    }
