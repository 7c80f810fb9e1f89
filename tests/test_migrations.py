"""Migrations: they lead to what the models say, and back to nothing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from eventboard import migrations
from eventboard.levels import MODULES, needed, scripts_folder
from tests.support import cluster as clusters

# Alembic's check leaves an index with an operator class out; test_same_as_the_models_make doesn't.
checks = pytest.mark.filterwarnings("ignore:Expression #1:UserWarning")
each_module = pytest.mark.parametrize("module", MODULES)

# All that a schema is made of, as PostgreSQL itself writes it.
SHAPE = """
    SELECT 'column', c.relname || '.' || a.attname,
        format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
    WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = $1::regnamespace AND contype <> 'n'
    UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = $1::regnamespace
    UNION ALL SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = $1::regnamespace
    ORDER BY 1, 2
"""
# What somebody else than the owner may do in a schema.
GRANTS = """
    SELECT relname, acl.grantee::regrole::text, acl.privilege_type
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) acl
    WHERE c.relnamespace = $1::regnamespace AND acl.grantee <> c.relowner
    UNION ALL SELECT nspname, acl.grantee::regrole::text, acl.privilege_type
    FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) acl WHERE n.oid = $1::regnamespace AND acl.grantee <> n.nspowner
    ORDER BY 1, 2, 3
"""


INDEXED_BY = """
    SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE pronamespace = $1::regnamespace AND EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND (refclassid, refobjid) = ('pg_proc'::regclass, p.oid)
    )
"""


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    """A database in which nothing was ever done."""
    with clusters.database(cluster_url, template="template0") as url:
        yield url


async def ask(url: str, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()


async def shape(url: str, module: str) -> list[tuple[Any, ...]]:
    return [row for row in await ask(url, SHAPE, module) if "alembic_version" not in row[1]]


async def level(url: str, module: str) -> list[str]:
    statement = f"SELECT version_num FROM {module}.alembic_version"
    return [row[0] for row in await ask(url, statement)]


@checks
async def test_no_difference_to_the_models(database_url: str) -> None:
    """`alembic check`, for each schema."""
    await migrations.check(database_url)


@checks
@each_module
async def test_difference_to_the_models(database_url: str, module: str) -> None:
    """The check sees one."""
    table = {"auth": "users", "events": "events"}[module]
    await ask(database_url, f"ALTER TABLE {module}.{table} ADD COLUMN surprise text")
    with pytest.raises(CommandError, match="surprise"):
        await migrations.check(database_url)


@each_module
async def test_same_as_the_models_make(database_url: str, empty_url: str, module: str) -> None:
    """To the last constraint, default and index expression, of which Alembic's check doesn't see all."""
    engine = create_async_engine(make_url(empty_url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {module}"))
        await connection.execute(text("CREATE EXTENSION pg_trgm WITH SCHEMA public"))
        # Functions, and who may see which rows, are the migrations' alone; but an index may be made with one.
        for (function,) in await ask(database_url, INDEXED_BY, module):
            await connection.exec_driver_sql(function)
        await connection.run_sync(migrations.METADATA[module].create_all)
    await engine.dispose()
    migrated, made = [
        [row for row in await shape(url, module) if row[0] != "function"] for url in (database_url, empty_url)
    ]
    assert migrated == made


@each_module
def test_needed_level(module: str) -> None:
    """What a serving process tells from the files' names is what Alembic finds."""
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("version_locations", str(scripts_folder() / "versions" / module))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [needed(module)]


async def test_up_down_up(empty_url: str) -> None:
    """Down to nothing but Alembic's own table, with nothing granted to anybody; up again it is the same."""
    await migrations.migrate(empty_url)
    first = {module: (await shape(empty_url, module), await ask(empty_url, GRANTS, module)) for module in MODULES}
    assert all([await level(empty_url, module) == [needed(module)] for module in MODULES])
    await migrations.migrate(empty_url, revision="base")
    for module in MODULES:
        assert await shape(empty_url, module) == []
        assert await ask(empty_url, GRANTS, module) == []
        assert await level(empty_url, module) == []
        tables = await ask(empty_url, "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace", module)
        assert {name for (name,) in tables} == {"alembic_version", "alembic_version_pkc"}
    await migrations.migrate(empty_url)
    again = {module: (await shape(empty_url, module), await ask(empty_url, GRANTS, module)) for module in MODULES}
    assert again == first


async def test_step_by_step(empty_url: str) -> None:
    """Each step down is undone by its step up."""
    await migrations.migrate(empty_url)
    for module in MODULES:
        shapes = []
        while await level(empty_url, module):
            shapes.append((await level(empty_url, module), await shape(empty_url, module)))
            await migrations.migrate(empty_url, module=module, revision="-1")
        while shapes:
            before, wanted = shapes.pop()
            await migrations.migrate(empty_url, module=module, revision=before[0])
            assert (await level(empty_url, module), await shape(empty_url, module)) == (before, wanted)


async def test_twice(database_url: str) -> None:
    """What is there stays."""
    before = [await shape(database_url, module) for module in MODULES]
    await migrations.migrate(database_url)
    assert [await shape(database_url, module) for module in MODULES] == before


async def test_several_at_once(empty_url: str) -> None:
    """One migrates, the others wait and find it done."""
    await asyncio.gather(*(migrations.migrate(empty_url) for _ in range(4)))
    assert all([await level(empty_url, module) == [needed(module)] for module in MODULES])


async def test_down_to_a_level(database_url: str) -> None:
    """A level is a place, not a direction."""
    await migrations.migrate(database_url, revision="0001")
    assert [await level(database_url, module) for module in MODULES] == [["0001"], ["0001"]]


async def test_tallies_of_what_is_there_already(database_url: str) -> None:
    """Events that are older than their tallies are counted when these are made, and stay when these are taken away."""
    statuses = ["DRAFT"] * 3 + ["CANCELLED"]
    put = (
        "INSERT INTO events.events (id, organization_id, created_by_id, created_by_name, title, description,"
        " start_date, end_date, time_zone, version, status) SELECT gen_random_uuid(),"
        " '07aff0ef-cd78-4d07-814c-f4bf0751ee86', gen_random_uuid(), 'Nia', 'Chess night', '', now(),"
        " now() + interval '1 hour', 'UTC', 1, unnest($1::text[])"
    )
    await ask(database_url, put, ["DRAFT"])
    await migrations.migrate(database_url, module="events", revision="0005")
    await ask(database_url, put, statuses)
    await migrations.migrate(database_url)
    await ask(database_url, put, ["DRAFT"])
    tallies = await ask(database_url, "SELECT status, sum(events) FROM events.tallies GROUP BY status ORDER BY status")
    assert tallies == [("CANCELLED", 1), ("DRAFT", 5)]


@pytest.mark.parametrize("revision", ["0000", "9999", "nonsense", "+9", "-9"])
async def test_no_such_level(database_url: str, revision: str) -> None:
    """Nothing is done."""
    with pytest.raises(CommandError):
        await migrations.migrate(database_url, revision=revision)
    assert all([await level(database_url, module) == [needed(module)] for module in MODULES])
