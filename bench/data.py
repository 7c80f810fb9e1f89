"""The data that everything is measured on: PostgreSQL, three organizations of three sizes, and their members.

It stays in var/bench-2 from run to run (what a run wrote is deleted by the next one): a million events take a minute.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from uuid import UUID, uuid5

import asyncpg
from msgspec import Struct

from eventboard.dev.demo import demo_id
from eventboard.dev.postgres import Postgres, start

ROOT = Path(__file__).parents[1]
# Another name when the rows below change, or the indexes of the baselines': an older run's are not what they would be.
FOLDER = ROOT / "var" / "bench-2"
# EventBoard's own, and the baselines': the same rows, and an index more for their lists.
OURS, THEIRS = "eventboard", "baselines"

SMALL, MIDDLE, LARGE = 10_000, 100_000, 1_000_000
# What a search is to find, in every organization, however large it is.
HITS = 1_000
NEEDLE = "harbour"

READER, WRITER, MODERATOR = "user@acme.com", "user@techinnovators.com", "moderator@acme.com"
# Everything that a run writes starts then, after all that was there before.
LATER = "2100-01-01T18:00:00Z"

_NAMESPACE = UUID("0b0c6a53-7d0d-4cf5-a4a5-2f2c3c1d0e01")
# A wheel's default of 128 MB is a laptop's; the rest makes filling quick, and nobody waits for the disk.
_SETTINGS = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "autovacuum": "off",  # or it would run in one turn and not in the next; Data.tidy() does its work
}

_FILL = r"""
INSERT INTO events.events (organization_id, id, title, description, location, start_date, end_date, time_zone, status,
    rejection_reason, created_by_id, created_by_name, created_at, updated_at, version)
SELECT $1, id, title, description, location, starts, starts + interval '2 hours', 'Europe/Berlin', status,
    CASE status WHEN 'REJECTED' THEN 'Please name a room and a person to ask.' END, author, 'Bench Author',
    made, made, 3
FROM generate_series(1::bigint, $2::bigint) AS n,
LATERAL (SELECT md5($1::uuid::text || n) AS h) AS hashed,
LATERAL (SELECT
    -- As UUIDv7: time first.
    (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id,
    ('x' || substr(h, 1, 7))::bit(28)::int AS a, ('x' || substr(h, 8, 7))::bit(28)::int AS b,
    ('x' || substr(h, 15, 7))::bit(28)::int AS c, ('x' || substr(h, 22, 7))::bit(28)::int AS d) AS numbers,
LATERAL (SELECT
    (ARRAY['Python','Security','Onboarding','Design','Budget','Accessibility','Data','Customer','Climate','Chess'])
        [1 + a % 10] AS topic,
    (ARRAY['workshop','meetup','review','lunch talk','hack day','retrospective','tour','tournament','training'])
        [1 + b % 9] AS form,
    (ARRAY['Bring your questions and something to write with.', 'Places are limited, so say early that you come.',
           'There is coffee before and time to talk after.', 'Recorded for those who can''t be there.'])
        [1 + c % 4] AS tail) AS words,
LATERAL (SELECT
    topic || ' ' || form || ' ' || n AS title,
    'A ' || form || ' about ' || lower(topic) || ' for everyone who works with it. ' || tail
        || CASE WHEN n % ($2 / $3) = 0 THEN ' We meet at the harbour.' ELSE '' END AS description,
    (ARRAY['Auditorium', 'Room 2.04', 'Room 4.12', 'Cafeteria', 'Roof terrace', 'Online', NULL])[1 + d % 7] AS location,
    (ARRAY['DRAFT','DRAFT','SUBMITTED','SUBMITTED','APPROVED','APPROVED','APPROVED','APPROVED','APPROVED','APPROVED',
           'APPROVED','APPROVED','APPROVED','APPROVED','REJECTED','CANCELLED'])[1 + a / 16 % 16] AS status,
    timestamptz '2024-01-01' + interval '30 minutes' * (b / 16 % 90000) AS starts,
    timestamptz '2023-11-14' + interval '1 second' * n AS made,
    -- A thousand authors.
    ('00000000-0000-7000-8000-' || lpad(to_hex(d % 1000), 12, '0'))::uuid AS author) AS event
"""
_SUBMITTED = r"""
INSERT INTO events.events (organization_id, id, title, description, location, start_date, end_date, time_zone, status,
    created_by_id, created_by_name, version)
SELECT $1, gen_random_uuid(), 'To be approved ' || n, 'It waits for a moderator to say yes.', 'Cafeteria',
    timestamptz '2100-02-01', timestamptz '2100-02-02', 'Europe/Berlin', 'SUBMITTED', $2, 'Bench Writer', 2
FROM generate_series(1, $3::int) AS n RETURNING id
"""


class Data(Struct, frozen=True):
    postgres: Postgres
    version: str
    databases: tuple[str, ...]

    def url(self, database: str) -> str:
        return self.postgres.url(database)

    def postmaster(self) -> int:
        return int(Path(self.postgres.data, "pgdata", "postmaster.pid").read_text().split()[0])

    async def tidy(self) -> None:
        """Deletes what was written, and does what autovacuum would have done."""
        for database in self.databases:
            await _run(
                self.postgres,
                database,
                "DELETE FROM events.events WHERE start_date >= '2100-01-01'",
                # The demo events keep theirs: `demo` would add an event without a history again.
                "DELETE FROM events.history AS entry WHERE NOT EXISTS (SELECT FROM events.events AS event"
                " WHERE event.organization_id = entry.organization_id AND event.id = entry.event_id)",
                "TRUNCATE events.idempotency_keys",
                "VACUUM (ANALYZE)",
                "CHECKPOINT",
            )

    async def ids(self, size: int, count: int) -> list[str]:
        """Events that every member sees, spread over all there are."""
        rows = await self._fetch(
            "SELECT id FROM events.events WHERE organization_id = $1 AND status = 'APPROVED'"
            " AND start_date < '2100-01-01' ORDER BY md5(id::text) LIMIT $2",
            organization(size),
            count,
        )
        return [str(row["id"]) for row in rows]

    async def submitted(self, database: str, count: int) -> list[str]:
        """New ones that wait for approval, each good for one."""
        rows = await self._fetch(_SUBMITTED, organization(MIDDLE), demo_id(WRITER), count, database=database)
        return [str(row["id"]) for row in rows]

    async def _fetch(self, statement: str, *arguments: Any, database: str = OURS) -> list[Any]:
        connection = await asyncpg.connect(self.url(database))
        try:
            rows: list[Any] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()


def organization(size: int) -> UUID:
    return uuid5(_NAMESPACE, str(size))


@asynccontextmanager
async def prepared(sizes: Iterable[int], *, baselines: bool) -> AsyncIterator[Data]:
    """PostgreSQL with organizations of these sizes; with `baselines`, the middle one in their database too."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        postgres = start(FOLDER, durable=False, settings=_SETTINGS)
        stack.callback(postgres.stop)
        databases = await _databases(postgres)
        if OURS not in databases:
            await _run(postgres, "postgres", f"CREATE DATABASE {OURS}")
        set_up(postgres.url(OURS))
        for size in sorted({MIDDLE, *sizes} if baselines else set(sizes)):
            await _fill(postgres, size)
        if baselines and THEIRS not in databases:
            print("copying the data for the baselines", flush=True)
            await _run(postgres, "postgres", f"CREATE DATABASE {THEIRS} TEMPLATE {OURS}")
            await _run(postgres, THEIRS, "CREATE INDEX by_start ON events.events (organization_id, start_date, id)")
        known = tuple({OURS, THEIRS} & {OURS, *databases, *([THEIRS] if baselines else [])})
        for database in known:
            await _run(postgres, database, "DELETE FROM auth.sessions")
        data = Data(postgres, postgres.version, known)
        await data.tidy()
        yield data


def set_up(url: str) -> None:
    """Migrates a database, and adds the demo data."""
    for command in ("migrate", "demo"):
        environ = {**_plain(), "EVENTBOARD_DATABASE_URL": url}
        subprocess.run([sys.executable, "-m", "eventboard", command], env=environ, check=True, stdout=DEVNULL)


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EVENTBOARD_")}


async def _databases(postgres: Postgres) -> set[str]:
    connection = await asyncpg.connect(postgres.url("postgres"))
    rows = await connection.fetch("SELECT datname FROM pg_database")
    await connection.close()
    return {row["datname"] for row in rows}


async def _run(postgres: Postgres, database: str, *statements: str) -> None:
    connection = await asyncpg.connect(postgres.url(database))
    for statement in statements:
        try:
            await connection.execute(statement)
        except (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError) as error:
            # No timeout of ours or of PostgreSQL's does this: somebody else has ended the server or its process.
            sys.exit(f"{statement}: {error}; the reason is in {FOLDER / 'server.log'}")
    await connection.close()


async def _fill(postgres: Postgres, size: int) -> None:
    """The indexes that searching needs are made after the rows: in one go, not entry by entry."""
    connection = await asyncpg.connect(postgres.url(OURS))
    there = organization(size)
    row = ("SELECT 1 FROM auth.organizations WHERE id = $1", there)
    if await connection.fetchval(*row) is None:
        print(f"filling an organization with {size:,} events", flush=True)
        async with connection.transaction():
            indexes = await connection.fetch(
                "SELECT format('events.%I', indexname) AS name, indexdef FROM pg_indexes"
                " WHERE schemaname = 'events' AND tablename = 'events' AND indexname NOT LIKE 'pk%'"
            )
            for index in indexes:
                await connection.execute(f"DROP INDEX {index['name']}")
            await connection.execute(_FILL, there, size, HITS)
            for index in indexes:
                await connection.execute(index["indexdef"])
            await connection.execute(
                "INSERT INTO auth.organizations (id, name, name_key, slug) VALUES ($1, $2, $2, $2)",
                there,
                f"bench{size}",
            )
            for email, role in ((READER, "USER"), (WRITER, "USER"), (MODERATOR, "MODERATOR")):
                await connection.execute(
                    "INSERT INTO auth.memberships (organization_id, user_id, role) VALUES ($1, $2, $3)",
                    there,
                    demo_id(email),
                    role,
                )
    await connection.close()
