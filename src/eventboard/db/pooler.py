"""Tells whether a pooler in between can do what is needed, before anything is executed through it.

One that runs transactions on several connections has to know prepared statements: otherwise a statement that one client
has prepared is missing on another connection, or is another client's statement of the same name.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import asyncpg

from eventboard.core.errors import Code, ServiceError
from eventboard.db.session_settings import RETRY_AFTER

# What a pooler without prepared statements makes of them.
UNPREPARED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
# In each round the second client has one more transaction, so that no order in which connections are handed out makes
# two clients meet the same ones each time.
ROUNDS = 5


class UnfitPoolerError(ServiceError):
    def __init__(self, detail: str) -> None:
        super().__init__(Code.UNAVAILABLE, detail, retry_after=RETRY_AFTER)


def unprepared() -> UnfitPoolerError:
    return UnfitPoolerError(
        "The pooler in front of the database doesn't know prepared statements: set max_prepared_statements to 200 (that"
        " needs PgBouncer 1.21 or newer)."
    )


async def require_transactions_with_prepared_statements(connect: Callable[[], Awaitable[Any]]) -> None:
    """`connect` makes a connection whose own statements have no names. Raises UnfitPoolerError."""
    first = await connect()
    try:
        second = await connect()
        try:
            await _require(first, second)
        finally:
            await _close(second)
    except (asyncpg.ProtocolViolationError, asyncpg.PostgresConnectionError) as error:
        # It rejects BEGIN, and closes the connection.
        if "transaction" not in str(error):
            raise
        raise UnfitPoolerError(
            "The pooler in front of the database runs each statement alone: set pool_mode = transaction."
        ) from error
    except UNPREPARED as error:
        raise unprepared() from error
    finally:
        await _close(first)


async def _require(first: Any, second: Any) -> None:
    name = f"eventboard_{uuid4().hex}"
    async with first.transaction():
        # The pooler knows it if PostgreSQL has it by another name.
        statement = await first.prepare("SELECT", name=name)
        names = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1)"
        if not await first.fetchval(names, name):
            return
        process = await _process(first)
    # It doesn't. That is fine only if each client has a connection of its own for as long as it likes.
    for number in range(ROUNDS):
        for _ in range(number + 1):
            async with second.transaction():
                if await _process(second) == process:
                    raise unprepared()
        async with first.transaction():
            if await _process(first) != process:
                raise unprepared()
    await statement.fetch()


async def _process(connection: Any) -> Any:
    return await connection.fetchval("SELECT pg_backend_pid()")


async def _close(connection: Any) -> None:
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=1)
