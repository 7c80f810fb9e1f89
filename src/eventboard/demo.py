"""Demo data: two organizations, four accounts, three events; and, asked for, any number of plausible events."""

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import ARRAY, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from eventboard.modules.auth.models import Membership, Organization, User
from eventboard.modules.auth.names import name_key
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.events.contract import Action, Status
from eventboard.modules.events.models import EventRow, HistoryRow
from eventboard.platform.database import Database, Statement
from eventboard.platform.identity import Role
from eventboard.platform.ids import uuid7

PASSWORD = "Password123!"  # noqa: S105 - printed at every start; production has no demo data

# Demo rows have ids made from their names, so that a second run meets the first one's rows.
_NAMESPACE = UUID("6f9b0f4e-8a52-4d43-9d39-6a4f0c8f5e11")

ORGANIZATIONS = (
    ("Acme Corporation", "acme-corp", True),
    ("Tech Innovators", "tech-innovators", False),
)
ACCOUNTS = (
    ("admin@acme.com", "Alice", "Admin", Role.ADMIN, "acme-corp"),
    ("moderator@acme.com", "Morgan", "Moderator", Role.MODERATOR, "acme-corp"),
    ("user@acme.com", "Uma", "User", Role.USER, "acme-corp"),
    ("user@techinnovators.com", "Theo", "Turner", Role.USER, "tech-innovators"),
)
EVENTS = (
    ("Summer party", "Music, food and games in the courtyard, for everyone at Acme.", "Courtyard", Status.APPROVED, 40),
    ("Product roadmap review", "What we ship next half-year, and what we don't.", "Room 4.12", Status.SUBMITTED, 12),
    ("Lunch talk: Better retros", "Thirty minutes on retrospectives that change something.", None, Status.DRAFT, 25),
)

_STEPS: dict[Status, tuple[Action, ...]] = {
    Status.DRAFT: (Action.CREATE,),
    Status.SUBMITTED: (Action.CREATE, Action.SUBMIT),
    Status.APPROVED: (Action.CREATE, Action.SUBMIT, Action.APPROVE),
    Status.REJECTED: (Action.CREATE, Action.SUBMIT, Action.REJECT),
    Status.CANCELLED: (Action.CREATE, Action.SUBMIT, Action.APPROVE, Action.CANCEL),
}
_AFTER: dict[Action, Status] = {
    Action.CREATE: Status.DRAFT,
    Action.SUBMIT: Status.SUBMITTED,
    Action.APPROVE: Status.APPROVED,
    Action.REJECT: Status.REJECTED,
    Action.CANCEL: Status.CANCELLED,
}
_REASON = "Please name a room and a person to ask."

_ANY_ORGANIZATION = Statement(select(Organization.id).limit(1))
_BY_SLUG = Statement(select(Organization.id).where(Organization.slug == bindparam("slug")))
_MEMBERS = Statement(
    select(User.id, User.first_name, User.last_name, Membership.role)
    .join(Membership, Membership.user_id == User.id)
    .where(Membership.organization_id == bindparam("organization_id"))
    .order_by(Membership.role, User.id)
)


def _adding(table: Any) -> Statement:
    """Adds many rows, given as an array for each column; COPY isn't for tables under row-level security."""
    columns = table.columns
    arrays = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in columns]
    return Statement(insert(table).from_select(columns.keys(), select(*arrays)))


_ADD_EVENTS = _adding(EventRow.__table__)
_ADD_HISTORY = _adding(HistoryRow.__table__)

# Rows sent to the database at once: some 3 MB, and a progress bar that moves.
BATCH = 5_000


Row = dict[str, Any]


class DemoError(Exception):
    """One line for the user."""


def demo_id(name: str) -> UUID:
    return uuid5(_NAMESPACE, name)


async def is_new(auth: Database) -> bool:
    """Whether the database has no organization yet."""
    async with auth.reading(None) as connection:
        return await connection.one(_ANY_ORGANIZATION) is None


async def put_in(auth: Database, events: Database, passwords: Passwords) -> None:
    """Safe to repeat: rows that are there stay as they are."""
    password_hash = await passwords.hash(PASSWORD)
    for name, slug, open_signup in ORGANIZATIONS:
        organization_id = demo_id(slug)
        async with auth.transaction(organization_id) as connection:
            row = {"id": organization_id, "name": name, "name_key": name_key(name), "slug": slug}
            await connection.run(_kept(Organization, {**row, "open_signup": open_signup}))
            for email, first_name, last_name, role, where in ACCOUNTS:
                if where != slug:
                    continue
                person: dict[str, Any] = {"email": email, "first_name": first_name, "last_name": last_name}
                person |= {
                    "id": demo_id(email),
                    "password_hash": password_hash,
                    "last_organization_id": organization_id,
                }
                await connection.run(_kept(User, person))
                membership = {"organization_id": organization_id, "user_id": demo_id(email), "role": role}
                await connection.run(_kept(Membership, membership))
    organization_id, author_id = demo_id("acme-corp"), demo_id("user@acme.com")
    people = [(author_id, "Uma User"), (demo_id("moderator@acme.com"), "Morgan Moderator")]
    now = datetime.now(UTC)
    async with events.transaction(organization_id) as connection:
        for title, description, location, status, days in EVENTS:
            starts = (now + timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)
            # Its steps are minutes apart: the last one, too, was before now.
            created = now - timedelta(hours=1)
            event, history = _rows(
                organization_id, demo_id(title), title, description, location, starts, status, people, created
            )
            await connection.run(_kept(EventRow, event))
            for entry in history:
                await connection.run(_kept(HistoryRow, entry))


async def fill(auth: Database, events: Database, *, slug: str, count: int) -> None:
    """Adds `count` events to an organization; shows a progress bar on a terminal. Raises DemoError."""
    async with auth.reading(None) as connection:
        row = await connection.one(_BY_SLUG, slug=slug)
    if row is None:
        raise DemoError(f"there is no organization {slug!r}")
    organization_id: UUID = row[0]
    async with auth.reading(organization_id) as connection:
        people = [
            (row[0], f"{row[1]} {row[2]}") for row in await connection.all(_MEMBERS, organization_id=organization_id)
        ]
    done = 0
    for batch in _batches(organization_id, people, count):
        async with events.transaction(organization_id) as connection:
            await connection.run(_ADD_EVENTS, **_by_column([event for event, _ in batch]))
            await connection.run(_ADD_HISTORY, **_by_column([entry for _, history in batch for entry in history]))
        done += len(batch)
        _show_progress(done, count)


def _by_column(rows: list[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _kept(model: type[Any], row: dict[str, Any]) -> Statement:
    return Statement(insert(model).values(row).on_conflict_do_nothing())


def _rows(
    organization_id: UUID,
    event_id: UUID,
    title: str,
    description: str,
    location: str | None,
    starts: datetime,
    status: Status,
    people: list[tuple[UUID, str]],
    created: datetime,
) -> tuple[Row, list[Row]]:
    """An event and its history. The first of `people` is the author."""
    steps = _STEPS[status]
    (author_id, author_name), (other_id, other_name) = people[0], people[-1]
    reason = _REASON if status is Status.REJECTED else None
    last = created + timedelta(minutes=len(steps) - 1)
    event = {
        "organization_id": organization_id,
        "id": event_id,
        "title": title,
        "description": description,
        "location": location,
        "start_date": starts,
        "end_date": starts + timedelta(hours=2),
        "time_zone": "Europe/Berlin",
        "status": status,
        "rejection_reason": reason,
        "created_by_id": author_id,
        "created_by_name": author_name,
        "created_at": created,
        "updated_at": last,
        "version": len(steps),
    }
    history = []
    for index, action in enumerate(steps):
        by_author = action not in (Action.APPROVE, Action.REJECT)
        entry = {
            "organization_id": organization_id,
            "event_id": event_id,
            "version": index + 1,
            "action": action,
            "status": _AFTER[action],
            "reason": reason if action is Action.REJECT else None,
            "author_id": author_id,
            "actor_id": author_id if by_author else other_id,
            "actor_name": author_name if by_author else other_name,
            "at": created + timedelta(minutes=index),
            "correlation_id": "demo",
        }
        history.append(entry)
    return event, history


_TOPICS = (
    "Python",
    "Security",
    "Onboarding",
    "Design",
    "Budget",
    "Accessibility",
    "Data",
    "Customer",
    "Climate",
    "Chess",
)
_FORMS = ("workshop", "meetup", "review", "lunch talk", "hack day", "retrospective", "tour", "tournament", "training")
_PLACES = ("Auditorium", "Room 2.04", "Room 4.12", "Cafeteria", "Roof terrace", "Online", None)
_TAILS = (
    "Bring your questions and something to write with.",
    "Places are limited, so say early that you are coming.",
    "There is coffee before and time to talk after.",
    "Recorded for those who can't be there.",
)


def _batches(
    organization_id: UUID, people: list[tuple[UUID, str]], count: int
) -> Iterator[list[tuple[Row, list[Row]]]]:
    chance = random.Random(count)  # noqa: S311 - plausible, not secret
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    statuses = list(Status)
    for begin in range(0, count, BATCH):
        batch = []
        for number in range(begin, min(begin + BATCH, count)):
            topic, form = chance.choice(_TOPICS), chance.choice(_FORMS)
            starts = now + timedelta(minutes=30 * chance.randint(-20_000, 40_000))
            batch.append(
                _rows(
                    organization_id,
                    uuid7(),
                    f"{topic} {form} {number + 1}",
                    f"A {form} about {topic.lower()} for everyone who works with it. {chance.choice(_TAILS)}",
                    chance.choice(_PLACES),
                    starts,
                    chance.choices(statuses, weights=(2, 2, 10, 1, 1))[0],
                    [chance.choice(people), chance.choice(people)],
                    now - timedelta(minutes=chance.randint(10, 500_000)),
                )
            )
        yield batch


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        filled = 40 * done // total
        end = "\n" if done == total else ""
        print(
            f"\r[{'#' * filled}{'.' * (40 - filled)}] {done:,} of {total:,} events",
            end=end,
            file=sys.stderr,
            flush=True,
        )
    elif done == total:
        print(f"{done:,} events put in", file=sys.stderr)
