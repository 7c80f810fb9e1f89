"""asyncpg's pool, configured so that dead connections cost at most one request.

A firewall, a NAT or a failed-over host may drop a connection without a packet to either end; only a statement without
an answer shows it. So a connection that was idle for a while is probed before it is used, and when one is dead, all
idle ones expire.
"""

import asyncio
import time
from contextlib import suppress
from typing import Annotated, Any

import asyncpg
from msgspec import Struct
from prometheus_client import Counter

from eventboard.core import request_context
from eventboard.core.contract import about
from eventboard.db.connector import Connector, translate_connect_error
from eventboard.db.errors import BROKEN, too_late, unreachable
from eventboard.db.session_settings import Guard
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import CONNECTION, step_since

# Seconds to make a connection clean for the next call, or to close it, before it is discarded: an answer may come
# 100 ms after the end of its budget.
CLEAN_UP = 0.05
# Seconds for the connections to close when the process ends.
CLOSE = 1.0
# Seconds after which an idle connection is probed before it is used, and seconds that its answer may take.
PROBE_AFTER = 1.0
PROBE_TIMEOUT = 0.5
# Nanoseconds of waiting for a connection from which on it is recorded as a span.
RECORDED_WAIT = 1_000_000
# A statement without an effect, and without an entry in PostgreSQL's log.
PING = "SELECT"


class PoolState(Struct, frozen=True, kw_only=True):
    """Numbers of connections, and of callers that wait for one."""

    most: Annotated[int, about("How many connections it may have.")]
    size: Annotated[int, about("How many connections it has.")] = 0
    in_use: Annotated[int, about("How many of them are in use.")] = 0
    idle: Annotated[int, about("How many of them are idle.")] = 0
    waiting: Annotated[int, about("How many callers wait for one.")] = 0


class _DeadConnectionError(Exception):
    """An idle connection didn't answer its probe."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """`released_at`: when it was made or last released, by `time.monotonic()`.

    `guard`, behind a pooler, is for each statement that sets a scope.
    """

    released_at: float
    guard: Guard | None = None

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        """With a time limit: the pool closes expired connections without one, and a dead one would never close."""
        with suppress(*BROKEN):
            await super().close(timeout=CLEAN_UP if timeout is None else timeout)


class ConnectionPool:
    """It connects on first use, so that a process starts, and isn't ready, while its database is down."""

    def __init__(self, connector: Connector, *, role: str, size: int, metrics: Metrics | None = None) -> None:
        self._connector = connector
        self._role = role
        self._size = size
        self._waiting = 0
        self._pool: Any = None
        # When a connection last failed without an answer: those that were idle then are probed.
        self._suspect_since = 0.0
        self._timeouts = self._register_metrics(metrics or Metrics(), role.removeprefix("eventboard_"))

    def state(self) -> PoolState:
        if self._pool is None:
            return PoolState(most=self._size)
        idle, size = self._pool.get_idle_size(), self._pool.get_size()
        return PoolState(most=self._size, size=size, in_use=size - idle, idle=idle, waiting=self._waiting)

    def _register_metrics(self, metrics: Metrics, name: str) -> Counter:
        """The gauges read the pool's state at each scrape. Returns the counter of timeouts."""
        metrics.pool_connections.labels(name, "used").set_function(lambda: self.state().in_use)
        metrics.pool_connections.labels(name, "idle").set_function(lambda: self.state().idle)
        metrics.pool_size_limit.labels(name).set(self._size)
        metrics.pool_pending_requests.labels(name).set_function(lambda: self.state().waiting)
        return metrics.pool_timeouts.labels(name)

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            connect=self._connect,
            min_size=0,
            max_size=self._size,
            connection_class=_Connection,
            setup=self._probe,
            reset=_note_release,
        )

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._pool.close()

    async def acquire(self) -> Any:
        """Waits for a connection until the budget is used up. Raises ServiceError."""
        began = time.time_ns()
        self._waiting += 1
        try:
            async with asyncio.timeout(request_context.remaining()) as limit:
                while True:
                    try:
                        return await self._pool.acquire()
                    except _DeadConnectionError:
                        continue  # the idle ones have expired, so the next one is new
        except asyncio.CancelledError:
            # At the deadline it has timed out; earlier, its caller gave it up.
            if request_context.expired():
                self._timeouts.inc()
            raise
        except TimeoutError as error:
            self._timeouts.inc()
            # Either the budget has ended, or connecting took too long.
            raise too_late() if limit.expired() else unreachable() from error
        except (*BROKEN, ValueError, KeyError) as error:
            translate_connect_error(error, self._role)
            raise
        finally:
            self._waiting -= 1
            if time.time_ns() - began > RECORDED_WAIT:
                step_since(CONNECTION, began)

    async def release(self, connection: Any) -> None:
        """After a success."""
        with suppress(*BROKEN):  # the connection has ended, but the caller has its answer
            await self._pool.release(connection)

    async def release_failed(self, connection: Any, error: BaseException, *, undo: str | None = None) -> None:
        """After a failure. `undo` is executed first; a connection that isn't clean in time is discarded."""
        if undo is None and not isinstance(error, asyncpg.PostgresError):
            # asyncpg parses a new statement without a Sync. A call that is cancelled between that and the execution
            # leaves the implicit transaction open, and any statement ends it.
            undo = PING
        try:
            if undo is not None:
                await connection.execute(undo, timeout=CLEAN_UP)
        except BROKEN:
            self._suspect_since = time.monotonic()
            with suppress(asyncpg.InterfaceError):  # asyncpg has discarded it already
                connection.terminate()
        finally:
            # Even if the caller is cancelled now: the pool would be one connection smaller.
            try:
                await self._pool.release(connection, timeout=CLEAN_UP)
            except BROKEN:
                self._suspect_since = time.monotonic()

    async def _connect(self, *_: Any, **__: Any) -> _Connection:
        """In place of asyncpg's own, whose arguments the pool passes."""
        connection: _Connection
        connection, pooled = await self._connector.connect(_Connection)
        connection.guard = self._connector.guard if pooled else None
        connection.released_at = time.monotonic()
        return connection

    async def _probe(self, connection: Any) -> None:
        released_at = connection.released_at
        if released_at > self._suspect_since and time.monotonic() - released_at < PROBE_AFTER:
            return
        try:
            await connection.execute(PING, timeout=PROBE_TIMEOUT)
        except BaseException as error:
            # The other idle connections are most likely dead, too. An answer takes far less than any budget, so a
            # caller that is cancelled here is a sign of that as well.
            await self._pool.expire_connections()
            if isinstance(error, BROKEN):
                raise _DeadConnectionError from error
            raise


async def _note_release(connection: _Connection) -> None:
    """Replaces asyncpg's reset: settings and locks are local to transactions, so nothing has to be reset."""
    connection.released_at = time.monotonic()
