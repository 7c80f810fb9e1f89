"""A command that is overtaken: between its load and its write, another request changes the event."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from eventboard.core.contract import IdempotencyKey
from eventboard.core.errors import Code, KeyStatus, ServiceError
from eventboard.db.database import Database
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events.contract import (
    CreateEvent,
    Event,
    EventCommand,
    EventDraft,
    EventPatch,
    FindHistory,
    UpdateEvent,
)
from eventboard.modules.events.listing_limiter import ListingLimiter, limits_for
from eventboard.modules.events.quotas import QuotaLimits, Quotas
from eventboard.modules.events.service import EventsService
from tests.modules.events.test_listing_limiter import GIVEN

PATIENCE = 30
MOMENT = datetime(2027, 3, 1, 18, tzinfo=UTC)
CALLER = Principal(uuid4(), uuid4(), Role.ADMIN, "Ada Admin", uuid4(), 2**31)
WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"


class Verify:
    async def __call__(self, token: str) -> Principal:
        return CALLER

    def known(self, token: str) -> Principal | None:
        return CALLER


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[EventsService]:
    database = Database(database_url, role="eventboard_events", size=1, connect_timeout=PATIENCE)
    await database.open()
    limiter = ListingLimiter(limits_for(1, share=1, share_by_organization=1, **GIVEN))
    quotas = Quotas(QuotaLimits(bytes_by_organization=0, keys_by_user=0, changes_by_event=0))
    yield EventsService(database, Verify(), limiter, quotas)
    await database.close()


@pytest.fixture
async def event(service: EventsService) -> Event:
    draft = EventDraft(
        title="Chess night", description="Bring a board.", start_date=MOMENT, end_date=MOMENT.replace(hour=21)
    )
    created = (await service.create(CreateEvent(actor="", draft=draft))).event
    assert created is not None
    return created


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def overtaken(command: Any, other: Any, observer: Any, change: str, event: Event) -> asyncio.Task[Any]:
    """The command, at its end. It has loaded the event when the change commits, and waits for it with its write."""
    async with asyncio.timeout(PATIENCE):
        async with other.transaction():
            await other.execute(change, event.id)
            task = asyncio.create_task(command)
            while not await observer.fetchval(WAITING):
                assert not task.done()
        await asyncio.wait([task])
    return task


async def test_by_a_change(service: EventsService, event: Event, other: Any, observer: Any) -> None:
    """It is applied to what the other request has left: nothing of that is lost, and every version has its entry."""
    command = service.update(UpdateEvent(actor="", event_id=event.id, patch=EventPatch(location="Hall 3")))
    change = "UPDATE events.events SET title = 'Go night', version = version + 1 WHERE id = $1"
    task = await overtaken(command, other, observer, change, event)
    written = task.result().event
    assert (written.title, written.location, written.version) == ("Go night", "Hall 3", 3)
    history = await service.history(FindHistory(actor="", event_id=event.id))
    assert [entry.version for entry in history.data] == [1, 3], "the other request of this test writes no history"


async def test_by_one_that_decides_it_otherwise(
    service: EventsService, event: Event, other: Any, observer: Any
) -> None:
    """It is rejected for what the event is now, and that is the outcome of its key."""
    command = EventCommand(actor="", event_id=event.id, idempotency_key=IdempotencyKey("key"))
    change = "UPDATE events.events SET status = 'SUBMITTED', version = version + 1 WHERE id = $1"
    task = await overtaken(service.submit(command), other, observer, change, event)
    error = task.exception()
    assert isinstance(error, ServiceError)
    assert (error.code, error.key_status) == (Code.WRONG_STATE, KeyStatus.EXECUTED)
    await observer.execute("UPDATE events.events SET status = 'DRAFT' WHERE id = $1", event.id)
    with pytest.raises(ServiceError) as replayed:
        await service.submit(command)
    assert (replayed.value.detail, replayed.value.key_status) == (error.detail, KeyStatus.REPLAYED)


async def test_by_a_deletion(service: EventsService, event: Event, other: Any, observer: Any) -> None:
    """There is no event any more."""
    command = service.delete(EventCommand(actor="", event_id=event.id))
    task = await overtaken(command, other, observer, "DELETE FROM events.events WHERE id = $1", event)
    error = task.exception()
    assert isinstance(error, ServiceError)
    assert error.code is Code.NOT_FOUND
