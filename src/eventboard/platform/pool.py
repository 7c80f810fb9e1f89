"""A pool of connections that costs little where nothing fails, and what the driver's errors mean.

asyncpg makes the connections, cleans up after failures, and closes. What comes back clean is kept in a list here, the
last one used first: giving a connection back to asyncpg's own pool costs a task and a timer each time.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
from msgspec import Struct

from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics
from eventboard.platform.tracing import CONNECTION, Span

# Seconds until a client should come back when the database can't be reached.
RETRY_AFTER = 1

# Seconds that a connection may take to be clean for the next call, before it is thrown away: an answer at the end of
# its budget may be 100 ms late, whatever the database does.
CLEAN_UP = 0.05
# Most statements have one plan that is good for any values. Left to itself, PostgreSQL compares guesses at the costs,
# and may make a new one each time: for a list that takes longer than all the rest of it.
PLANNED_ONCE = "force_generic_plan"
# A statement that does nothing, and says nothing in PostgreSQL's log.
NOTHING = "SELECT"
# Seconds for a pool's connections to say goodbye.
CLOSE = 1.0
# Seconds, and uses, after which a connection goes back to asyncpg's pool, which closes what is idle for long, or old.
IDLE = 300.0
MOST_USES = 10_000

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

# Whatever a broken connection raises; a TimeoutError is an OSError.
_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class Pool(Struct, frozen=True, kw_only=True):
    """Connections to the database, and the callers that wait for one."""

    most: int
    size: int = 0
    in_use: int = 0
    idle: int = 0
    waiting: int = 0


class Held:
    """A connection that asyncpg's pool has given out: in use, or in the list of those that are free."""

    __slots__ = ("raw", "since", "timeout", "uses")

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        # The session's `statement_timeout` in milliseconds; None is unknown.
        self.timeout: int | None = None
        self.uses = 0
        self.since = 0.0


class Connections:
    """It connects when it is first used: a process starts, and says that it isn't ready, while its database is away."""

    def __init__(
        self, url: str, *, role: str, size: int, connect_timeout: float, metrics: Metrics | None = None
    ) -> None:
        self._url = url
        self._role = role
        self._size = size
        self._connect_timeout = connect_timeout
        self._free: list[Held] = []
        # How many wait for asyncpg's pool: what comes back then goes there.
        self._waiting = 0
        self._pool: Any = None
        self._watch = PoolWatch(metrics or Metrics(), role.removeprefix("eventboard_"), self.state)

    def state(self) -> Pool:
        if self._pool is None:
            return Pool(most=self._size)
        idle, size = self._pool.get_idle_size() + len(self._free), self._pool.get_size()
        return Pool(most=self._size, size=size, in_use=size - idle, idle=idle, waiting=self._waiting)

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._size,
            timeout=self._connect_timeout,
            connection_class=_PooledConnection,
            init=self._check_role,
            server_settings={
                "role": self._role,
                "application_name": self._role,
                "timezone": "UTC",
                "plan_cache_mode": PLANNED_ONCE,
                # By the same guesses it would compile what is soon done.
                "jit": "off",
            },
        )

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                self._waiting += 1  # for good: nothing is kept any more
                while self._free:
                    await self.give_back(self._free.pop())
                await self._pool.close()

    async def take(self) -> Held:
        while self._free:
            held = self._free.pop()
            if _lives(held.raw):
                held.uses += 1
                return held
            await self.give_back(held)
        with Span(CONNECTION):
            return await self._made()

    async def _made(self) -> Held:
        self._waiting += 1
        try:
            return Held(await self._pool.acquire())
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
        except ValueError:
            # About the URL: a certificate that is not there, an option that is none. It may quote the password.
            raise ServiceError(
                Code.UNAVAILABLE,
                "The database's URL can't be used; `eventboard check` says why.",
                retry_after=RETRY_AFTER,
            ) from None
        finally:
            self._waiting -= 1

    async def _check_role(self, raw: Any) -> None:
        """A pooler in between may have left the role out: then row-level security would be another account's."""
        if await raw.fetchval("SELECT current_user") != self._role:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"A connection to the database doesn't work as {self._role}: something between drops the role.",
                retry_after=RETRY_AFTER,
            )

    async def keep(self, held: Held) -> None:
        """For one that is clean: nothing is under way on it, and nothing failed."""
        if self._waiting or held.uses > MOST_USES:
            await self.give_back(held)
            return
        held.since = time.monotonic()
        self._free.append(held)
        if held.since - self._free[0].since > IDLE:
            await self.give_back(self._free.pop(0))

    async def give_back(self, held: Held) -> None:
        """Cleans it up, whatever state it is in."""
        # One that isn't clean in time has been terminated by asyncpg, and its statement by `statement_timeout`.
        with suppress(*_BROKEN):
            await self._pool.release(held.raw, timeout=CLEAN_UP)

    async def failed(self, held: Held | None, error: BaseException, *, undo: str | None = None) -> None:
        """Executes `undo` and gives it back; raises what the error means, if it says something about the database."""
        if undo is None and isinstance(error, asyncio.CancelledError):
            # asyncpg has a new statement parsed without a Sync. Who is cancelled as that answer comes sends none
            # either: transaction and `statement_timeout` stay, for whoever comes next to meet. Any statement ends it.
            undo = NOTHING
        if held is not None:
            try:
                if undo is not None:
                    await _execute(held.raw, undo)
            finally:
                # Also where the caller is cancelled just then: whatever isn't given back is lost to the pool.
                await self.give_back(held)
        _translate(error)


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


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that isn't sent asyncpg's RESET query on release: each use of it sets all that is set.

    asyncpg still rolls back what a cancelled caller left open.
    """

    def get_reset_query(self) -> str:
        return ""


async def _execute(raw: Any, statement: str) -> None:
    """A connection that can't even do that is not used again."""
    try:
        await raw.execute(statement, timeout=CLEAN_UP)
    except _BROKEN:
        # Unless asyncpg has thrown it away already.
        with suppress(asyncpg.InterfaceError):
            raw.terminate()


def _lives(raw: Any) -> bool:
    try:
        return not raw.is_closed()
    except asyncpg.InterfaceError:
        return False  # it ended while nobody used it, and asyncpg has taken it back


def _translate(error: BaseException) -> None:
    """A ServiceError for what the driver raises about the database's state; a bug stays a bug."""
    match error:
        case asyncpg.QueryCanceledError():
            raise ServiceError(Code.DEADLINE_EXCEEDED, "The database did not answer in time.") from None
        case TimeoutError():
            # From asyncpg: no connection was free, or none could be made, in time.
            raise _unreachable() from error
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            if _ENDED.search(str(error)):
                raise _unreachable() from error
        case _ if isinstance(error, _UNAVAILABLE):
            raise _unreachable() from error


def _unreachable() -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=RETRY_AFTER)
