"""Connections, transactions and statements.

SQLAlchemy Core writes a statement and compiles it once; asyncpg executes it. Executing through SQLAlchemy's own
engine halves the reads per second (docs/decisions/0002-statements-compiled-once.md).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast
from uuid import UUID

import asyncpg
from msgspec import Struct
from sqlalchemy import literal_column, select, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from eventboard.platform import context
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics
from eventboard.platform.tracing import BEGIN, COMMIT, CONNECTION, QUERY, Span

_DIALECT = PGDialect_asyncpg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

# Seconds until a client should come back when the database can't be reached.
RETRY_AFTER = 1

# Seconds that a connection may take to be clean for the next call, before it is thrown away: an answer at the end of
# its budget may be 100 ms late, whatever the database does.
CLEAN_UP = 0.05
# Seconds for a pool's connections to say goodbye.
CLOSE = 1.0

# asyncpg's classes for "the server is there but can't": class 53 (disk full, too many connections), 57P0x (shutting
# down, starting up, crashed), read-only after a failover, and what asyncpg raises for a connection that was lost.
_UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)

# How asyncpg says that a connection has ended; operation 2 is reading a server's last words, "terminating connection".
_ENDED = re.compile(r"closed|closing|another operation \(2\)")

# What a statement does first, and to which table; what is after FOR or DO is a clause.
_WRITES = re.compile(r"(?<!FOR )(?<!DO )\b(INSERT INTO|UPDATE|DELETE FROM) ([\w.]+)")
_READS = re.compile(r"\b(SELECT)\b.*?\bFROM ([\w.]+)", re.DOTALL)

# Whatever a broken connection raises; a TimeoutError is an OSError.
_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Pool(Struct, frozen=True, kw_only=True):
    """Connections to the database, and the callers that wait for one."""

    most: int
    size: int = 0
    in_use: int = 0
    idle: int = 0
    waiting: int = 0


class Statement:
    """A Core statement as PostgreSQL's text, with the names of its parameters in `$1, $2, …` order.

    `summary` is short, and the same whatever the values.
    """

    __slots__ = ("_defaults", "_names", "sql", "summary")

    def __init__(self, statement: ClauseElement) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=_DIALECT))
        self.sql = str(compiled)
        found = _WRITES.search(self.sql) or _READS.search(self.sql)
        self.summary = f"{found[1].split()[0]} {found[2]}" if found else self.sql.split(maxsplit=1)[0]
        self._names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._defaults: dict[str, Any] = {name: compiled.params[name] for name in self._names}

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[name] if name in values else self._defaults[name] for name in self._names]


class Connection:
    """One connection for the time of one scope. Every method is one round trip."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def all(self, statement: Statement, **values: Any) -> list[Any]:
        with Span(QUERY, statement.summary), translated():
            rows: list[Any] = await self._raw.fetch(statement.sql, *statement.arguments(values))
            return rows

    async def one(self, statement: Statement, **values: Any) -> Any | None:
        """The first row, or None."""
        with Span(QUERY, statement.summary), translated():
            return await self._raw.fetchrow(statement.sql, *statement.arguments(values))

    async def run(self, statement: Statement, **values: Any) -> None:
        with Span(QUERY, statement.summary), translated():
            await self._raw.execute(statement.sql, *statement.arguments(values))


class Database:
    """A pool of one module's connections, all under that module's role.

    The pool connects when it is first used: a process starts, and says that it isn't ready, while its database is away.
    """

    def __init__(
        self, url: str, *, role: str, size: int, connect_timeout: float, metrics: Metrics | None = None
    ) -> None:
        self._url = url
        self._role = role
        self._size = size
        self._connect_timeout = connect_timeout
        self._pool: Any = None
        self._waiting = 0
        self._watch = PoolWatch(metrics or Metrics(), role.removeprefix("eventboard_"), self.pool)

    def pool(self) -> Pool:
        """As it is now. Nothing, before it is open."""
        if self._pool is None:
            return Pool(most=self._size)
        idle, size = self._pool.get_idle_size(), self._pool.get_size()
        return Pool(most=self._size, size=size, in_use=size - idle, idle=idle, waiting=self._waiting)

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._size,
            timeout=self._connect_timeout,
            connection_class=_PooledConnection,
            server_settings={"role": self._role, "application_name": self._role, "timezone": "UTC"},
        )

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._pool.close()

    @asynccontextmanager
    async def reading(self, organization: UUID | None, user: UUID | None = None) -> AsyncIterator[Connection]:
        """For statements that are each a transaction of their own.

        `organization` is whose rows this scope is for; None is for what belongs to no organization.
        """
        with translated():
            async with self._connection() as raw:
                with Span(BEGIN):
                    await raw.fetchval(
                        "SELECT set_config('eventboard.organization_id', $1, false),"
                        " set_config('eventboard.user_id', $2, false), set_config('statement_timeout', $3, false)",
                        str(organization or ""),
                        str(user or ""),
                        str(_milliseconds_left()),
                    )
                yield Connection(raw)

    @asynccontextmanager
    async def transaction(
        self, organization: UUID | None, user: UUID | None = None, *, lock: int | None = None
    ) -> AsyncIterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        `lock` is an advisory lock that it holds to its end; raises LockedError at once where another holds it.
        """
        with translated():
            async with self._connection() as raw:
                try:
                    # One round trip: begin, settings and lock together. The values are UUIDs and numbers, no texts.
                    with Span(BEGIN):
                        await raw.execute(
                            f"BEGIN; SELECT set_config('eventboard.organization_id', '{organization or ''}', true),"
                            f" set_config('eventboard.user_id', '{user or ''}', true),"
                            f" set_config('statement_timeout', '{_milliseconds_left()}', true)" + _locking(lock)
                        )
                    yield Connection(raw)
                except asyncpg.LockNotAvailableError:
                    await _roll_back(raw)
                    raise LockedError from None
                except BaseException:
                    await _roll_back(raw)
                    raise
                with Span(COMMIT):
                    await raw.execute("COMMIT")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        self._waiting += 1
        try:
            with Span(CONNECTION):
                raw = await self._pool.acquire()
        except (TimeoutError, asyncio.CancelledError):
            self._watch.gave_up()
            raise
        except asyncpg.InvalidParameterValueError:
            # Said of the role alone: nothing else that a connection begins with can be wrong.
            raise ServiceError(
                Code.UNAVAILABLE,
                f"The database has no role {self._role}: it was never migrated.",
                retry_after=RETRY_AFTER,
            ) from None
        finally:
            self._waiting -= 1
        try:
            yield raw
        finally:
            # One that isn't clean in time has been terminated by asyncpg, and its statement by `statement_timeout`.
            with suppress(*_BROKEN):
                await self._pool.release(raw, timeout=CLEAN_UP)


class PoolWatch:
    def __init__(self, metrics: Metrics, name: str, state: Callable[[], Pool]) -> None:
        pool = ("db_client_connection_pool_name",)
        self._name = name
        self._state = state
        self._count = metrics.gauge(
            "db_client_connection_count", "Connections of a pool.", (*pool, "db_client_connection_state")
        )
        self._most = metrics.gauge("db_client_connection_max", "Connections that a pool may have.", pool)
        self._waiting = metrics.gauge(
            "db_client_connection_pending_requests", "Callers that wait for a connection.", pool
        )
        self._timeouts = metrics.counter(
            "db_client_connection_timeouts_total", "Callers that waited for a connection until their time was up.", pool
        )
        self._timeouts.index((name,))
        metrics.sampling(self._sample)

    def gave_up(self) -> None:
        self._timeouts.add(self._name)

    def _sample(self) -> None:
        now = self._state()
        self._count.set(now.in_use, self._name, "used")
        self._count.set(now.idle, self._name, "idle")
        self._most.set(now.most, self._name)
        self._waiting.set(now.waiting, self._name)


class LockedError(Exception):
    """Another transaction holds the advisory lock."""


async def _roll_back(raw: Any) -> None:
    """A connection that can't even do that is not used again."""
    try:
        await raw.execute("ROLLBACK", timeout=CLEAN_UP)
    except _BROKEN:
        # Unless asyncpg has thrown it away already.
        with suppress(asyncpg.InterfaceError):
            raw.terminate()


def _locking(lock: int | None) -> str:
    """Part of the round trip that begins a transaction. A millisecond is the shortest time that PostgreSQL waits."""
    if lock is None:
        return ""
    return f"; SET LOCAL lock_timeout = '1ms'; SELECT pg_advisory_xact_lock({lock}); SET LOCAL lock_timeout = 0"


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that isn't sent asyncpg's RESET query on release: `reading` and `transaction` set all that is set.

    asyncpg still rolls back what a cancelled caller left open.
    """

    def get_reset_query(self) -> str:
        return ""


def _milliseconds_left() -> int:
    """For `statement_timeout`, where 0 would mean "no limit"."""
    left = context.remaining()
    return 0 if left is None else max(1, int(left * 1000))


@contextmanager
def translated() -> Iterator[None]:
    """Turns what the driver raises about the database's state into a ServiceError; a bug stays a bug."""
    try:
        yield
    except asyncpg.QueryCanceledError:
        raise ServiceError(Code.DEADLINE_EXCEEDED, "The database did not answer in time.") from None
    except TimeoutError:
        # From asyncpg: no connection was free, or none could be made, in time.
        raise ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=RETRY_AFTER) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if not _ENDED.search(str(error)):
            raise
        raise ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=RETRY_AFTER) from error
    except _UNAVAILABLE as error:
        raise ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=RETRY_AFTER) from error


def level_check(database: Database, schema: str, needed: str) -> Callable[[], Awaitable[Mapping[str, str] | None]]:
    """A health check: the schema is there, at the level the code was written for, or newer."""
    statement = Statement(select(literal_column("version_num")).select_from(text(f"{schema}.alembic_version")))

    async def check() -> Mapping[str, str]:
        try:
            async with database.reading(None) as connection:
                row = await connection.one(statement)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
            row = None
        if row is None or row[0] < needed:
            level = "not migrated" if row is None else f"at level {row[0]}"
            raise ServiceError(Code.UNAVAILABLE, f"The database is {level}; {needed} is needed: eventboard migrate.")
        return {"level": row[0]}

    return check
