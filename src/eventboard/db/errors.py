"""Maps asyncpg's errors to ServiceError."""

import re

import asyncpg

from eventboard.core.errors import Code, ServiceError
from eventboard.db.pooler import UNPREPARED, unprepared
from eventboard.db.session_settings import MISSING, RETRY_AFTER

# What a broken connection may raise; TimeoutError is an OSError.
BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# The server can't be reached, or can't work: class 53 (disk full, too many connections), 57P0x (shutting down, starting
# up, crashed), 58 (disk failure), read-only after a failover, an administrator's limits for idle sessions and
# transactions, and lost connections.
_UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InsufficientResourcesError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)
# Class 40 (serialization failure, deadlock) and a lock that wasn't acquired in time: nothing was written, and the next
# attempt may succeed.
_CONFLICT = (asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError)

# asyncpg's messages for a connection that has ended. In operation 2 it reads the server's "terminating connection"; a
# connection that ends between two statements goes back to its pool at once.
_ENDED = re.compile(r"closed|closing|another operation \(2\)|released back to the pool")


def translate(error: BaseException) -> None:
    """Raises a ServiceError for an error that comes from the state of the database; returns for a bug.

    A TimeoutError comes from a statement, whose `timeout` was what was left of the call's budget.
    """
    match error:
        case _ if isinstance(error, _CONFLICT):
            raise ServiceError(
                Code.UNAVAILABLE, "Others are changing the same rows of the database now.", retry_after=RETRY_AFTER
            ) from error
        case TimeoutError() | asyncpg.QueryCanceledError():
            raise too_late() from None
        case asyncpg.UndefinedObjectError() if MISSING in str(error):
            raise ServiceError(
                Code.UNAVAILABLE,
                "A pooler's connection to the database lacks the role or the settings of its account: they were changed"
                " after it was made, or on it. Have it replaced (in PgBouncer's console: RECONNECT).",
                retry_after=RETRY_AFTER,
            ) from error
        case _ if isinstance(error, UNPREPARED):
            raise unprepared() from error
        case _ if isinstance(error, _UNAVAILABLE):
            raise unreachable() from error
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            if _ENDED.search(str(error)):
                raise unreachable() from error


def too_late() -> ServiceError:
    return ServiceError(Code.DEADLINE_EXCEEDED, "The database did not answer in time.")


def unreachable() -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=RETRY_AFTER)
