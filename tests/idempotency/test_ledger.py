"""The judge of tests/faults/test_history_checker.py finds what is wrong: records in order, then doctored."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.support.ledger import Attempt, Command, Entry, Record, Row, Tables, complaints

AUTHOR, MODERATOR, EVENT = "the author", "the moderator", "the event"
CREATE = Command("First", "create", AUTHOR)
UPDATE = Command("Second", "update", AUTHOR, EVENT, version=1)
SUBMIT = Command("Third", "submit", AUTHOR, EVENT, key="a key")
REJECT = Command("Fourth", "reject", MODERATOR, EVENT, key="another key")
CANCEL = Command("Fifth", "cancel", AUTHOR, EVENT)


@dataclass
class Records:
    """What there was: `told[n]` is the n-th answer."""

    told: list[Attempt]
    tables: Tables

    def complaints(self) -> str:
        return "\n".join(complaints(self.told, self.tables))


def content(version: int, status: str) -> bytes:
    return json.dumps({"id": EVENT, "version": version, "status": status}).encode()


@pytest.fixture
def records() -> Records:
    """Created, updated, submitted in two tries; the rejection was lost, but happened; a cancellation was refused."""
    return Records(
        [
            Attempt(CREATE, "c1", 201, content=content(1, "DRAFT")),
            Attempt(UPDATE, "c2", 503, "unavailable"),
            Attempt(SUBMIT, "c3"),
            Attempt(SUBMIT, "c4", 200, key_status="replayed", content=content(3, "SUBMITTED")),
            Attempt(CANCEL, "c5", 409, "wrong-state"),
            Attempt(REJECT, "c6", 504, "deadline-exceeded"),
            Attempt(REJECT, "c7", 200, key_status="executed", content=content(4, "REJECTED")),
        ],
        Tables(
            [
                Entry(EVENT, 1, "create", "DRAFT", AUTHOR, "c1"),
                Entry(EVENT, 2, "update", "DRAFT", AUTHOR, "c2"),
                Entry(EVENT, 3, "submit", "SUBMITTED", AUTHOR, "c3"),
                Entry(EVENT, 4, "reject", "REJECTED", MODERATOR, "c7"),
            ],
            {EVENT: Row(4, "REJECTED", "Second")},
            [
                Record(AUTHOR, "minted 1", "events.create", "c1"),
                Record(AUTHOR, "a key", "events.submit", "c3"),
                Record(AUTHOR, "minted 2", "events.cancel", "c5", "wrong-state"),
                Record(MODERATOR, "another key", "events.reject", "c7"),
            ],
        ),
    )


def test_in_order(records: Records) -> None:
    """What was acknowledged or ambiguous may be there once."""
    assert records.complaints() == ""


def doubled(records: Records) -> None:
    records.tables.history.append(Entry("a twin", 1, "create", "DRAFT", AUTHOR, "c1"))
    records.tables.events["a twin"] = Row(1, "DRAFT", "First")


def doubled_by_a_retry(records: Records) -> None:
    """By the ambiguous first try and by the second, each in a version of its own."""
    records.tables.history.append(Entry(EVENT, 5, "submit", "SUBMITTED", AUTHOR, "c4"))
    records.tables.events[EVENT] = Row(5, "SUBMITTED", "Second")


def lost(records: Records) -> None:
    records.tables.history.pop()
    records.tables.events[EVENT] = Row(3, "SUBMITTED", "Second")


def lost_with_its_event(records: Records) -> None:
    records.tables.history.clear()
    records.tables.events.clear()


def lost_but_in_the_history(records: Records) -> None:
    """The entry is there, and what it tells of isn't."""
    records.tables.events[EVENT] = Row(4, "REJECTED", "First")


def refused_and_applied(records: Records) -> None:
    records.told[0] = Attempt(CREATE, "c1", 403, "forbidden")


def refused_for_good_and_applied(records: Records) -> None:
    """By the other try: each by itself might be right."""
    records.told[6] = Attempt(REJECT, "c8", 409, "wrong-state", key_status="executed")
    records.told[5] = Attempt(REJECT, "c7", 504, "deadline-exceeded")


def safe_to_repeat_and_applied(records: Records) -> None:
    records.told[1] = Attempt(UPDATE, "c2", 503, "unavailable", retryable=True)


def nobodys(records: Records) -> None:
    records.tables.history.append(Entry(EVENT, 5, "submit", "SUBMITTED", AUTHOR, "another"))
    records.tables.events[EVENT] = Row(5, "SUBMITTED", "Second")


def by_another(records: Records) -> None:
    records.tables.history[1] = replace(records.tables.history[1], actor_id=MODERATOR)


def of_another_version(records: Records) -> None:
    records.told[1] = replace(records.told[1], command=replace(UPDATE, version=2))


def told_otherwise(records: Records) -> None:
    records.told[0] = replace(records.told[0], content=content(1, "SUBMITTED"))


def told_in_two_ways(records: Records) -> None:
    again = replace(records.told[3], correlation_id="c9", content=records.told[3].content + b" ")
    records.told.insert(4, again)


def executed_twice(records: Records) -> None:
    records.told.insert(6, replace(records.told[6], correlation_id="c9"))


def gap(records: Records) -> None:
    del records.tables.history[1]


def against_the_life(records: Records) -> None:
    records.told[2:4] = []
    records.tables.history[2:] = [Entry(EVENT, 3, "reject", "REJECTED", MODERATOR, "c7")]
    records.tables.events[EVENT] = Row(3, "REJECTED", "Second")


def after_its_end(records: Records) -> None:
    """An update of what was deleted."""
    records.told += [Attempt(Command("Sixth", "delete", AUTHOR, EVENT), "c8", 204), Attempt(CANCEL, "c9")]
    records.told.append(Attempt(Command("Seventh", "update", AUTHOR, EVENT), "c10"))
    records.tables.history.append(Entry(EVENT, 5, "delete", None, AUTHOR, "c8"))
    records.tables.history.append(Entry(EVENT, 6, "update", "", AUTHOR, "c10"))


def deleted_and_there(records: Records) -> None:
    records.told.append(Attempt(Command("Sixth", "delete", AUTHOR, EVENT), "c8", 204))
    records.tables.history.append(Entry(EVENT, 5, "delete", None, AUTHOR, "c8"))


def without_a_history(records: Records) -> None:
    records.tables.events["a stray"] = Row(1, "DRAFT", "Nobody's")


def stuck(records: Records) -> None:
    records.told.append(Attempt(SUBMIT, "c9", 409, "request-in-progress"))


def failed(records: Records) -> None:
    records.told[1] = Attempt(UPDATE, "c2", 500, "internal")


def not_kept(records: Records) -> None:
    records.tables.keys.pop()


def refusal_not_kept(records: Records) -> None:
    records.told.append(Attempt(replace(CANCEL, key="a third key"), "c8", 404, "not-found"))


def kept_for_nobody(records: Records) -> None:
    """The actor's role doesn't allow it, so a record is as wrong as none is right."""
    command = replace(REJECT, key="a third key", actor_id=AUTHOR, allowed=False)
    records.told.append(Attempt(command, "c8", 404, "not-found"))
    assert records.complaints() == ""
    records.tables.keys.append(Record(AUTHOR, "a third key", "events.reject", "c8", "not-found"))


def kept_otherwise(records: Records) -> None:
    records.tables.keys[-1] = replace(records.tables.keys[-1], code="not-found")


def kept_by_another(records: Records) -> None:
    records.tables.keys[-1] = replace(records.tables.keys[-1], correlation_id="c6")


def kept_and_not_applied(records: Records) -> None:
    """A key of the gateway's: its client knows nothing of it."""
    records.tables.keys[2] = replace(records.tables.keys[2], code=None)


def two_keys(records: Records) -> None:
    records.tables.keys.append(Record(AUTHOR, "minted 3", "events.create", "c1"))


@pytest.mark.parametrize(
    ("doctor", "expected"),
    [
        (doubled, "applied 2 times"),
        (doubled_by_a_retry, "applied 2 times"),
        (lost, "acknowledged and lost"),
        (lost_with_its_event, "acknowledged and lost"),
        (lost_but_in_the_history, "its history says"),
        (refused_and_applied, "refused with forbidden and applied"),
        (refused_for_good_and_applied, "refused for good and applied"),
        (safe_to_repeat_and_applied, "refused with unavailable and applied"),
        (nobodys, "nobody asked for it"),
        (by_another, "applied as update by the moderator"),
        (of_another_version, "applied to version 1"),
        (told_otherwise, "told as the event, version 1, SUBMITTED"),
        (told_in_two_ways, "acknowledged in two ways"),
        (executed_twice, "executed twice"),
        (gap, "its versions are [1, 3, 4]"),
        (against_the_life, "reject from DRAFT to REJECTED"),
        (after_its_end, "update from nothing"),
        (deleted_and_there, "its history says None"),
        (without_a_history, "it has no history"),
        (stuck, "its key is stuck: 409 request-in-progress"),
        (failed, "answered 500 internal"),
        (not_kept, "its outcome isn't kept"),
        (refusal_not_kept, "its outcome isn't kept"),
        (kept_for_nobody, "kept for whom nothing is kept"),
        (kept_otherwise, "kept as not-found, and it is otherwise"),
        (kept_by_another, "kept as done by another attempt"),
        (kept_and_not_applied, "kept as done and not applied"),
        (two_keys, "one request has two keys"),
    ],
    ids=lambda value: getattr(value, "__name__", "") or value,
)
def test_doctored(records: Records, doctor: Callable[[Records], None], expected: str) -> None:
    """Each wrong is found, and named."""
    doctor(records)
    assert expected in records.complaints()
