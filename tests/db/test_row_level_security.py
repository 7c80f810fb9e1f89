"""The second lock: with every check of the application away, no role reads or writes another organization's rows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support import account_matrix, matrix
from tests.support import cluster as clusters
from tests.support.board import Board, Organization
from tests.support.cancellations import look_around
from tests.support.database import opened
from tests.support.processes import serving

# Whose rows are nobody's organization's: the auth role alone has them. Everything else must have a policy.
IDENTITY = {
    "auth.organizations",
    "auth.users",
    "auth.sessions",
    "auth.refresh_tokens",
    "auth.counters",
    "auth.alembic_version",
    "events.alembic_version",
}
TENANT = {
    "auth.memberships": "eventboard_auth",
    "auth.invitations": "eventboard_auth",
    "events.events": "eventboard_events",
    "events.history": "eventboard_events",
    "events.idempotency_keys": "eventboard_events",
    "events.tallies": "eventboard_events",
}
ROLES = ("eventboard_auth", "eventboard_events", "eventboard_sweeper", "eventboard_auth_sweeper")


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


async def locked_tables(connection: asyncpg.Connection) -> dict[str, bool]:
    """Whatever holds rows in a module's schema, and whether it has forced row-level security and a policy."""
    rows = await connection.fetch(
        "SELECT format('%s.%s', n.nspname, c.relname) AS name, c.relrowsecurity AND c.relforcerowsecurity"
        " AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS locked"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('auth', 'events') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
    return {row["name"]: row["locked"] for row in rows}


async def test_every_table_is_locked(connection: asyncpg.Connection) -> None:
    """A table of a module is either known to be identity's, or has forced row-level security and a policy."""
    assert await locked_tables(connection) == {**dict.fromkeys(TENANT, True), **dict.fromkeys(IDENTITY, False)}


PLANTED = {
    "with nothing": ("CREATE TABLE events.planted (organization_id uuid)",),
    "without a policy": (
        "CREATE TABLE events.planted (organization_id uuid)",
        "ALTER TABLE events.planted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    ),
    "not for its owner": (
        "CREATE TABLE events.planted (organization_id uuid)",
        "ALTER TABLE events.planted ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY organization ON events.planted USING (false)",
    ),
    "a policy that isn't on": (
        "CREATE TABLE events.planted (organization_id uuid)",
        "CREATE POLICY organization ON events.planted USING (false)",
    ),
    "a view, which reads as its owner": ("CREATE VIEW events.planted AS SELECT * FROM events.events",),
    "a copy": ("CREATE MATERIALIZED VIEW events.planted AS SELECT * FROM events.events",),
}


@pytest.mark.parametrize("statements", PLANTED.values(), ids=PLANTED)
async def test_planted_table(connection: asyncpg.Connection, statements: tuple[str, ...]) -> None:
    """The test above would find it."""
    planting = connection.transaction()
    await planting.start()
    for statement in statements:
        await connection.execute(statement)
    assert (await locked_tables(connection))["events.planted"] is False
    await planting.rollback()


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


# What each role may do at all. To everything else the answer is that it has no permission.
GRANTED = {
    ("eventboard_auth", "auth.organizations"): {"SELECT", "INSERT", "UPDATE"},
    ("eventboard_auth", "auth.users"): {"SELECT", "INSERT", "UPDATE"},
    ("eventboard_auth", "auth.sessions"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("eventboard_auth", "auth.refresh_tokens"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("eventboard_auth", "auth.counters"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("eventboard_auth", "auth.memberships"): {"SELECT", "INSERT", "UPDATE"},
    ("eventboard_auth", "auth.invitations"): {"SELECT", "INSERT", "UPDATE"},
    ("eventboard_auth", "auth.alembic_version"): {"SELECT"},
    ("eventboard_events", "events.events"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("eventboard_events", "events.history"): {"SELECT", "INSERT"},
    ("eventboard_events", "events.idempotency_keys"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    # Triggers keep them in its name.
    ("eventboard_events", "events.tallies"): {"SELECT", "INSERT", "UPDATE"},
    ("eventboard_events", "events.alembic_version"): {"SELECT"},
    # It may name a new time of expiry, which FOR UPDATE asks for; test_sweeper sees that it can't.
    ("eventboard_sweeper", "events.idempotency_keys"): {"SELECT", "DELETE"},
    ("eventboard_auth_sweeper", "auth.sessions"): {"SELECT", "DELETE"},
    ("eventboard_auth_sweeper", "auth.invitations"): {"SELECT", "DELETE"},
    # Nobody can become it: what its two functions look at.
    ("eventboard_search", "events.events"): {"SELECT"},
}
EVERY_STATEMENT = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")


@pytest.mark.parametrize("table", sorted({*TENANT, *IDENTITY}))
async def test_role_and_statement(connection: asyncpg.Connection, full: Organization, table: str) -> None:
    """Who has no permission for a statement is refused, whichever organization they name."""
    column = await connection.fetchval(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum = 1", table
    )
    statements = {
        "SELECT": f"SELECT {column} FROM {table}",
        "INSERT": f"INSERT INTO {table} SELECT * FROM {table} WHERE false",
        "UPDATE": f"UPDATE {table} SET {column} = {column}",
        "DELETE": f"DELETE FROM {table}",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
    }
    for role in (*ROLES, "eventboard_search"):
        for statement in EVERY_STATEMENT:
            if statement in GRANTED.get((role, table), set()):
                continue
            for organization in (None, full.id):
                await become(connection, role, organization)
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                    await connection.execute(statements[statement])


@pytest.mark.parametrize("table", sorted(TENANT))
async def test_foreign_rows(connection: asyncpg.Connection, full: Organization, table: str) -> None:
    """Without an organization, and for another one, no granted statement reads, changes, removes or adds a row.

    For its own organization each of them does.
    """
    role, others = TENANT[table], uuid4()
    granted = GRANTED[role, table]
    keys = [
        row[0]
        for row in await connection.fetch(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
            " WHERE indrelid = $1::regclass AND indisprimary",
            table,
        )
    ]
    columns = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped", table
    )
    row = dict((await connection.fetch(f"SELECT * FROM {table} WHERE organization_id = $1", full.id))[0])
    assert row.keys() == {column[0] for column in columns}
    names, marks = ", ".join(row), ", ".join(f"${number}" for number in range(1, len(row) + 1))
    put = f"INSERT INTO {table} ({names}) VALUES ({marks})"
    anew = f"{put} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET organization_id = excluded.organization_id"
    trial = connection.transaction()
    await trial.start()
    for organization in (None, others):
        await become(connection, role, organization)
        assert await connection.fetch(f"SELECT FROM {table}") == []
        assert await connection.fetch(f"SELECT FROM {table} WHERE organization_id = $1", full.id) == []
        if "UPDATE" in granted:
            assert await connection.execute(f"UPDATE {table} SET organization_id = $1", others) == "UPDATE 0"
        if "DELETE" in granted:
            assert await connection.execute(f"DELETE FROM {table}") == "DELETE 0"
        for statement in (put, anew) if "UPDATE" in granted else (put,):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                async with connection.transaction():
                    await connection.execute(statement, *row.values())
    await become(connection, role, full.id)
    rows = await connection.fetch(f"SELECT organization_id FROM {table}")
    assert {row[0] for row in rows} == {full.id}
    if "UPDATE" in granted:
        touched = await connection.execute(f"UPDATE {table} SET organization_id = organization_id")
        assert touched == f"UPDATE {len(rows)}"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with connection.transaction():
                await connection.execute(f"UPDATE {table} SET organization_id = $1", others)
    # A row of its own under another key is let in, so what was refused above wasn't refused for something else.
    last = keys[-1]
    fresh = row | {last: uuid4().hex if last == "key" else 1_000 if last in ("version", "slot") else uuid4()}
    if table == "auth.invitations":
        fresh["hash"] = uuid4().bytes * 2
    if table == "auth.memberships":
        fresh["user_id"] = await connection.fetchval(
            "SELECT id FROM auth.users WHERE id <> ALL ($1)", await members(connection)
        )
    assert await connection.execute(put, *fresh.values()) == "INSERT 0 1"
    if "DELETE" in granted:
        assert await connection.execute(f"DELETE FROM {table}") == f"DELETE {len(rows) + 1}"
    await trial.rollback()


async def members(connection: asyncpg.Connection) -> list[UUID]:
    return [row[0] for row in await connection.fetch("SELECT user_id FROM auth.memberships")]


def test_without_the_lock(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With row-level security off, the application's own checks still give every caller what is theirs, no more."""
    with clusters.database(cluster_url) as url:
        asyncio.run(unlock(url))
        with serving(url, tmp_path_factory.mktemp("unlocked")) as process, closing(Board(process.url, url)) as board:
            assert matrix.walk(board) > 0
            assert account_matrix.walk(board) > 0


async def unlock(url: str) -> None:
    connection = await asyncpg.connect(url)
    for table in TENANT:
        await connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    assert not any((await locked_tables(connection)).values())
    await connection.close()


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
    """Two thousand scopes of twenty organizations over five connections, cancelled at random: no foreign row."""
    await with_twenty_organizations(board, 2_000)


async def with_twenty_organizations(board: Board, scopes: int) -> None:
    organizations = [await asyncio.to_thread(board.organization, log_in=False) for _ in range(20)]
    await asyncio.to_thread(
        board.put, [{"author": organization.user, "status": "DRAFT"} for organization in organizations]
    )
    async with opened(board.database_url, size=5) as database:
        await look_around(database, [organization.id for organization in organizations], scopes)


# What a sweeper needs to find what has expired, and to delete it.
SWEPT = {
    ("eventboard_sweeper", "events.idempotency_keys"): {"organization_id", "user_id", "key", "expires_at"},
    ("eventboard_auth_sweeper", "auth.sessions"): {"id", "expires_at"},
    ("eventboard_auth_sweeper", "auth.invitations"): {"organization_id", "id", "expires_at"},
}
COLUMNS = """
    SELECT attrelid::regclass::text, attname, role, has_column_privilege(role, attrelid, attname, $1)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid CROSS JOIN unnest($2::text[]) AS role
    WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
    AND relnamespace IN ('auth'::regnamespace, 'events'::regnamespace)
"""


async def test_columns_that_a_sweeper_sees(connection: asyncpg.Connection) -> None:
    """No outcome, address or hash is among them; none can be written but by the lock that deleting needs."""
    sweepers = [role for role in ROLES if "sweeper" in role]
    seen: dict[tuple[str, str], set[str]] = {}
    for table, column, role, may in await connection.fetch(COLUMNS, "SELECT", sweepers):
        if may:
            seen.setdefault((role, table), set()).add(column)
    assert seen == SWEPT
    for privilege in ("INSERT", "UPDATE", "REFERENCES"):
        for table, column, role, may in await connection.fetch(COLUMNS, privilege, sweepers):
            assert may == (privilege == "UPDATE" and column == "expires_at" and (role, table) in SWEPT)
    for role, table in SWEPT:
        await connection.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {table}")
        await connection.execute("RESET ROLE")
