"""The bare machine: Litestar on the same server, asyncpg's pool as its documentation teaches, one statement a call.

No accounts, no rights, no second lock, no history, no idempotency, no log line. The table is EventBoard's own with all
its indexes, so that the database does the same work for a row; its list has an index more, of its own.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from msgspec import Meta, Struct

# Nobody logs in here: whose events they are, and whose every new one is.
ORGANIZATION, AUTHOR = UUID(os.environ["BENCH_ORGANIZATION"]), UUID(os.environ["BENCH_AUTHOR"])

COLUMNS = (
    "id, title, description, location, start_date, end_date, time_zone, status, rejection_reason, organization_id,"
    " created_by_id, created_by_name, created_at, updated_at, version"
)
FIND = f"SELECT {COLUMNS} FROM events.events WHERE organization_id = $1 AND id = $2"  # noqa: S608 - all constants
_SHOWN = f"SELECT {COLUMNS} FROM events.events WHERE organization_id = $1 AND status IN ('APPROVED', 'CANCELLED')"  # noqa: S608
LIST = f"{_SHOWN} ORDER BY start_date, id LIMIT $2"
SEARCH = rf"{_SHOWN} AND (title || E'\x1f' || description) ILIKE $3 ORDER BY start_date, id LIMIT $2"
CREATE = (
    "INSERT INTO events.events (organization_id, id, title, description, location, start_date, end_date, time_zone,"  # noqa: S608
    " status, created_by_id, created_by_name, version)"
    f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'DRAFT', $9, 'Bench Writer', 1) RETURNING {COLUMNS}"
)
APPROVE = (
    "UPDATE events.events SET status = 'APPROVED', version = version + 1, updated_at = now()"  # noqa: S608
    f" WHERE organization_id = $1 AND id = $2 AND status = 'SUBMITTED' RETURNING {COLUMNS}"
)


class Draft(Struct, rename="camel"):
    title: Annotated[str, Meta(min_length=3, max_length=200)]
    description: Annotated[str, Meta(min_length=10, max_length=5000)]
    start_date: datetime
    end_date: datetime
    location: str | None = None
    time_zone: str = "UTC"


class Event(Struct, rename="camel"):
    id: UUID
    title: str
    description: str
    location: str | None
    start_date: datetime
    end_date: datetime
    time_zone: str
    status: str
    rejection_reason: str | None
    organization_id: UUID
    created_by_id: UUID
    created_by_name: str
    created_at: datetime
    updated_at: datetime
    version: int


class Events(Struct):
    data: list[Event]


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    # As many connections as EventBoard's pool of a module has.
    async with asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=20, max_size=20) as pool:
        app.state.pool = pool
        yield


def _one(row: Any) -> Event:
    if row is None:
        raise NotFoundException
    return Event(*row)


@get("/events/{event_id:uuid}")
async def find_one(event_id: UUID, state: State) -> Event:
    return _one(await state.pool.fetchrow(FIND, ORGANIZATION, event_id))


@get("/events")
async def find_all(state: State, limit: int = 10, search: str | None = None) -> Events:
    if search is None:
        rows = await state.pool.fetch(LIST, ORGANIZATION, limit)
    else:
        rows = await state.pool.fetch(SEARCH, ORGANIZATION, limit, f"%{search}%")
    return Events([Event(*row) for row in rows])


@post("/events")
async def create(data: Draft, state: State) -> Event:
    row = await state.pool.fetchrow(
        CREATE,
        ORGANIZATION,
        uuid4(),
        data.title,
        data.description,
        data.location,
        data.start_date,
        data.end_date,
        data.time_zone,
        AUTHOR,
    )
    return Event(*row)


@post("/events/{event_id:uuid}/approve", status_code=200)
async def approve(event_id: UUID, state: State) -> Event:
    return _one(await state.pool.fetchrow(APPROVE, ORGANIZATION, event_id))


app = Litestar([find_one, find_all, create, approve], lifespan=[lifespan])
