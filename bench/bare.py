"""What EventBoard is measured against: its two plainest handlers, with nothing around them.

Litestar, uvicorn and asyncpg's pool as their documentation teaches; no accounts, no rights, no history, no log line.
The table is EventBoard's own, with all its indexes, so that the database does the same work for a row.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import asyncpg
from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from msgspec import Meta, Struct

# Every new event is this member's: nobody logs in here.
ORGANIZATION, AUTHOR = UUID(os.environ["BARE_ORGANIZATION"]), UUID(os.environ["BARE_AUTHOR"])

COLUMNS = (
    "id, title, description, location, start_date, end_date, time_zone, status, rejection_reason, organization_id,"
    " created_by_id, created_by_name, created_at, updated_at, version"
)
FIND = f"SELECT {COLUMNS} FROM events.events WHERE organization_id = $1 AND id = $2"  # noqa: S608 - all constants
CREATE = (
    "INSERT INTO events.events (organization_id, id, title, description, location, start_date, end_date, time_zone,"  # noqa: S608
    " status, created_by_id, created_by_name, version)"
    f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'DRAFT', $9, 'Bare', 1) RETURNING {COLUMNS}"
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


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    # As many connections as EventBoard's pool of a module has.
    async with asyncpg.create_pool(os.environ["BARE_DATABASE_URL"], min_size=20, max_size=20) as pool:
        app.state.pool = pool
        yield


@get("/events/{event_id:uuid}")
async def find_one(event_id: UUID, state: State) -> Event:
    row = await state.pool.fetchrow(FIND, ORGANIZATION, event_id)
    if row is None:
        raise NotFoundException
    return Event(*row)


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


app = Litestar([find_one, create], lifespan=[lifespan])
