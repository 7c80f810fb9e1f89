"""A module's database: connections for one scope (organization, user, deadline), and transactions.

Statements are SQLAlchemy Core's, compiled once, and asyncpg executes them: SQLAlchemy's own engine halves the reads per
second (docs/decisions/0002-statements-compiled-once.md).
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from loguru import logger

from eventboard.core import request_context
from eventboard.db.connector import STATEMENT_TIMEOUT, Connector, translate_connect_error
from eventboard.db.errors import translate
from eventboard.db.pool import ConnectionPool, PoolState
from eventboard.db.session_settings import Guard
from eventboard.db.statements import Statement as Statement  # callers need it with Database
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import BEGIN, COMMIT, QUERY, step

# The settings of a scope end with its transaction.
_SETTINGS = "set_config('eventboard.organization_id', $1, true), set_config('eventboard.user_id', $2, true)"
_SCOPE = f"SELECT {_SETTINGS}"
_SCOPE_AND_LOCK = f"SELECT {_SETTINGS}, pg_try_advisory_xact_lock($3)"
_SCOPE_AND_CUSTOM_PLAN = f"SELECT {_SETTINGS}, set_config('plan_cache_mode', 'auto', true)"
_BECOME = "SELECT set_config('role', $1, true)"


class LockedError(Exception):
    """Another transaction holds the advisory lock."""


class Connection:
    """A connection within a scope. Each method takes no longer than what is left of the budget.

    It is one round trip, or two where a transaction begins with a write: only a SELECT can set the scope, too.

    `settings` are the organization and the user, as long as they have to be set: by each statement outside of a
    transaction, and by the first one within it. `guard` is what the statements need that set them behind a pooler.
    """

    def __init__(
        self, raw: Any, settings: tuple[str, ...] = (), *, transaction: bool = True, guard: Guard | None = None
    ) -> None:
        self._raw = raw
        self._guard = guard or _as_it_is
        self._settings = settings
        self._transaction = transaction

    async def all(self, statement: Statement, **values: Any) -> list[Any]:
        settings, sql = self._settings, statement.sql
        if self._transaction:
            self._settings = ()
        if statement.sets_scope:
            settings = ()
        elif settings and (statement.scopable or not self._transaction):
            sql = statement.scoped_sql
        elif settings:
            # A round trip more than where a transaction begins with a SELECT.
            await self._raw.fetchrow(self._guard(_SCOPE), *settings, timeout=request_context.remaining())
            settings = ()
        with query_step(statement.summary):
            rows: list[Any] = await self._raw.fetch(
                self._guard(sql), *statement.arguments(values), *settings, timeout=request_context.remaining()
            )
            return rows

    async def one(self, statement: Statement, **values: Any) -> Any | None:
        """The first row, or None."""
        rows = await self.all(statement, **values)
        return rows[0] if rows else None

    async def run(self, statement: Statement, **values: Any) -> None:
        await self.all(statement, **values)

    async def become(self, role: str) -> None:
        """Until the transaction ends. Raises ServiceError where the account isn't a member of the role."""
        try:
            await self._raw.fetchrow(_BECOME, role, timeout=request_context.remaining())
        except asyncpg.PostgresError as error:
            translate_connect_error(error, role)
            raise


class Database:
    """One module's connections, all with that module's role.

    The methods' `organization` is the tenant of a scope, or None for rows that belong to no organization.
    `statement_timeout` is a backstop in seconds, longer than the budget of any call.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str,
        size: int,
        connect_timeout: float,
        statement_timeout: float = STATEMENT_TIMEOUT,
        metrics: Metrics | None = None,
        warn_of_privileges: bool = False,
    ) -> None:
        connector = Connector(
            url,
            role=role,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
            warn_of_privileges=warn_of_privileges,
        )
        self._pool = ConnectionPool(connector, role=role, size=size, metrics=metrics)

    def pool(self) -> PoolState:
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
        self,
        organization: UUID | None,
        user: UUID | None,
        statement: Statement,
        *,
        within: float | None = None,
        **values: Any,
    ) -> list[Any]:
        """The rows of a SELECT, in one round trip unless it has a custom plan.

        `within`: seconds that the statement may take at most, not counting the wait for a connection.
        """
        scope: AbstractAsyncContextManager[Connection] = self.reading(organization, user)
        if statement.custom_plan:
            scope = self._transaction((_text(organization), _text(user)), _SCOPE_AND_CUSTOM_PLAN)
        async with scope as connection:
            if within is None:
                return await connection.all(statement, **values)
            with request_context.budget(within):
                return await connection.all(statement, **values)

    def reading(
        self, organization: UUID | None, user: UUID | None = None
    ) -> AbstractAsyncContextManager[Connection, None]:
        """For SELECTs and statements that set their scope themselves, each a transaction of its own."""
        return _Reading(self._pool, (_text(organization), _text(user)))

    def transaction(
        self, organization: UUID | None, user: UUID | None = None, *, lock: int | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Commits at the end of the block, and rolls back when it raises.

        `lock` is an advisory lock, held until the transaction ends; raises LockedError at once where another holds it.
        The block sees what the lock's previous holder has committed.
        """
        settings = (_text(organization), _text(user))
        return self._transaction(settings) if lock is None else self._transaction(settings, _SCOPE_AND_LOCK, lock)

    @asynccontextmanager
    async def transaction_as(self, role: str, *, lock: int | None = None) -> AsyncIterator[Connection]:
        """The same under another role of the account, for rows that belong to no organization.

        Raises ServiceError where the account isn't a member of it.
        """
        first, *arguments = (_SCOPE,) if lock is None else (_SCOPE_AND_LOCK, lock)
        async with self._transaction((_text(None), _text(None)), first, *arguments) as connection:
            await connection.become(role)
            yield connection

    @asynccontextmanager
    async def _transaction(
        self, settings: tuple[str, ...], first: str | None = None, *arguments: Any
    ) -> AsyncIterator[Connection]:
        """`first` sets the scope. Its last column is false where a lock wasn't acquired. Without, the block does."""
        raw = await self._pool.acquire()
        # Now: asyncpg forgets a connection that ends.
        guard = raw.guard
        scoped = guard or _as_it_is
        try:
            with step(BEGIN):
                await raw.execute("BEGIN", timeout=request_context.remaining())
                if first is not None:
                    row = await raw.fetchrow(scoped(first), *settings, *arguments, timeout=request_context.remaining())
                    settings = ()
                    if row[-1] is False:
                        raise LockedError  # noqa: TRY301 - it is rolled back like any other error
            yield Connection(raw, settings, guard=guard)
            with step(COMMIT):
                await raw.execute("COMMIT", timeout=request_context.remaining())
        except BaseException as error:
            await self._pool.release_failed(raw, error, undo="ROLLBACK")
            translate(error)
            raise
        await self._pool.release(raw)


class _Reading:
    """What `Database.reading` returns: a generator would cost a read three times as much."""

    def __init__(self, pool: ConnectionPool, settings: tuple[str, str]) -> None:
        self._pool = pool
        self._settings = settings

    async def __aenter__(self) -> Connection:
        self._raw = await self._pool.acquire()
        return Connection(self._raw, self._settings, transaction=False, guard=self._raw.guard)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            await self._pool.release(self._raw)
        else:
            await self._pool.release_failed(self._raw, error)
            translate(error)


def query_step(summary: str) -> AbstractContextManager[Any]:
    """The span of an execution, and a line in the log at DEBUG; neither has the statement's values."""
    logger.debug("{}", summary)
    return step(QUERY, summary)


def _as_it_is(sql: str) -> str:
    return sql


def _text(id_: UUID | None) -> str:
    """The value of a setting."""
    return "" if id_ is None else str(id_)
