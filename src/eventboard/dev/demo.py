"""Demo data: two organizations, six accounts, three events, and any number of further events."""

import random
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec
from asyncpg import UniqueViolationError
from msgspec import Struct, field
from sqlalchemy import ARRAY, Text, Uuid, bindparam, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert

from eventboard.commands.database import TaskError, check, one_line, open_databases
from eventboard.core.errors import ServiceError
from eventboard.core.ids import uuid7
from eventboard.db.database import Database, Statement
from eventboard.identity.access_tokens import Role
from eventboard.modules.auth.models import Membership, Organization, User
from eventboard.modules.auth.names import name_key
from eventboard.modules.auth.passwords import PasswordMatch, Passwords
from eventboard.modules.events.contract import Action, Status
from eventboard.modules.events.models import EventRow, HistoryRow
from eventboard.settings import Settings

PASSWORD = "Password123!"  # noqa: S105 - printed at every start; production has no demo data

# Demo rows have ids derived from their names, so that a second run finds those of the first.
_NAMESPACE = UUID("6f9b0f4e-8a52-4d43-9d39-6a4f0c8f5e11")

ORGANIZATIONS = (
    ("Acme Corporation", "acme-corp", True),
    ("Tech Innovators", "tech-innovators", False),
)
ACCOUNTS = (
    ("admin@acme.com", "Alice", "Admin", Role.ADMIN, "acme-corp"),
    ("moderator@acme.com", "Morgan", "Moderator", Role.MODERATOR, "acme-corp"),
    ("user@acme.com", "Uma", "User", Role.USER, "acme-corp"),
    ("admin@techinnovators.com", "Tamara", "Admin", Role.ADMIN, "tech-innovators"),
    ("moderator@techinnovators.com", "Tilo", "Moderator", Role.MODERATOR, "tech-innovators"),
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
_ACCOUNTS = Statement(
    select(User.email, User.id, User.password_hash).where(
        User.email == func.any(bindparam("emails", type_=ARRAY(Text)))
    )
)
_KNOWN_EVENTS = Statement(
    select(HistoryRow.event_id)
    .where(
        HistoryRow.organization_id == bindparam("organization_id"),
        HistoryRow.event_id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    .distinct()
)
_BY_SLUG = Statement(select(Organization.id).where(Organization.slug == bindparam("slug")))
_MEMBERS = Statement(
    select(User.id, User.first_name, User.last_name, Membership.role)
    .join(Membership, Membership.user_id == User.id)
    .where(Membership.organization_id == bindparam("organization_id"))
    .order_by(Membership.role, User.id)
)


def _insert_many(table: Any) -> Statement:
    """Inserts many rows from an array for each column: COPY doesn't work under row-level security."""
    columns = table.columns
    arrays = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in columns]
    return Statement(insert(table).from_select(columns.keys(), select(*arrays)))


_ADD_EVENTS = _insert_many(EventRow.__table__)
_ADD_HISTORY = _insert_many(HistoryRow.__table__)

# Events per statement: some 3 MB.
BATCH = 5_000


Row = dict[str, Any]


def demo_id(name: str) -> UUID:
    return uuid5(_NAMESPACE, name)


class Added(Struct):
    """What was missing, and what was put back: organizations, accounts and events, by name."""

    organizations: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)

    def summary(self) -> str:
        parts = [
            f"{len(names)} {kind if len(names) > 1 else kind[:-1]}"
            for kind, names in (
                ("organizations", self.organizations),
                ("accounts", self.accounts),
                ("events", self.events),
            )
            if names
        ]
        lines = [f"added {', '.join(parts)}"] if parts else []
        if self.restored:
            lines.append(f"restored {', '.join(dict.fromkeys(self.restored))}")
        return "; ".join(lines) or "the demo data is there already"


async def _known_accounts(auth: Database) -> dict[str, tuple[UUID, str]]:
    """Ids and hashes by address."""
    async with auth.reading(None) as connection:
        rows = await connection.all(_ACCOUNTS, emails=[account[0] for account in ACCOUNTS])
    return {email: (user_id, password_hash) for email, user_id, password_hash in rows}


async def add_accounts(auth: Database, passwords: Passwords, added: Added, *, restore: bool) -> None:
    """Adds what is missing. With `restore`, what was changed is as at first again: names, passwords and roles."""
    known = await _known_accounts(auth)
    new_hash = await passwords.hash(PASSWORD)

    async def put(name: str, kind: list[str], model: type[Any], row: Row, *changed: str) -> None:
        inserted = await connection.one(_put(model, row, changed if restore else ()))
        if inserted is not None:
            (kind if inserted[0] else added.restored).append(name)

    for name, slug, open_signup in ORGANIZATIONS:
        organization_id = demo_id(slug)
        async with auth.transaction(organization_id) as connection:
            row = {"id": organization_id, "name": name, "name_key": name_key(name), "slug": slug}
            row["open_signup"] = open_signup
            await put(slug, added.organizations, Organization, row, "name", "name_key", "open_signup")
            for email, first_name, last_name, role, where in ACCOUNTS:
                if where != slug:
                    continue
                user_id, password_hash = known.get(email, (demo_id(email), new_hash))
                if restore and await passwords.verify(password_hash, PASSWORD) is PasswordMatch.WRONG:
                    password_hash = new_hash
                person = {"id": user_id, "email": email, "first_name": first_name, "last_name": last_name}
                person |= {"password_hash": password_hash, "last_organization_id": organization_id}
                await put(email, added.accounts, User, person, "first_name", "last_name", "password_hash")
                membership = {"organization_id": organization_id, "user_id": user_id, "role": role, "active": True}
                missing = [] if email in added.accounts else added.restored
                await put(email, missing, Membership, membership, "role", "active")


def _put(model: type[Any], row: Row, changed: Sequence[str]) -> Statement:
    """Returns a row, whether it is new, where it was missing or one of its columns `changed` was another."""
    new = insert(model).values(row)
    table: Any = model.__table__
    columns = [table.columns[column] for column in changed]
    statement = new.on_conflict_do_nothing()
    if columns:
        values = {column.name: new.excluded[column.name] for column in columns}
        different = or_(*(column.is_distinct_from(new.excluded[column.name]) for column in columns))
        statement = new.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={**values, "updated_at": func.now()}, where=different
        )
    return Statement(statement.returning(literal_column("xmax = 0")))


async def add_first_events(events: Database, added: Added) -> None:
    """Those that were deleted stay so: their history is kept."""
    organization_id, author_id = demo_id("acme-corp"), demo_id("user@acme.com")
    people = [(author_id, "Uma User"), (demo_id("moderator@acme.com"), "Morgan Moderator")]
    now = datetime.now(UTC)
    async with events.transaction(organization_id) as connection:
        ids = [demo_id(title) for title, *_ in EVENTS]
        known = {row[0] for row in await connection.all(_KNOWN_EVENTS, organization_id=organization_id, ids=ids)}
        for title, description, location, status, days in EVENTS:
            if demo_id(title) in known:
                continue
            starts = (now + timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)
            # Its steps are a minute apart, all of them in the past.
            created = now - timedelta(hours=1)
            event, history = _event_with_history(
                organization_id, demo_id(title), title, description, location, starts, status, people, created
            )
            await connection.run(Statement(insert(EventRow).values(event)))
            for entry in history:
                await connection.run(Statement(insert(HistoryRow).values(entry)))
            added.events.append(title)


async def fill(auth: Database, events: Database, *, slug: str, count: int) -> None:
    """Adds `count` events to an organization. Raises TaskError."""
    async with auth.reading(None) as connection:
        row = await connection.one(_BY_SLUG, slug=slug)
    if row is None:
        raise TaskError(f"--organization: there is no organization {slug!r}")
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


def _event_with_history(
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
_KINDS = ("workshop", "meetup", "review", "lunch talk", "hack day", "retrospective", "tour", "tournament", "training")
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
    rng = random.Random(count)  # noqa: S311 - plausible, not secret
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    statuses = list(Status)
    for begin in range(0, count, BATCH):
        batch = []
        for number in range(begin, min(begin + BATCH, count)):
            topic, form = rng.choice(_TOPICS), rng.choice(_KINDS)
            starts = now + timedelta(minutes=30 * rng.randint(-20_000, 40_000))
            batch.append(
                _event_with_history(
                    organization_id,
                    uuid7(),
                    f"{topic} {form} {number + 1}",
                    f"A {form} about {topic.lower()} for everyone who works with it. {rng.choice(_TAILS)}",
                    rng.choice(_PLACES),
                    starts,
                    rng.choices(statuses, weights=(2, 2, 10, 1, 1))[0],
                    [rng.choice(people), rng.choice(people)],
                    now - timedelta(minutes=rng.randint(10, 500_000)),
                )
            )
        yield batch


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\radded {done:,} of {total:,} events", end="\n" if done == total else "", file=sys.stderr, flush=True)


async def add_demo_data(settings: Settings, *, count: int = 0, slug: str = "") -> tuple[str, list[str]]:
    """Adds what is missing, puts back what was changed, and adds `count` events. Returns what it did, and warnings."""
    added = Added()
    async with _opened(settings) as (auth, events, passwords, warnings):
        await add_accounts(auth, passwords, added, restore=True)
        await add_first_events(events, added)
        if count:
            await fill(auth, events, slug=slug, count=count)
    return added.summary() + (f"; added {count:,} events to {slug}" if count else ""), warnings


async def add_missing_demo_data(settings: Settings) -> tuple[bool, list[str]]:
    """For a database that is new, or has demo data of an earlier version. Returns whether it has any, and warnings."""
    async with _opened(settings) as (auth, events, passwords, warnings):
        async with auth.reading(None) as connection:
            new = await connection.one(_ANY_ORGANIZATION) is None
        known = await _known_accounts(auth)
        if new or 0 < len(known) < len(ACCOUNTS):
            await add_accounts(auth, passwords, Added(), restore=False)
        if new:
            await add_first_events(events, Added())
        return new or bool(known), warnings


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Database, Database, Passwords, list[str]]]:
    """Databases and warnings about them. An error in the block becomes a TaskError."""
    warnings = await check(settings)
    passwords = Passwords(**msgspec.structs.asdict(settings.passwords))
    try:
        async with open_databases(settings) as each:
            yield each["auth"], each["events"], passwords, warnings
    except ServiceError as error:
        raise TaskError(one_line(error.__cause__) if error.__cause__ else error.detail) from error
    except UniqueViolationError as error:
        raise TaskError(f"something else has what demo data needs; rename or delete that: {error.detail}") from error
    finally:
        passwords.close()
