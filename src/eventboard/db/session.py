"""SQLAlchemy's `AsyncSession` within a scope: an organization and a user, one transaction, the deadline of the call.

For whole calls that come seldom, by advanced-alchemy's repositories and services. What comes often executes compiled
statements (db/database.py), at a third of the cost.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from eventboard.core import request_context
from eventboard.db.connector import STATEMENT_TIMEOUT, Connector, translate_connect_error
from eventboard.db.database import query_step
from eventboard.db.errors import BROKEN, too_late, translate, unreachable
from eventboard.db.pool import CLEAN_UP, CLOSE, PING, PROBE_TIMEOUT
from eventboard.db.statements import summary_of
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import COMMIT, step

# Connections of an engine: enough for what administrators do in one process, and few beside a module's pool.
SIZE = 3

# The settings of a scope end with its transaction, whatever becomes of it.
_SCOPE = (
    "SELECT set_config('eventboard.organization_id', :organization_id, true),"
    " set_config('eventboard.user_id', :user_id, true)"
)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        """SQLAlchemy waits 2 s for a connection that a call was cancelled on, and without a limit for an idle one."""
        with suppress(*BROKEN):
            await super().close(timeout=min(CLEAN_UP, timeout or CLEAN_UP))


class SessionFactory:
    """Sessions of one module, all under that module's role, on an engine of their own.

    The engine connects when it is first used. A connection that a call was cancelled on, or ran out of time on, is
    closed: it is never used again. `statement_timeout` is a backstop in seconds, as `Database` has it.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str,
        connect_timeout: float,
        statement_timeout: float = STATEMENT_TIMEOUT,
        metrics: Metrics | None = None,
    ) -> None:
        self._connector = Connector(
            url, role=role, connect_timeout=connect_timeout, statement_timeout=statement_timeout
        )
        self._role = role
        # Also without a pooler: these calls are rare.
        self._scope = text(self._connector.guard(_SCOPE))
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=SIZE,
            max_overflow=0,
            # The deadline of the call alone bounds the wait for a connection.
            pool_timeout=None,
            # An error of a statement may be logged, and none of its values.
            hide_parameters=True,
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        events = self._engine.sync_engine
        event.listen(events, "checkout", _probe)
        event.listen(events, "handle_error", _translate)
        event.listen(events, "before_cursor_execute", _begin_step)
        event.listen(events, "after_cursor_execute", _end_step)
        self._measure(metrics or Metrics(), f"{role.removeprefix('eventboard_')}_sessions")

    def _measure(self, metrics: Metrics, name: str) -> None:
        """Gauges read the engine's pool when they are scraped."""
        pool: Any = self._engine.pool
        metrics.pool_connections.labels(name, "used").set_function(pool.checkedout)
        metrics.pool_connections.labels(name, "idle").set_function(pool.checkedin)
        metrics.pool_size_limit.labels(name).set(SIZE)

    async def open(self) -> None:
        """It connects when it is first used."""

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._engine.dispose()

    @asynccontextmanager
    async def begin(self, organization: UUID | None, user: UUID | None = None) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        `organization` is whose rows it is for; None is for what belongs to no organization. Raises ServiceError, also
        where the deadline of the call ends the block.
        """
        try:
            async with asyncio.timeout(request_context.remaining()), self._sessions() as session, session.begin():
                scope = {"organization_id": str(organization or ""), "user_id": str(user or "")}
                await session.execute(self._scope, scope)
                yield session
                with step(COMMIT):
                    await session.commit()
        except TimeoutError:
            raise too_late() from None
        except BROKEN as error:
            # The driver's own, while SQLAlchemy set up a new connection.
            translate(error)
            raise

    async def _connect(self, **_: Any) -> asyncpg.Connection:
        try:
            connection, _pooled = await self._connector.connect(_Connection)
        except TimeoutError as error:
            raise unreachable() from error
        except (*BROKEN, ValueError, KeyError) as error:
            translate_connect_error(error, self._role)
            raise
        return connection


def _probe(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """Before a connection is used again: one that doesn't answer takes the other idle ones with it, and a new one is
    made. A new one has just been verified.
    """
    if "used" not in record.info:
        record.info["used"] = True
        return
    try:
        connection.run_async(lambda driver: driver.execute(PING, timeout=PROBE_TIMEOUT))
    except BROKEN as error:
        raise InvalidatePoolError from error


def _translate(context: ExceptionContext) -> None:
    """Raises a ServiceError, which SQLAlchemy raises in place of its own error, for what the driver reports of the
    database's state.
    """
    _leave_step(context.execution_context, context.original_exception)
    for error in (context.original_exception, context.original_exception.__cause__):
        if isinstance(error, BROKEN):
            translate(error)


def _begin_step(_: object, __: object, statement: str, ___: object, context: Any, ____: object) -> None:
    context.eventboard_step = query_step(summary_of(statement))
    context.eventboard_step.__enter__()


def _end_step(_: object, __: object, ___: object, ____: object, context: Any, _____: object) -> None:
    _leave_step(context)


def _leave_step(context: Any, error: BaseException | None = None) -> None:
    begun = getattr(context, "eventboard_step", None)
    if begun is not None:
        begun.__exit__(type(error) if error else None, error, None)
