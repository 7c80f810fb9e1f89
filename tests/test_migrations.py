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

from eventboard.db import migrations
from eventboard.db.revisions import MODULES, needed, scripts_folder
from eventboard.modules.auth import models as auth
from eventboard.modules.events import models as events
from tests.support import cluster as clusters

# Alembic's check leaves an index with an operator class out; test_same_as_the_models_make doesn't.
checks = pytest.mark.filterwarnings("ignore:Expression #1:UserWarning")
METADATA = {"auth": auth.Base.metadata, "events": events.Base.metadata}
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
        await connection.run_sync(METADATA[module].create_all)
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


async def down(url: str, revision: str, module: str | None = None) -> None:
    await migrations.downgrade(url, await migrations.plan_downgrade(url, module=module, revision=revision))


async def test_up_down_up(empty_url: str) -> None:
    """Down to nothing but Alembic's own table, with nothing granted to anybody; up again it is the same."""
    await migrations.migrate(empty_url)
    first = {module: (await shape(empty_url, module), await ask(empty_url, GRANTS, module)) for module in MODULES}
    assert all([await level(empty_url, module) == [needed(module)] for module in MODULES])
    await down(empty_url, "base")
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
            await down(empty_url, "-1", module)
        while shapes:
            before, wanted = shapes.pop()
            await migrations.migrate(empty_url, module=module, revision=before[0])
            assert (await level(empty_url, module), await shape(empty_url, module)) == (before, wanted)


# Each foreign key of the database whose columns no whole index begins with.
UNINDEXED = """
    SELECT conrelid::regclass::text, conname FROM pg_constraint c WHERE contype = 'f' AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
        AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
    )
"""


async def test_foreign_keys_have_indexes(database_url: str) -> None:
    """Without one, each row that is deleted where it points is looked for in the whole table."""
    assert await ask(database_url, "SELECT count(*) > 5 FROM pg_constraint WHERE contype = 'f'") == [(True,)]
    assert await ask(database_url, UNINDEXED) == []


async def test_index_that_was_interrupted(database_url: str) -> None:
    """The next try makes it whole."""
    await down(database_url, "0008", "auth")
    await ask(database_url, "CREATE INDEX ix_sessions_organization_id ON auth.sessions (id)")
    await migrations.migrate(database_url)
    assert await ask(database_url, UNINDEXED) == []


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
    await down(database_url, "0001")
    assert [await level(database_url, module) for module in MODULES] == [["0001"], ["0001"]]


@pytest.mark.parametrize("revision", ["base", "-1", "0001", "-9"])
async def test_migrating_never_goes_down(database_url: str, revision: str) -> None:
    """It names the command that does, and nothing is done."""
    with pytest.raises(
        CommandError, match=f"auth is at .*, events is at .*: `eventboard downgrade --revision {revision}`"
    ):
        await migrations.migrate(database_url, revision=revision)
    assert all([await level(database_url, module) == [needed(module)] for module in MODULES])


async def test_up_one_level_at_a_time(database_url: str) -> None:
    """+1 is the next level, not a level below; where one module has no next, none moves."""
    await down(database_url, "0002")
    assert await migrations.migrate(database_url, revision="+1") == {"auth": "0003", "events": "0003"}
    assert await migrations.migrate(database_url, module="auth", revision="heads") == {"auth": needed("auth")}
    with pytest.raises(CommandError, match=r"auth has no revision '\+1'"):
        await migrations.migrate(database_url, revision="+1")
    with pytest.raises(CommandError, match="auth is at"):
        await migrations.migrate(database_url, revision="0004")
    assert await level(database_url, "events") == ["0003"]


async def test_level_of_a_newer_version(database_url: str) -> None:
    """Neither way: which scripts made it isn't known here."""
    await ask(database_url, "UPDATE events.alembic_version SET version_num = '9999'")
    for move in (migrations.migrate(database_url), down(database_url, "base")):
        with pytest.raises(CommandError, match="events is at 9999, which this version doesn't know"):
            await move
    assert await level(database_url, "auth") == [needed("auth")]


async def test_moved_since_it_was_planned(database_url: str) -> None:
    """What was agreed to is done, and not what the same words would mean by now."""
    plan = await migrations.plan_downgrade(database_url, module="events", revision="-1")
    await migrations.downgrade(database_url, plan)
    with pytest.raises(CommandError, match="not at"):
        await migrations.downgrade(database_url, plan)
    assert await level(database_url, "events") == [plan.moves["events"][1]]


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
    await down(database_url, "0005", "events")
    await ask(database_url, put, statuses)
    await migrations.migrate(database_url)
    await ask(database_url, put, ["DRAFT"])
    tallies = await ask(database_url, "SELECT status, sum(events) FROM events.tallies GROUP BY status ORDER BY status")
    assert tallies == [("CANCELLED", 1), ("DRAFT", 5)]
    # With its title, and 512 for a row; the last one's creation would have a history entry, too.
    size = 512 + len("Chess night")
    assert await ask(database_url, "SELECT sum(bytes)::int FROM events.tallies") == [(6 * size + 512,)]


@pytest.mark.parametrize("revision", ["0000", "9999", "nonsense", "+9", "", "+", "0001+1"])
async def test_no_such_level(database_url: str, revision: str) -> None:
    """Nothing is done, either way."""
    for move in (migrations.migrate(database_url, revision=revision), down(database_url, revision)):
        with pytest.raises(CommandError, match="has no revision"):
            await move
    assert all([await level(database_url, module) == [needed(module)] for module in MODULES])


async def test_names_keep_their_marks(empty_url: str) -> None:
    """Organizations of an earlier version are compared with their marks from then on."""
    names = {"\u0926\u093f\u0928": "\u0926\u0928", "Caf\u00e9": "caf\u00e9", "a\u3164": "a\u1160", "A": "a"}
    await migrations.migrate(empty_url, module="auth", revision="0007")
    for number, (name, key) in enumerate(names.items()):
        await ask(
            empty_url,
            "INSERT INTO auth.organizations (id, name, name_key, slug) VALUES (gen_random_uuid(), $1, $2, $3)",
            name,
            key,
            f"slug-{number}",
        )
    keys = "SELECT name, name_key FROM auth.organizations"
    await migrations.migrate(empty_url)
    # Where two names have become one, the second keeps the key that it has.
    assert dict(await ask(empty_url, keys)) == names | {"\u0926\u093f\u0928": "\u0926\u093f\u0928"}


async def test_texts_of_an_earlier_version(empty_url: str) -> None:
    """They are composed by the migration, and by the database while such a version still writes; no version changes."""
    await migrations.migrate(empty_url, module="events", revision="0007")
    add = (
        "INSERT INTO events.events (organization_id, id, title, description, start_date, end_date, time_zone, status,"
        " created_by_id, created_by_name, version) VALUES (gen_random_uuid(), gen_random_uuid(), $1, $2, now(),"
        " now() + interval '1 hour', 'UTC', 'DRAFT', gen_random_uuid(), 'Nia', 7)"
    )
    await ask(empty_url, add, "Cre\u0302pe", "Plain text.")
    await ask(empty_url, add, "Plain", "Cafe\u0301 and more.")
    await migrations.migrate(empty_url)
    await ask(empty_url, add, "E\u0301te\u0301", "Plain text.")
    assert await ask(empty_url, "SELECT title, description, version FROM events.events ORDER BY title") == [
        ("Cr\u00eape", "Plain text.", 7),
        ("Plain", "Caf\u00e9 and more.", 7),
        ("\u00c9t\u00e9", "Plain text.", 7),
    ]
