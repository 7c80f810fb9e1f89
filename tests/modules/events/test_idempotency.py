"""Exactly once, at the scope of a command: who waits, how long, on which connection; and when a key expires."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from eventboard.core import request_context
from eventboard.core.contract import IdempotencyKey
from eventboard.core.errors import Code, KeyStatus, ServiceError
from eventboard.db.database import Connection, Database
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events import repository
from eventboard.modules.events.contract import (
    Action,
    CreateEvent,
    Event,
    EventCommand,
    EventDraft,
    FindKey,
    KeyState,
    Status,
    Written,
)
from eventboard.modules.events.idempotency import LIFETIME, Idempotency, Request
from eventboard.modules.events.quotas import QuotaLimits, Quotas
from tests.support.stopwatch import Stopwatch

# Seconds after which something hangs.
PATIENCE = 30
# Seconds that a moment may be late.
SLACK = 0.15
NEW_RECORD = {
    "operation": "o",
    "target": None,
    "payload": b"p",
    "outcome": b"o",
    "correlation_id": "c",
    "lifetime": 1.0,
}
MOMENT = datetime(2027, 3, 1, 18, tzinfo=UTC)
UNLIMITED = Quotas(QuotaLimits(bytes_by_organization=0, keys_by_user=0, changes_by_event=0))


def principal() -> Principal:
    return Principal(uuid4(), uuid4(), Role.USER, "Nia New", uuid4(), 2**31)


def event(caller: Principal) -> Event:
    """As stored, whatever it is: nothing here looks into it."""
    return Event(
        uuid4(), "Chess", "", None, MOMENT, MOMENT, "UTC", Status.DRAFT, None, caller.organization_id, caller.user_id,
        caller.name, MOMENT, MOMENT, 1,
    )  # fmt: skip


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    """A pool of one connection: while it is in use, everybody else waits."""
    database = Database(url, role="eventboard_events", size=1, connect_timeout=PATIENCE)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Database]:
    async with connected(database_url) as database:
        yield database


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Database]:
    """The pool of another replica."""
    async with connected(database_url) as database:
        yield database


@pytest.fixture
async def superuser(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


class Work:
    """Counts how often it ran. It goes on when it may."""

    def __init__(self, caller: Principal, *, lifetime: float | None = None) -> None:
        self.caller = caller
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.runs = 0
        self.first_fails: Exception | None = None
        draft = EventDraft(title="Chess", description="Bring a board.", start_date=MOMENT, end_date=MOMENT)
        self.command = CreateEvent(actor="", draft=draft, idempotency_key=IdempotencyKey("key", lifetime))

    async def once(self, database: Database) -> Written:
        scope_of_create = Idempotency(database, UNLIMITED).scope(self.caller, Action.CREATE, self.command)
        async with asyncio.timeout(PATIENCE), scope_of_create as scope:
            if scope.replayed is not None:
                return scope.replayed
            self.runs += 1
            run = self.runs
            self.began.set()
            await self.may_end.wait()
            if run == 1 and self.first_fails is not None:
                raise self.first_fails
            return await scope.store(event(self.caller))


@asynccontextmanager
async def running(work: Work, database: Database) -> AsyncIterator[asyncio.Task[Written]]:
    """A first request, in the middle of its work until `may_end` or the end of the block."""
    work.may_end.clear()
    first = asyncio.create_task(work.once(database))
    await work.began.wait()
    try:
        yield first
    finally:
        work.may_end.set()
        await asyncio.wait([first])


async def test_second_waits_without_a_connection(here: Database, there: Database) -> None:
    """Its pool's only connection is free for others while it waits; then it gets the first one's outcome."""
    work = Work(principal())
    async with running(work, here) as first:
        second = asyncio.create_task(work.once(there))
        for _ in range(50):
            async with there.reading(None) as connection:
                await connection.all(repository.COUNT_EXPIRED_KEYS)
        assert not second.done()
    assert first.result().key_status is KeyStatus.EXECUTED
    assert await second == Written(first.result().event, KeyStatus.REPLAYED)
    assert work.runs == 1


async def test_second_gives_up(here: Database, there: Database) -> None:
    """Half a second before its budget ends, so that its client learns that the first one still runs."""
    work = Work(principal())
    async with running(work, here):
        with Stopwatch() as watch, request_context.budget(1.2), pytest.raises(ServiceError) as rejected:
            await work.once(there)
        assert watch.elapsed >= 0.7
        assert watch.since(watch.begun + 0.7) <= SLACK
    assert (rejected.value.code, rejected.value.retry_after) == (Code.REQUEST_IN_PROGRESS, 1)
    assert rejected.value.key_status is None


async def test_second_of_a_key_that_an_adapter_made(here: Database, there: Database) -> None:
    """It waits to the end of its budget: its client sent no key, and doesn't know whether the write will happen."""
    work = Work(principal(), lifetime=60)
    async with running(work, here) as first:
        with request_context.budget(0.7), pytest.raises((TimeoutError, ServiceError)) as raised:
            async with asyncio.timeout(request_context.remaining()):
                await work.once(there)
        # Where it is just looking the key up, that statement says it.
        assert getattr(raised.value, "code", Code.DEADLINE_EXCEEDED) is Code.DEADLINE_EXCEEDED
        last = asyncio.create_task(work.once(there))
    assert first.result().key_status is None
    assert await last == Written(first.result().event, None)
    assert work.runs == 1


async def test_first_fails_while_the_second_waits(here: Database, there: Database) -> None:
    """The second runs in its place."""
    work = Work(principal())
    work.first_fails = ServiceError(Code.UNAVAILABLE, "Not now.")
    async with running(work, here) as first:
        second = asyncio.create_task(work.once(there))
        async with there.reading(None):
            pass  # it has looked, and waits
    assert first.exception() is work.first_fails
    assert (await second).key_status is KeyStatus.EXECUTED
    assert work.runs == 2


async def test_first_is_cancelled(here: Database) -> None:
    """As when its client's budget ends: the key is free at once, and the connection is back."""
    work = Work(principal())
    async with running(work, here) as first:
        first.cancel()
        await asyncio.wait([first])
    with Stopwatch() as watch, request_context.budget(PATIENCE):
        assert (await work.once(here)).key_status is KeyStatus.EXECUTED
    assert watch.seconds < 1


async def test_no_outcome(here: Database) -> None:
    """A command that doesn't store what it has done is rolled back."""
    work = Work(principal())
    written = {"organization_id": work.caller.organization_id, "user_id": work.caller.user_id, "key": "another"}
    with pytest.raises(RuntimeError):
        async with Idempotency(here, UNLIMITED).scope(work.caller, Action.CREATE, work.command) as scope:
            assert await scope.connection.one(repository.STORE_KEY, **written, **NEW_RECORD)
    async with here.reading(work.caller.organization_id, work.caller.user_id) as connection:
        assert await connection.one(repository.FIND_KEY, **written) is None
    assert (await work.once(here)).key_status is KeyStatus.EXECUTED


async def test_record_that_can_not_be_kept(here: Database, superuser: Any) -> None:
    """Somebody got past the lock and was first: the primary key says so, and the write doesn't happen."""
    work = Work(principal())
    async with running(work, here) as first:
        await put(superuser, work.caller, timedelta(hours=1))
    assert isinstance(error := first.exception(), ServiceError)
    assert error.code is Code.UNAVAILABLE


async def test_report_of_a_running_key(here: Database, there: Database) -> None:
    """Whatever its lock's number, it is found again in PostgreSQL's list of locks, the negative ones too."""
    query = FindKey(actor="", key="key")
    for _ in range(20):
        work = Work(principal())
        reporting = Idempotency(there, UNLIMITED)
        assert (await reporting.report(work.caller, query)).state is KeyState.UNKNOWN
        async with running(work, here):
            assert (await reporting.report(work.caller, query)).state is KeyState.RUNNING
        assert (await reporting.report(work.caller, query)).state is KeyState.DONE


# Expiry


async def put(superuser: Any, caller: Principal, left: timedelta, key: str = "key") -> None:
    """A record of an outcome that expires after so long, counted from the transaction's begin."""
    await superuser.execute(
        "INSERT INTO events.idempotency_keys (organization_id, user_id, key, operation, payload, outcome,"
        " correlation_id, expires_at) VALUES ($1, $2, $3, 'events.create', $4, '\\x80', 'put', now() + $5)",
        caller.organization_id,
        caller.user_id,
        key,
        Request.of("events.create", Work(caller).command).payload,
        left,
    )


async def test_kept_for_a_day(here: Database, superuser: Any) -> None:
    """24 hours from the moment it ran, by the database's clock."""
    await Work(principal()).once(here)
    ((created, expires),) = await superuser.fetch("SELECT created_at, expires_at FROM events.idempotency_keys")
    assert expires - created == timedelta(seconds=LIFETIME) == timedelta(hours=24)


async def test_kept_for_the_adapter(here: Database, superuser: Any) -> None:
    """A key that an adapter made lives for as long as it says."""
    await Work(principal(), lifetime=62.5).once(here)
    ((created, expires),) = await superuser.fetch("SELECT created_at, expires_at FROM events.idempotency_keys")
    assert expires - created == timedelta(seconds=62.5)


@pytest.mark.parametrize(
    ("left", "lives"),
    [(timedelta(microseconds=1), True), (timedelta(0), False), (timedelta(microseconds=-1), False)],
    ids=["a microsecond left", "at the edge", "a microsecond late"],
)
async def test_edge(superuser: Any, left: timedelta, lives: bool) -> None:
    """A key is found until the very moment it expires, and can be used again from that moment on."""
    caller = principal()
    scope = {"organization_id": caller.organization_id, "user_id": caller.user_id, "key": "key"}
    async with superuser.transaction():  # in one, so that now() is the same everywhere
        await put(superuser, caller, left)
        connection = Connection(superuser)
        assert (await connection.one(repository.FIND_KEY, **scope) is not None) is lives
        assert (await connection.one(repository.STORE_KEY, **scope, **NEW_RECORD) is None) is lives
        row = await superuser.fetchrow("SELECT outcome, created_at = now() FROM events.idempotency_keys")
        assert (row == (b"o", True)) is not lives


@pytest.mark.parametrize("late", [timedelta(minutes=-1), timedelta(seconds=1)], ids=["24 h - 1 min", "24 h + 1 s"])
async def test_after_a_day(here: Database, superuser: Any, late: timedelta) -> None:
    """A minute before, it is replayed; a second after, it runs again and is kept for another day."""
    work = Work(principal())
    first = await work.once(here)
    shift = timedelta(seconds=LIFETIME) + late
    await superuser.execute(
        "UPDATE events.idempotency_keys SET created_at = created_at - $1::interval, expires_at = expires_at - $1", shift
    )
    second = await work.once(here)
    if late < timedelta(0):
        assert (second, work.runs) == (Written(first.event, KeyStatus.REPLAYED), 1)
        return
    assert (second.key_status, work.runs) == (KeyStatus.EXECUTED, 2)
    assert second.event != first.event
    assert await work.once(here) == Written(second.event, KeyStatus.REPLAYED)
    ((left,),) = await superuser.fetch("SELECT expires_at - now() FROM events.idempotency_keys")
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)


async def test_expired_key_of_another_request(here: Database, superuser: Any) -> None:
    """An expired key belongs to no request any more."""
    work = Work(principal())
    await put(superuser, work.caller, timedelta(seconds=-1))
    await superuser.execute("UPDATE events.idempotency_keys SET operation = 'events.submit', payload = '\\x00'")
    assert (await work.once(here)).key_status is KeyStatus.EXECUTED


async def test_two_race_for_an_expired_key(here: Database, there: Database, superuser: Any) -> None:
    """One of them runs, and the other one gets its outcome."""
    for _ in range(20):
        work = Work(principal())
        await put(superuser, work.caller, timedelta(seconds=-1))
        answers = await asyncio.gather(work.once(here), work.once(there))
        assert sorted(answer.key_status or "" for answer in answers) == [KeyStatus.EXECUTED, KeyStatus.REPLAYED]
        assert (answers[0].event, work.runs) == (answers[1].event, 1)


# The fingerprint


def test_field_of_a_newer_version() -> None:
    """A contract's new optional field, not given, changes no fingerprint: a retry may meet either version."""

    class Newer(CreateEvent, frozen=True, kw_only=True, omit_defaults=True):
        notify: bool = True
        tags: tuple[str, ...] = ()

    older = Work(principal()).command
    newer = Newer(actor="another token", draft=older.draft, idempotency_key=IdempotencyKey("another key"))
    assert Request.of("events.create", older) == Request.of("events.create", newer)
    newer = Newer(actor="", draft=older.draft, notify=False)
    assert Request.of("events.create", older) != Request.of("events.create", newer)


def test_target_is_no_payload() -> None:
    """So that the error can say which of them differs."""
    one, other = (Request.of("events.submit", EventCommand(actor="", event_id=UUID(int=n))) for n in (1, 2))
    assert one.payload == other.payload
    assert one.target != other.target
