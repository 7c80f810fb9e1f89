"""The second lock: with every check of the application away, no role reads or writes another organization's rows."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import select

from eventboard.modules.events.models import EventRow
from eventboard.platform.database import Database, Statement
from tests.support.board import Board, Organization

# Whose rows are nobody's organization's: the auth role alone has them. Everything else must have a policy.
IDENTITY = {
    "auth.organizations",
    "auth.users",
    "auth.sessions",
    "auth.refresh_tokens",
    "auth.alembic_version",
    "events.alembic_version",
}
TENANT = {
    "auth.memberships": "eventboard_auth",
    "auth.invitations": "eventboard_auth",
    "events.events": "eventboard_events",
    "events.history": "eventboard_events",
    "events.idempotency_keys": "eventboard_events",
}
ROLES = ("eventboard_auth", "eventboard_events", "eventboard_sweeper")


@pytest.fixture
async def connection(board: Board) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(board.database_url)
    yield connection
    await connection.close()


async def become(
    connection: asyncpg.Connection, role: str, organization: UUID | None, user: UUID | None = None
) -> None:
    await connection.execute("RESET ROLE")
    await connection.execute(f"SET ROLE {role}")
    for name, value in (("organization_id", organization), ("user_id", user)):
        await connection.execute("SELECT set_config($1, $2, false)", f"eventboard.{name}", str(value or ""))


@pytest.fixture
def full(organization: Organization) -> Organization:
    """An organization with a row in each of its tables."""
    event = organization.event_in("APPROVED")
    key = {"idempotency-key": uuid4().hex}
    assert organization.user.http.post(f"/events/{event['id']}/cancel", headers=key).status_code == 200
    body = {"email": f"{uuid4().hex}@example.com", "role": "USER"}
    assert organization.admin.http.post("/invitations", json=body).status_code == 201
    return organization


async def test_every_table_is_locked(connection: asyncpg.Connection) -> None:
    """A table of a module is either known to be identity's, or has forced row-level security and a policy."""
    rows = await connection.fetch(
        "SELECT format('%s.%s', n.nspname, c.relname) AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,"
        " EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS policy"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('auth', 'events') AND c.relkind IN ('r', 'p')"
    )
    locked = {row["name"] for row in rows if row["forced"] and row["policy"]}
    assert locked == set(TENANT)
    assert {row["name"] for row in rows} - locked == IDENTITY


async def test_roles_own_nothing(connection: asyncpg.Connection) -> None:
    """No role that a process works under owns anything, passes by a policy, or can become another."""
    for role in ROLES:
        row = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin,"
            " EXISTS (SELECT FROM pg_class WHERE relowner = r.oid),"
            " EXISTS (SELECT FROM pg_proc WHERE proowner = r.oid),"
            " EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = $1",
            role,
        )
        assert row is not None
        assert not any(row), role


async def test_role_of_another_module(connection: asyncpg.Connection) -> None:
    """Auth's role reads nothing of events, and the other way round; the sweeper reads nothing but keys."""
    for table in {*TENANT, *IDENTITY}:
        for role in ROLES:
            owner = role == TENANT.get(table, f"eventboard_{table.split('.')[0]}")
            if owner or (role, table) == ("eventboard_sweeper", "events.idempotency_keys"):
                continue
            await become(connection, role, None)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT FROM {table}")


@pytest.mark.parametrize("table", sorted(TENANT))
async def test_statements(connection: asyncpg.Connection, full: Organization, table: str) -> None:
    """Without an organization, and for another one: nothing is read, changed, deleted or put in. For its own it is."""
    role = TENANT[table]
    for organization in (None, uuid4()):
        await become(connection, role, organization)
        assert await connection.fetch(f"SELECT FROM {table}") == []
        if table != "events.history":
            changed = await connection.execute(f"UPDATE {table} SET organization_id = organization_id")
            assert changed == "UPDATE 0"
        if table in ("events.events", "events.idempotency_keys"):
            assert await connection.execute(f"DELETE FROM {table}") == "DELETE 0"
    await become(connection, role, full.id)
    rows = await connection.fetch(f"SELECT organization_id FROM {table}")
    assert rows
    assert {row[0] for row in rows} == {full.id}
    if table != "events.history":
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(f"UPDATE {table} SET organization_id = gen_random_uuid()")


async def test_rows_put_into_another_organization(connection: asyncpg.Connection, full: Organization) -> None:
    """The policy holds for what is written, too."""
    copies = {
        "events.events": "id",
        "events.history": "event_id",
        "auth.memberships": "user_id",
    }
    for table, key in copies.items():
        row = dict((await connection.fetch(f"SELECT * FROM {table} WHERE organization_id = $1", full.id))[0])
        row |= {key: uuid4()}
        await become(connection, TENANT[table], uuid4())
        marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())
        await connection.execute("RESET ROLE")


async def test_own_memberships(connection: asyncpg.Connection, full: Organization) -> None:
    """Log-in reads somebody's own memberships before any organization is chosen; it changes none of them so."""
    await become(connection, "eventboard_auth", None, full.user.id)
    rows = await connection.fetch("SELECT user_id FROM auth.memberships")
    assert [row[0] for row in rows] == [full.user.id]
    assert await connection.execute("UPDATE auth.memberships SET role = 'ADMIN'") == "UPDATE 0"


@pytest.mark.parametrize("function", ["search", "search_rows"])
async def test_search(connection: asyncpg.Connection, full: Organization, function: str) -> None:
    """The functions that find text pass by the policies, and yet find nothing of another organization."""
    for organization, found in ((None, False), (uuid4(), False), (full.id, True)):
        await become(connection, "eventboard_events", organization)
        assert bool(await connection.fetch(f"SELECT events.{function}('%chess%')")) is found
    for role in ("eventboard_auth", "eventboard_sweeper"):
        await become(connection, role, full.id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT events.{function}('%')")


async def test_sweeper(connection: asyncpg.Connection, full: Organization) -> None:
    """Its role sees what has expired, whoever's it is, and can only delete it."""
    # In a transaction that is undone: the server's own sweeper finds nothing to take away.
    transaction = connection.transaction()
    await transaction.start()
    mine = f"organization_id = '{full.id}'"
    await become(connection, "eventboard_sweeper", None)
    assert await connection.fetch(f"SELECT FROM events.idempotency_keys WHERE {mine}") == []
    assert await connection.execute(f"DELETE FROM events.idempotency_keys WHERE {mine}") == "DELETE 0"
    await connection.execute("RESET ROLE")
    await connection.execute(f"UPDATE events.idempotency_keys SET expires_at = now() WHERE {mine}")
    await become(connection, "eventboard_sweeper", None)
    for change in ("expires_at = now() + interval '1 day'", "expires_at = expires_at", "outcome = ''"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with connection.transaction():
                await connection.execute(f"UPDATE events.idempotency_keys SET {change} WHERE {mine}")
    assert len(await connection.fetch(f"SELECT FROM events.idempotency_keys WHERE {mine}")) == 1
    assert await connection.execute(f"DELETE FROM events.idempotency_keys WHERE {mine}") == "DELETE 1"
    await transaction.rollback()


async def test_many_organizations_over_few_connections(board: Board) -> None:
    """Ten thousand scopes of twenty organizations over five connections, cancelled at random: no foreign row."""
    organizations = [await asyncio.to_thread(board.organization) for _ in range(20)]
    await asyncio.to_thread(
        board.put, [{"author": organization.user, "status": "DRAFT"} for organization in organizations]
    )
    database = Database(board.database_url, role="eventboard_events", size=5, connect_timeout=5)
    await database.open()
    everything = Statement(select(EventRow.organization_id))
    chance = Random(5)
    foreign = seen = 0

    async def look(organization: UUID, *, reading: bool) -> None:
        nonlocal foreign, seen
        scope = database.reading(organization) if reading else database.transaction(organization)
        async with scope as connection:
            rows = await connection.all(everything)
        seen += 1
        foreign += {row[0] for row in rows} != {organization}

    async def client(turns: int) -> None:
        for _ in range(turns):
            task = asyncio.create_task(look(chance.choice(organizations).id, reading=chance.random() < 0.5))
            if chance.random() < 0.2:
                await asyncio.wait([task], timeout=chance.random() * 0.002)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task

    await asyncio.gather(*(client(500) for _ in range(20)))
    await database.close()
    assert foreign == 0
    assert seen > 5_000
