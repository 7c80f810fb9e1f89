"""Connections, transactions and statements.

SQLAlchemy Core writes a statement and compiles it once; asyncpg executes it. Executing through SQLAlchemy's own
engine halves the reads per second (docs/decisions/0002-statements-compiled-once.md).
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from uuid import UUID

import asyncpg
from sqlalchemy import literal_column, select, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from eventboard.platform import context
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics
from eventboard.platform.pool import PLANNED_ONCE, Connections, Held, Pool
from eventboard.platform.tracing import BEGIN, COMMIT, IDEMPOTENCY, QUERY, RECORD, Span, now, since

_DIALECT = PGDialect_asyncpg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
# What a statement writes first, where FOR and DO begin clauses; and the tables that it reads.
_WRITES = re.compile(r"(?<!FOR )(?<!DO )\b(INSERT INTO|UPDATE|DELETE FROM) ([\w.]+)")
_READS = re.compile(r"\bFROM (\w+\.\w+)")
_PARAMETER = re.compile(r"\$(\d+)")
# Texts with nothing in them that could be more than text, wherever they stand: ids, most keys. The others take twenty
# times as long to write, and to read.
_PLAIN = re.compile(r"[A-Za-z0-9._: -]*")

# Milliseconds by which a session's `statement_timeout` may be later than the budget's end, as an answer may be. It is
# never less, for it also bounds the settings of who comes next; from there to ten times as much it is exact.
_STEP = 100

_UNDO = "ROLLBACK"
# Two rows where another transaction holds the lock, and else none.
_NOT_LOCKED = "SELECT 1 FROM (VALUES (1), (2)) AS two WHERE NOT current_setting('eventboard.locked')::boolean"


class Statement:
    """A Core statement as PostgreSQL's text, with the names of its parameters in `$1, $2, …` order.

    `summary` is short, and the same whatever the values. `planned_anew`: which plan is good depends on them.
    """

    __slots__ = ("_defaults", "_names", "_settled", "planned_anew", "sql", "summary")

    def __init__(self, statement: ClauseElement, *, planned_anew: bool = False) -> None:
        self.planned_anew = planned_anew
        compiled = cast("SQLCompiler", statement.compile(dialect=_DIALECT))
        self.sql = str(compiled)
        if written := _WRITES.search(self.sql):
            self.summary = f"{written[1].split()[0]} {written[2]}"
        else:
            read = Counter(_READS.findall(self.sql)).most_common(1)
            self.summary = f"SELECT {read[0][0]}" if read else self.sql.split(maxsplit=1)[0]
        self._names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._defaults: dict[str, Any] = {name: compiled.params[name] for name in self._names}
        self._settled: str | None = None

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] if name in values else self._defaults[name] for name in self._names]

    def inlined(self, **values: Any) -> str:
        """With its values in the text, for what shares a round trip with other statements."""
        texts = [_literal(value) for value in self.arguments(values)]
        return _PARAMETER.sub(lambda match: texts[int(match[1]) - 1], self.sql)

    @property
    def settled(self) -> str:
        """A SELECT that makes its scope's settings first; organization and user are its last two parameters.

        Its second half needs what the first returns, and OFFSET 0 keeps the planner from taking either apart: so the
        policies, which ask for the settings when a table is scanned, find them made. Rows stay in the SELECT's order.
        """
        if self._settled is None:
            organization = len(self._names) + 1
            self._settled = (
                "SELECT chosen.* FROM"  # noqa: S608 - put together from our own statements
                f" (SELECT set_config('eventboard.organization_id', ${organization}, false) AS organization,"
                f" set_config('eventboard.user_id', ${organization + 1}, false) OFFSET 0) AS scope CROSS JOIN LATERAL"
                f" (SELECT statement.* FROM ({self.sql}) AS statement WHERE scope.organization IS NOT NULL OFFSET 0)"
                " AS chosen"
            )
        return self._settled


class Connection:
    """One connection for the time of one scope. Every method is one round trip.

    `found`: whether there is what the transaction was to look for. `last` goes with its COMMIT: a statement without
    parameters; where it fails, nothing is committed.
    """

    __slots__ = ("_raw", "found", "last")

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.found = False
        self.last = ""

    async def all(self, statement: Statement, **values: Any) -> list[Any]:
        with Span(QUERY, statement.summary):
            rows: list[Any] = await self._raw.fetch(statement.sql, *statement.arguments(values))
            return rows

    async def one(self, statement: Statement, **values: Any) -> Any | None:
        """The first row, or None."""
        with Span(QUERY, statement.summary):
            return await self._raw.fetchrow(statement.sql, *statement.arguments(values))

    async def run(self, statement: Statement, **values: Any) -> None:
        with Span(QUERY, statement.summary):
            await self._raw.execute(statement.sql, *statement.arguments(values))


class Database:
    """One module's connections, all under that module's role."""

    def __init__(
        self, url: str, *, role: str, size: int, connect_timeout: float, metrics: Metrics | None = None
    ) -> None:
        self._pool = Connections(url, role=role, size=size, connect_timeout=connect_timeout, metrics=metrics)

    def pool(self) -> Pool:
        """As it is now. Nothing, before it is open."""
        return self._pool.state()

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def row(
        self, organization: UUID | None, user: UUID | None, statement: Statement, **values: Any
    ) -> Any | None:
        """The first row of a SELECT, or None."""
        rows = await self.rows(organization, user, statement, **values)
        return rows[0] if rows else None

    async def rows(
        self, organization: UUID | None, user: UUID | None, statement: Statement, **values: Any
    ) -> list[Any]:
        """Those of a SELECT, as in a scope of `reading`, but mostly in one round trip with its settings."""
        held, asked_at = None, 0.0
        try:
            held = await self._pool.take()
            milliseconds = _session_timeout()
            if held.timeout == milliseconds and not statement.planned_anew:
                settings = (str(organization or ""), str(user or ""))
                asked_at = now()
                rows: list[Any] = await held.raw.fetch(statement.settled, *statement.arguments(values), *settings)
                since(asked_at, QUERY, statement.summary)
            else:
                await _settle(held, organization, user, milliseconds, planned_anew=statement.planned_anew)
                rows = await Connection(held.raw).all(statement, **values)
        except BaseException as error:
            if asked_at:
                since(asked_at, QUERY, statement.summary, error)
            await self._pool.failed(held, error)
            raise
        await self._pool.keep(held)
        return rows

    def reading(self, organization: UUID | None, user: UUID | None = None) -> "_Reading":
        """For single statements, each its own transaction.

        `organization` is whose rows this scope is for; None is for what belongs to no organization.
        """
        return _Reading(self._pool, organization, user)

    def transaction(
        self, organization: UUID | None, user: UUID | None = None, *, lock: int | None = None, look_for: str = ""
    ) -> "_Transaction":
        """One transaction: committed when the block ends, rolled back when it raises.

        `lock` is an advisory lock that it holds to its end; raises LockedError at once where another holds it.
        `look_for` is a SELECT of one column and at most one row, without parameters, made after the lock, so that it
        sees what the lock's last holder committed; the connection tells whether it found anything.
        """
        begin = _begin(organization, user)
        if lock is not None:
            begin += f", set_config('eventboard.locked', pg_try_advisory_xact_lock({lock})::text, true); "
            begin += f"{look_for} UNION ALL {_NOT_LOCKED}" if look_for else _NOT_LOCKED
        return _Transaction(self._pool, begin, IDEMPOTENCY if look_for else BEGIN, locks=lock is not None)

    async def run(self, organization: UUID | None, user: UUID | None, statement: Statement, **values: Any) -> None:
        """A transaction of one statement, in one round trip."""
        held = None
        try:
            held = await self._pool.take()
            with Span(QUERY, statement.summary):
                await held.raw.execute(f"{_begin(organization, user)}; {statement.inlined(**values)}; COMMIT")
        except BaseException as error:
            await self._pool.failed(held, error, undo=_UNDO)
            raise
        await self._pool.keep(held)


class LockedError(Exception):
    """Another transaction holds the advisory lock."""


class _Reading:
    __slots__ = ("_held", "_organization", "_pool", "_user")

    def __init__(self, pool: Connections, organization: UUID | None, user: UUID | None) -> None:
        self._pool = pool
        self._organization = organization
        self._user = user

    async def __aenter__(self) -> Connection:
        held = None
        try:
            held = self._held = await self._pool.take()
            await _settle(held, self._organization, self._user, _session_timeout())
        except BaseException as error:
            await self._pool.failed(held, error)
            raise
        return Connection(held.raw)

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if error is None:
            await self._pool.keep(self._held)
        else:
            await self._pool.failed(self._held, error)


class _Transaction:
    __slots__ = ("_begin", "_connection", "_held", "_locks", "_pool", "_span")

    def __init__(self, pool: Connections, begin: str, span: str, *, locks: bool) -> None:
        self._pool = pool
        self._begin = begin
        self._span = span
        self._locks = locks

    async def __aenter__(self) -> Connection:
        held = None
        try:
            held = self._held = await self._pool.take()
            connection = self._connection = Connection(held.raw)
            with Span(self._span):
                said: str = await held.raw.execute(self._begin)
            if self._locks:
                connection.found = _found(said)
        except BaseException as error:
            await self._pool.failed(held, error, undo=_UNDO)
            raise
        return connection

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if error is not None:
            await self._pool.failed(self._held, error, undo=_UNDO)
            return
        last = self._connection.last
        try:
            with Span(RECORD if last and self._locks else COMMIT):
                await self._held.raw.execute(f"{last}; COMMIT" if last else "COMMIT")
        except BaseException as failure:
            await self._pool.failed(self._held, failure, undo=_UNDO)
            raise
        await self._pool.keep(self._held)


def _begin(organization: UUID | None, user: UUID | None) -> str:
    """Of a transaction, with its settings, in one round trip. The values are UUIDs and numbers, no texts."""
    return (
        f"BEGIN; SELECT set_config('eventboard.organization_id', '{organization or ''}', true),"
        f" set_config('eventboard.user_id', '{user or ''}', true),"
        f" set_config('statement_timeout', '{_milliseconds_left()}', true)"
    )


def _found(said: str) -> bool:
    """Of several statements only the last one's "SELECT" and number of rows are told; see `_NOT_LOCKED`."""
    rows = int(said.removeprefix("SELECT "))
    if rows > 1:
        raise LockedError
    return rows == 1


def _milliseconds_left() -> int:
    """For `statement_timeout`, where 0 would mean "no limit"."""
    left = context.remaining()
    return 0 if left is None else max(1, int(left * 1000))


def _session_timeout() -> int:
    """The same, a little later where much is left: most calls then find it set as they need it."""
    left = _milliseconds_left()
    if left < 10 * _STEP:
        return max(left, _STEP) if left else 0
    return -(-left // _STEP) * _STEP


async def _settle(
    held: Held, organization: UUID | None, user: UUID | None, milliseconds: int, *, planned_anew: bool = False
) -> None:
    held.timeout = None
    with Span(BEGIN):
        await held.raw.fetchrow(
            "SELECT set_config('eventboard.organization_id', $1, false), set_config('eventboard.user_id', $2, false),"
            " set_config('statement_timeout', $3, false), set_config('plan_cache_mode', $4, false)",
            str(organization or ""),
            str(user or ""),
            str(milliseconds),
            "auto" if planned_anew else PLANNED_ONCE,
        )
    # Who comes next has to make all settings, where this one's are its own.
    held.timeout = None if planned_anew else milliseconds


def _literal(value: Any) -> str:
    """As a constant of a statement. Of a text that isn't plain, nothing but hexadecimal digits gets there.

    No function makes it: under row-level security PostgreSQL would ask it of each row, in place of the index.
    """
    match value:
        case None:
            return "NULL"
        case UUID():
            return f"'{value}'"
        case int() | float():
            return repr(value)
        case bytes():
            return f"'\\x{value.hex()}'::bytea"
        case str() if _PLAIN.fullmatch(value):
            return f"'{value}'"
        case str():
            # UTF-32, four bytes a character: the escape has six digits of it.
            digits = value.encode("utf-32-be").hex()
            return "U&'" + "".join([f"\\+{digits[start : start + 6]}" for start in range(2, len(digits), 8)]) + "'"
        case _:
            raise TypeError(f"there is no literal of a {type(value).__name__}")


def level_check(database: Database, schema: str, needed: str) -> Callable[[], Awaitable[Mapping[str, str] | None]]:
    """A health check: the schema is there, at the level the code was written for, or newer."""
    statement = Statement(select(literal_column("version_num")).select_from(text(f"{schema}.alembic_version")))

    async def check() -> Mapping[str, str]:
        try:
            row = await database.row(None, None, statement)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
            row = None
        if row is None or row[0] < needed:
            level = "not migrated" if row is None else f"at level {row[0]}"
            raise ServiceError(Code.UNAVAILABLE, f"The database is {level}; {needed} is needed: eventboard migrate.")
        return {"level": row[0]}

    return check
