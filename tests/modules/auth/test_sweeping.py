"""Sessions and invitations that are long over are deleted, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from eventboard.db.database import Database
from eventboard.db.sweeper import Sweeper
from eventboard.modules.auth.sweeps import EXPIRED_INVITATIONS, EXPIRED_SESSIONS, SWEEPS

ROLE = "eventboard_auth_sweeper"
ORGANIZATION, USER = uuid4(), uuid4()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, role=ROLE, size=4, connect_timeout=30)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def superuser(database_url: str) -> AsyncIterator[Any]:
    """With somebody in an organization, to whom sessions and invitations can belong."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO auth.organizations (id, name, name_key, slug) VALUES ($1, 'A', 'a', 'a')", ORGANIZATION
    )
    await connection.execute(
        "INSERT INTO auth.users (id, email, password_hash, first_name, last_name)"
        " VALUES ($1, 'a@example.com', '', 'A', 'A')",
        USER,
    )
    yield connection
    await connection.close()


async def session(superuser: Any, lives: str, *, ended: bool = False, tokens: int = 1) -> UUID:
    """One that lives for so long from now on (an interval), with so many refresh tokens."""
    id_: UUID = await superuser.fetchval(
        "INSERT INTO auth.sessions (id, user_id, organization_id, expires_at, ended_at)"
        " VALUES ($1, $2, $3, now() + $4::text::interval, CASE WHEN $5 THEN now() END) RETURNING id",
        uuid4(),
        USER,
        ORGANIZATION,
        lives,
        ended,
    )
    await superuser.execute(
        "INSERT INTO auth.refresh_tokens (hash, session_id, spent_at)"
        " SELECT sha256((n || ' ' || $1::uuid)::bytea), $1, now() FROM generate_series(1, $2) AS n",
        id_,
        tokens,
    )
    return id_


async def invitation(superuser: Any, lives: str, *, used: bool = False) -> UUID:
    id_: UUID = await superuser.fetchval(
        "INSERT INTO auth.invitations (organization_id, id, email, role, hash, invited_by_id, expires_at, used_at)"
        " VALUES ($1, $2, 'b@example.com', 'USER', sha256(($2::uuid)::text::bytea), $3, now() + $4::text::interval,"
        " CASE WHEN $5 THEN now() END) RETURNING id",
        ORGANIZATION,
        uuid4(),
        USER,
        lives,
        used,
    )
    return id_


async def ids(superuser: Any, table: str) -> set[UUID]:
    return {row[0] for row in await superuser.fetch(f"SELECT id FROM auth.{table}")}


async def test_sessions(database: Database, superuser: Any) -> None:
    """A day after its end a session goes, with all its tokens; until then it stays, ended or not."""
    kept = {
        await session(superuser, "1 hour"),
        await session(superuser, "1 hour", ended=True),
        await session(superuser, "-23 hours 59 minutes"),
    }
    for ended in (False, True):
        await session(superuser, "-24 hours", ended=ended, tokens=50)
    sweeper = Sweeper(database, EXPIRED_SESSIONS, every=60)
    assert (await sweeper.sweep(), sweeper.backlog) == (2, 0)
    assert await ids(superuser, "sessions") == kept
    assert await superuser.fetchval("SELECT count(*) FROM auth.refresh_tokens") == len(kept)


async def test_invitations(database: Database, superuser: Any) -> None:
    """Thirty days after its end an invitation goes, used or not; until then an ADMIN sees what became of it."""
    kept = {
        await invitation(superuser, "1 hour"),
        await invitation(superuser, "-29 days", used=True),
        await invitation(superuser, "-29 days"),
    }
    await invitation(superuser, "-30 days")
    await invitation(superuser, "-30 days", used=True)
    sweeper = Sweeper(database, EXPIRED_INVITATIONS, every=60)
    assert (await sweeper.sweep(), sweeper.backlog) == (2, 0)
    assert await ids(superuser, "invitations") == kept


async def test_batches(database: Database, superuser: Any) -> None:
    """More than one statement takes are swept in one round; at once, each is swept by one process, or left to the next
    round."""
    count = 2 * EXPIRED_SESSIONS.batch + 1
    sweepers = [Sweeper(database, EXPIRED_SESSIONS, every=60) for _ in range(3)]
    for _ in range(count):
        await session(superuser, "-2 days", tokens=0)
    assert await sweepers[0].sweep() == count
    for _ in range(count):
        await session(superuser, "-2 days", tokens=0)
    swept = await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
    assert sum(swept) + await sweepers[0].sweep() == count
    assert await ids(superuser, "sessions") == set()


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
async def test_what_the_role_may(superuser: Any, sweep: Any) -> None:
    """It sees what is over, whoever's it is, and can only delete it; naming an organization shows it no more."""
    table, make = (("sessions", session), ("invitations", invitation))[SWEEPS.index(sweep)]
    live, over = await make(superuser, "1 hour"), await make(superuser, "-31 days")
    await superuser.execute(f"SET ROLE {ROLE}")
    for organization in ("", str(ORGANIZATION)):
        await superuser.execute("SELECT set_config('eventboard.organization_id', $1, false)", organization)
        assert await ids(superuser, table) == {over}
        for change in ("expires_at = now() + interval '1 day'", "expires_at = expires_at", "user_id = user_id"):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError)):
                await superuser.execute(f"UPDATE auth.{table} SET {change}")
    assert await superuser.execute(f"DELETE FROM auth.{table}") == "DELETE 1"
    for other in ("users", "organizations", "memberships", "refresh_tokens", "counters"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await superuser.fetch(f"SELECT FROM auth.{other}")
    await superuser.execute("RESET ROLE")
    assert await ids(superuser, table) == {live}
