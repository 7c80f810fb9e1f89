"""Statements and their settings: whose rows they see, and what PostgreSQL rejects."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database, Statement
from eventboard.modules.events import repository
from eventboard.modules.events.contract import Action, Status
from tests.support.database import (
    BACKSTOP,
    BUDGET,
    ROLE,
    SETTINGS,
    SLEEP,
    Pauses,
    assert_idle,
    assert_whole,
    opened,
    refusal,
    slow,
    too_late,
)
from tests.support.pooler import pooler_without


@pytest.mark.parametrize("options", ["?sslmode=verify-full", "?sslmode=nonsense", "?sesame"])
async def test_url_that_cannot_be_used(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away, and whoever asks is told who knows why; nothing of the URL is."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where the driver looks for certificates
    async with opened(f"postgresql://me:sesame@127.0.0.1:1/eventboard{options}") as database:
        with pytest.raises(ServiceError) as raised:
            async with database.transaction(None):
                pass
    assert raised.value.code is Code.UNAVAILABLE
    assert "eventboard check" in raised.value.detail
    assert "sesame" not in raised.value.detail


async def test_role_that_gets_lost(database_url: str) -> None:
    """No statement is run as somebody else than the module's role: row-level security would be theirs."""
    async with pooler_without(database_url, "role") as url, opened(url) as database:
        with pytest.raises(ServiceError) as raised:
            await database.row(None, None, SETTINGS)
    assert raised.value.code is Code.UNAVAILABLE
    assert f"doesn't work as {ROLE}" in raised.value.detail


async def test_settings_come_before_the_rows(database_url: str) -> None:
    """What a single row's statement asks of its connection is answered for its own scope, whoever had it before."""
    async with opened(database_url, size=1) as one:
        for _ in range(8):  # from the sixth time on, PostgreSQL plans a statement for any values
            organization, user = uuid4(), uuid4()
            with request_context.budget(30):
                row = await one.row(organization, user, SETTINGS)
            assert row is not None
            assert tuple(row) == (str(organization), str(user), BACKSTOP, ROLE)
        row = await one.row(None, None, SETTINGS)
        assert row is not None
        assert tuple(row) == ("", "", BACKSTOP, ROLE)


async def test_writes_that_set_their_scope(database_url: str) -> None:
    """A new event brings its settings along, for any values; a transaction's first SELECT makes those of the others."""
    async with opened(database_url, size=1) as one:
        for _ in range(8):  # so that the statements are planned for any values
            organization, user, event = uuid4(), uuid4(), uuid4()
            async with one.reading(organization, user) as connection:
                (row,) = await connection.all(
                    repository.CREATE,
                    organization_id=organization,
                    event_id=event,
                    actor_id=user,
                    actor_name="Nia New",
                    action=Action.CREATE,
                    reason=None,
                    correlation_id="the-id",
                    status=Status.DRAFT,
                    title="Chess",
                    description="Bring a board.",
                    location=None,
                    start_date=datetime(2027, 3, 1, 18, tzinfo=UTC),
                    end_date=datetime(2027, 3, 1, 21, tzinfo=UTC),
                    time_zone="UTC",
                )
            assert row["organization_id"] == organization
            async with one.transaction(organization, user) as connection:
                assert (await connection.one(repository.FIND, organization_id=organization, event_id=event)) == row
                settings = await connection.one(SETTINGS)
                assert settings is not None
                assert tuple(settings)[:2] == (str(organization), str(user))
            async with one.transaction(uuid4(), user) as connection:
                assert await connection.one(repository.FIND, organization_id=organization, event_id=event) is None


async def test_nothing_of_a_tenant_is_left(database_url: str) -> None:
    """A statement without a scope sees no organization's rows, whoever used its connection before, and however."""
    mine, user = uuid4(), uuid4()
    seen = Statement(text("SELECT count(*) FROM events.tallies"))
    add = Statement(text("INSERT INTO events.tallies VALUES (:asked, 'DRAFT', 0, 1)"))
    async with opened(database_url, size=1) as one:

        async def without_a_scope() -> list[Any]:
            # There is no other way to a connection without a scope.
            connection = await one._pool.acquire()  # noqa: SLF001
            try:
                return [*await connection.fetchrow(seen.sql), *await connection.fetchrow(SETTINGS.sql)]
            finally:
                await one._pool.release(connection)  # noqa: SLF001

        none = [0, "", "", BACKSTOP, ROLE]
        async with one.transaction(mine, user) as connection:
            await connection.run(add, asked=mine)
        assert await without_a_scope() == none
        for custom_plan in (False, True):
            row = await one.row(mine, user, Statement(text(seen.sql), custom_plan=custom_plan))
            assert row is not None
            assert row[0] == 1
            assert await without_a_scope() == none
        async with one.reading(mine, user) as connection:
            assert [tuple(row) for row in await connection.all(seen)] == [(1,)]
        assert await without_a_scope() == none
        with pytest.raises(ZeroDivisionError):
            async with one.transaction(mine, user, lock=1):
                raise ZeroDivisionError
        with pytest.raises(asyncpg.DivisionByZeroError):
            await one.rows(mine, user, Statement(text("SELECT 1 / count(*) FROM events.events")))
        with request_context.budget(0.05), pytest.raises(ServiceError):
            await one.row(mine, user, SLEEP, seconds=1)
        # On a busy machine the connection is given up, and a new one has never had these settings.
        assert await without_a_scope() in (none, [0, None, None, BACKSTOP, ROLE])


async def test_planned_for_its_values(database_url: str) -> None:
    """A statement of which the best plan depends on its values gets one; what comes next has none of its settings."""
    mode = text("SELECT current_setting('plan_cache_mode')")
    async with opened(database_url, size=1) as one:
        modes = [await one.row(None, None, Statement(mode, custom_plan=anew)) for anew in (True, False)]
    assert [row and row[0] for row in modes] == ["auto", "force_generic_plan"]


async def test_rows_of_two_organizations(database_url: str) -> None:
    """The policies judge a single row's statement by its own organization, and not by the last one's."""
    mine, others = uuid4(), uuid4()
    seen = Statement(text("SELECT count(*) FROM events.tallies WHERE organization_id = :asked"))
    add = Statement(text("INSERT INTO events.tallies VALUES (:asked, 'DRAFT', 0, 1)"))
    async with opened(database_url, size=1) as one:
        for organization in (mine, others):
            async with one.transaction(organization) as connection:
                await connection.run(add, asked=organization)
        for _ in range(8):
            for scope in (mine, others, None):
                for asked_for in (mine, others):
                    row = await one.row(scope, None, seen, asked=asked_for)
                    assert row is not None
                    assert row[0] == (scope == asked_for)


async def test_write(database: Database, database_url: str) -> None:
    """It is judged by its own scope, and committed; or nothing of it is there."""
    mine, others = uuid4(), uuid4()
    add = Statement(text("INSERT INTO events.tallies VALUES (:asked, :status, 0, 1)"))
    seen = Statement(text("SELECT status FROM events.tallies WHERE organization_id = :asked"))
    async with opened(database_url, size=1) as one:

        async def write(scope: UUID | None, statement: Statement, **values: Any) -> None:
            async with one.transaction(scope) as connection:
                await connection.run(statement, **values)

        await write(mine, add, asked=mine, status="DRAFT")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await write(mine, add, asked=others, status="DRAFT")
        with pytest.raises(asyncpg.UniqueViolationError):
            await write(mine, add, asked=mine, status="DRAFT")
        with too_late(), request_context.budget(BUDGET):
            await write(None, SLEEP, seconds=30)
        await write(others, add, asked=others, status="it's; COMMIT")
    assert [tuple(row) for row in await database.rows(mine, None, seen, asked=mine)] == [("DRAFT",)]
    assert [tuple(row) for row in await database.rows(others, None, seen, asked=others)] == [("it's; COMMIT",)]
    await assert_idle(database_url)
    await assert_whole(database, database_url)


async def fail_after(database: Database, statement: Statement) -> None:
    async with database.transaction(None) as connection:
        await connection.run(statement)
        raise ZeroDivisionError


async def test_exception_in_a_transaction(database: Database, database_url: str) -> None:
    """Whatever the block raises rolls it back, and comes out as it is."""
    write = Statement(text("SELECT set_config('eventboard.noted', 'x', false)"))
    read = Statement(text("SELECT current_setting('eventboard.noted', true)"))
    async with opened(database_url, size=1) as one:
        with pytest.raises(ZeroDivisionError):
            await fail_after(one, write)
        async with one.transaction(None) as connection:
            row = await connection.one(read)
            assert row is not None
            assert not row[0]
    await assert_whole(database, database_url)


@pytest.mark.parametrize(
    "statement", ["SELECT nonsense", "SELECT 1/0", "SELECT 'x'::int", "DELETE FROM events.history"]
)
@pytest.mark.parametrize("kind", ["reading", "transaction"])
async def test_bug(database: Database, database_url: str, statement: str, kind: str) -> None:
    """A wrong statement isn't called an outage."""
    with pytest.raises(asyncpg.PostgresError):
        async with getattr(database, kind)(None) as connection:
            await connection.run(Statement(text(statement)))
    await assert_whole(database, database_url)


async def test_role_that_is_not_there(database_url: str) -> None:
    """The database was never migrated, and says so."""
    async with opened(database_url, role="eventboard_nobody") as database:
        with pytest.raises(ServiceError, match="never migrated") as refused:
            await slow(database, "read")(Pauses((0,)))
    assert refused.value.code == Code.UNAVAILABLE


async def test_no_such_database(database_url: str) -> None:
    """It may come."""
    async with opened(database_url.replace("/test_", "/gone_")) as database:
        assert await refusal(slow(database, "read")(Pauses((0,)))) == Code.UNAVAILABLE
