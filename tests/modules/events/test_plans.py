"""What the database does for the hot statements, among 100,000 events of 20 organizations, as the module's role."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from eventboard.db.database import Connection, Statement
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events import listing, repository
from eventboard.modules.events.contract import EventQuery, SortBy, SortOrder, Status
from tests.support import cluster as clusters

# Event n is organization n % 20's; in organization 0, all are drafts. Fifty authors have written some in each.
FILL = """
    INSERT INTO events.events (
        organization_id, id, title, description, start_date, end_date, time_zone, status, rejection_reason,
        created_by_id, created_by_name, created_at, version
    )
    SELECT
        ('00000000-0000-7000-8000-' || lpad((n % 20)::text, 12, '0'))::uuid,
        ('00000000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid,
        (array['Chess', 'Python', 'Budget', 'Climate', 'Design'])[1 + n / 20 % 5] || ' evening '
            || n || CASE WHEN n % 1000 = 27 THEN ' with quidditch' ELSE '' END,
        'For all members.',
        timestamptz '2027-01-01 00:00Z' + n * 7919 % 400000 * interval '1 minute',
        timestamptz '2027-01-01 02:00Z' + n * 7919 % 400000 * interval '1 minute',
        'UTC',
        status,
        CASE WHEN status = 'REJECTED' THEN 'Please name a room.' END,
        ('00000000-0000-7000-a000-' || lpad((n / 20 % 50)::text, 12, '0'))::uuid,
        'Somebody',
        timestamptz '2026-01-01 00:00Z' + n * interval '1 minute',
        1
    FROM (
        SELECT n, CASE WHEN n % 20 = 0 THEN 'DRAFT' ELSE
            (array['DRAFT', 'SUBMITTED', 'APPROVED', 'APPROVED', 'APPROVED', 'REJECTED', 'CANCELLED'])[1 + n % 7]
        END AS status
        FROM generate_series(1, 100000) AS n
    ) AS plain;
    INSERT INTO events.history (
        organization_id, event_id, version, action, status, author_id, actor_id, actor_name, correlation_id
    )
    SELECT organization_id, id, 1, 'create', status, created_by_id, created_by_id, created_by_name, 'filled'
    FROM events.events;
    ANALYZE events.history, events.tallies;
"""
# As autovacuum leaves a table some time after it was filled: what is counted is read in indexes alone. While somebody
# holds a snapshot that is older than the rows, VACUUM can't do it.
VACUUM = "VACUUM (ANALYZE) events.events"
VACUUMED = "SELECT relpages > 0 AND relallvisible = relpages FROM pg_class WHERE oid = 'events.events'::regclass"
DRAFTS_ONLY, MIXED = (UUID(f"00000000-0000-7000-8000-{number:012}") for number in (0, 7))
AUTHOR, NEWCOMER = (UUID(f"00000000-0000-7000-a000-{number:012}") for number in (3, 999))
AN_EVENT = UUID(f"00000000-0000-7000-9000-{50_007:012}")

# PostgreSQL plans a prepared statement for its values at first, and for any values once that seems as good.
MODES = ("force_custom_plan", "force_generic_plan")


@dataclass
class Scan:
    """A node of a plan that reads a table or an index. `rows` are also those that a filter threw away."""

    sequential: bool
    index: str | None
    condition: str
    rows: float
    for_total: bool


@dataclass
class Plan:
    """What PostgreSQL did for a statement, and what for."""

    name: str
    scans: list[Scan]
    searches: int  # how many times the search function was called

    @property
    def sequential(self) -> bool:
        return any(scan.sequential for scan in self.scans)

    @property
    def finds_text(self) -> bool:
        """By the index for texts, which may also serve to find an organization's events."""
        return any(scan.index == "ix_events_search_keys" and "@>" in scan.condition for scan in self.scans)

    def rows(self, *, for_total: bool) -> float:
        """Read to count a list's total, or to show the list."""
        return sum(scan.rows for scan in self.scans if scan.for_total == for_total)


def scans(node: dict[str, Any], *, for_total: bool = False) -> Iterator[Scan]:
    for_total = for_total or node.get("Parent Relationship") == "InitPlan"
    type_ = node["Node Type"]
    # Tallies are on one page here, which is read as a whole once it is analyzed.
    one_page = node.get("Relation Name") == "tallies"
    if "Scan" in type_ and node.keys() & {"Relation Name", "Index Name"} and not one_page:
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        # A bitmap is read again as rows.
        yield Scan(
            "Seq" in type_,
            node.get("Index Name"),
            node.get("Index Cond", ""),
            0 if type_ == "Bitmap Index Scan" else rows,
            for_total,
        )
    for child in node.get("Plans", []):
        yield from scans(child, for_total=for_total)


def searches(node: dict[str, Any]) -> int:
    here = int(node["Actual Loops"]) if node.get("Function Name") == "search_rows" else 0
    return here + sum(searches(child) for child in node.get("Plans", []))


def plan_of(name: str, explained: str) -> Plan:
    root = msgspec.json.decode(explained)[0]["Plan"]
    return Plan(name, list(scans(root)), searches(root))


class Explaining(Connection):
    """Runs what it is given, and keeps PostgreSQL's plans for it, those for these values and those for any."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self.plans: list[Plan] = []
        self.name = ""

    async def belong(self, organization_id: UUID) -> None:
        """What row-level security asks for: without it there are no rows to plan for."""
        await self._raw.execute(f"SET LOCAL eventboard.organization_id = '{organization_id}'")

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        """As Database.rows runs it: it makes its own settings."""
        await self._raw.execute("RESET eventboard.organization_id")
        caller = (str(values["organization_id"]), str(values["user_id"]))
        await self._explain(statement.scoped_sql, [*statement.arguments(values), *caller])
        return list(await self._raw.fetch(statement.scoped_sql, *statement.arguments(values), *caller))

    async def explain(self, statement: Statement, **values: Any) -> None:
        await self._explain(statement.sql, statement.arguments(values))

    async def _explain(self, sql: str, arguments: list[Any]) -> None:
        texts = ["NULL" if value is None else "'" + str(value).replace("'", "''") + "'" for value in arguments]
        given = f"({', '.join(texts)})" if texts else ""
        await self._raw.execute(f"PREPARE explained AS {sql}")
        for mode in MODES:
            await self._raw.execute(f"SET plan_cache_mode = {mode}")
            plan = await self._raw.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE explained{given}")
            self.plans.append(plan_of(f"{mode}: {self.name}", plan))
        await self._raw.execute("RESET plan_cache_mode")
        await self._raw.execute("DEALLOCATE explained")


@pytest.fixture(scope="module")
def full_database(cluster_url: str) -> Iterator[str]:
    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(FILL)
        while not await connection.fetchval(VACUUMED):
            await connection.execute(VACUUM)
        await connection.close()

    with clusters.database(cluster_url) as url:
        asyncio.run(fill(url))
        yield url


@asynccontextmanager
async def explaining(url: str) -> AsyncIterator[Explaining]:
    """A connection as the module has them; what is done on it is undone."""
    raw = await asyncpg.connect(url, server_settings={"role": "eventboard_events", "timezone": "UTC"})
    try:
        await raw.execute("BEGIN")
        yield Explaining(raw)
    finally:
        await raw.close()


CALLERS = {
    "author": Principal(AUTHOR, MIXED, Role.USER, "Author", AUTHOR, 0),
    "author among drafts": Principal(AUTHOR, DRAFTS_ONLY, Role.USER, "Author", AUTHOR, 0),
    "newcomer among drafts": Principal(NEWCOMER, DRAFTS_ONLY, Role.USER, "Newcomer", NEWCOMER, 0),
    "moderator": Principal(NEWCOMER, MIXED, Role.MODERATOR, "Moderator", NEWCOMER, 0),
}
FILTERS: list[dict[str, Any]] = [
    {},
    *({"status": status} for status in Status),
    {"start_date_from": datetime(2027, 3, 1, tzinfo=UTC), "start_date_to": datetime(2027, 3, 8, tzinfo=UTC)},
]


async def explain_list(connection: Explaining, caller: str, **query: Any) -> list[Plan]:
    """The plans of a list's first page, and of its second one by cursor. What is on them, test_listing.py says."""
    connection.plans, connection.name = [], f"{caller} {query}"
    first = await listing.find(connection.rows, CALLERS[caller], EventQuery(**query))
    if first.meta.next_cursor:
        connection.name = f"{caller} {query} by cursor"
        await listing.find(connection.rows, CALLERS[caller], EventQuery(cursor=first.meta.next_cursor, **query))
    return connection.plans


def fill(count: int, organization: str, *, first: int = 1) -> str:
    """A statement that puts in so many events, each into the organization that the expression gives."""
    statement = FILL.partition("INSERT INTO events.history")[0]
    mine = "('00000000-0000-7000-8000-' || lpad((n % 20)::text, 12, '0'))::uuid"
    series = "generate_series(1, 100000)"
    assert mine in statement
    assert series in statement
    return statement.replace(mine, f"{organization}::uuid").replace(
        series, f"generate_series({first}, {first + count - 1})"
    )


def names(plans: Iterable[Plan]) -> list[str]:
    return [plan.name for plan in plans]


async def test_one_event_and_its_history(full_database: str) -> None:
    """They are found by their keys, to be read and to be written."""
    this = {"organization_id": MIXED, "event_id": AN_EVENT}
    entry = {"action": "update", "reason": None, "actor_id": AUTHOR, "actor_name": "Author", "correlation_id": "none"}
    async with explaining(full_database) as connection:
        await connection.belong(MIXED)
        event = await connection.one(repository.FIND, **this)
        assert event is not None
        new = {f"new_{name}": value for name, value in event.items()}
        statements = (
            repository.FIND,
            repository.FIND_LOCKED,
            repository.HISTORY,
            repository.CHANGE,
            repository.DELETE,
        )
        for statement in statements:
            connection.name = statement.sql
            await connection.explain(statement, **this, version=1, **entry, **new)
        assert len(connection.plans) == 2 * len(statements)
        assert names(plan for plan in connection.plans if plan.sequential) == []


async def test_idempotency_key(full_database: str) -> None:
    """It is found by all of its own key: its owner may have any number."""
    async with explaining(full_database) as connection:
        await connection.belong(MIXED)
        await connection.explain(repository.FIND_KEY, organization_id=MIXED, user_id=AUTHOR, key="a key")
        assert names(plan for plan in connection.plans if "key =" not in plan.scans[0].condition) == []


@pytest.mark.parametrize("caller", CALLERS)
async def test_list(full_database: str, caller: str) -> None:
    """By an index, whoever asks for which order: read is what is shown, and not what others keep to themselves.

    Of each of five states, one row more than the ten that a page may show; of the caller's own unfinished events a
    hundred; of those between two dates, in another order than theirs, all. There are 5,000 in the organization.
    """
    async with explaining(full_database) as connection:
        for sort_by, sort_order, filters in product(SortBy, SortOrder, FILTERS):
            plans = await explain_list(connection, caller, sort_by=sort_by, sort_order=sort_order, **filters)
            assert names(plan for plan in plans if plan.sequential) == []
            assert names(plan for plan in plans if plan.rows(for_total=False) > 200) == []
            if "among drafts" in caller:
                assert names(plan for plan in plans if plan.rows(for_total=True) > 100) == []


@pytest.mark.parametrize("caller", CALLERS)
async def test_search(full_database: str, caller: str) -> None:
    """The function finds three letters in a row, and is called once; fewer are looked for along the list."""
    async with explaining(full_database) as connection:
        for sort_by, sort_order in ((SortBy.START_DATE, SortOrder.ASC), (SortBy.TITLE, SortOrder.DESC)):
            for search in ("Quidditch", "chess", "ch", "!?"):
                plans = await explain_list(connection, caller, search=search, sort_by=sort_by, sort_order=sort_order)
                assert names(plan for plan in plans if plan.sequential) == []
                assert names(plan for plan in plans if plan.searches != (len(search) >= 3)) == []


@pytest.mark.parametrize("counted", ["never", "when each was in an organization of its own"])
async def test_search_of_much_that_was_not_expected(database_url: str, counted: str) -> None:
    """Where PostgreSQL expects little, and finds all: the function is called once, and read is only what is shown."""
    superuser = await asyncpg.connect(database_url)
    await superuser.execute("ALTER TABLE events.events SET (autovacuum_enabled = off)")
    if counted != "never":
        await superuser.execute(fill(3_000, "gen_random_uuid()") + "ANALYZE events.events")
    await superuser.execute(fill(2_000, f"'{MIXED}'", first=3_001))
    await superuser.close()
    async with explaining(database_url) as connection:
        for caller, plain in product(("author", "moderator"), (True, False)):
            for sort_by in SortBy:
                filters = {} if plain else {"status": Status.APPROVED}
                for plan in await explain_list(connection, caller, search="evening", sort_by=sort_by, **filters):
                    assert plan.searches == 1, plan
                    assert plan.rows(for_total=True) == 0, plan
                    assert plan.rows(for_total=False) <= 11, plan


async def test_search_function(full_database: str) -> None:
    """It finds by its index, which row-level security takes from every other statement, whatever it looks for."""
    raw = await asyncpg.connect(full_database)
    logged: list[str] = []
    raw.add_log_listener(lambda _, message: logged.append(message.message))
    await raw.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
        " SET auto_explain.log_analyze = on; SET auto_explain.log_timing = off; SET auto_explain.log_format = json;"
        f" SET client_min_messages = log; SET ROLE eventboard_events; SET eventboard.organization_id = '{MIXED}'"
    )
    for search, found in (("Quidditch", 100), ("CHESS", 1_000), ("evening 27 with", 1), ("evening zebra", 0)):
        logged.clear()
        assert await raw.fetchval("SELECT count(*) FROM events.search_rows($1)", f"%{search}%") == found
        explained = [message.partition("plan:\n")[2] for message in logged]
        (plan,) = [plan_of(search, f"[{one}]") for one in explained if '"Relation Name": "events"' in one]
        assert not plan.sequential, plan
        assert plan.finds_text, plan
        # Of other organizations hardly anything is read: none shares this one's number.
        assert plan.rows(for_total=False) <= found + 1, plan
    await raw.close()


async def test_what_search_asks_for(full_database: str) -> None:
    """The trigrams inside of a text, of which those that many events have are left out while there are others."""
    raw = await asyncpg.connect(full_database)
    for search, keys in {
        "Quidditch": {"qui", "uid", "idd", "ddi", "dit", "itc", "tch"},
        "evening with q": {"wit", "ith", " wi", "  w", "th ", "  q"},
        "evening": {"eve", "ven", "eni", "nin", "ing"},
        "ve": set(),
        "!?": set(),
    }.items():
        asked = await raw.fetchval("SELECT events.wanted_keys($1, $2)", MIXED, search)
        assert set(asked) == {"07" + key for key in keys}, search
    await raw.close()


async def test_far_page_by_number(full_database: str) -> None:
    """What comes before it is counted off along the indexes, too."""
    async with explaining(full_database) as connection:
        for sort_by in SortBy:
            connection.name = sort_by
            await listing.find(connection.rows, CALLERS["moderator"], EventQuery(page=400, sort_by=sort_by))
        assert names(plan for plan in connection.plans if plan.sequential) == []
        assert names(plan for plan in connection.plans if plan.rows(for_total=False) > 5_100) == []
