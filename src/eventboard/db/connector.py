"""Makes a module's connections: with its role and the settings that the code needs, or through a pooler without them.

A transaction pooler doesn't pass on what a connection starts with. PgBouncer rejects it; then the connection is made
without, and role and settings are those of the account (ALTER ROLE … SET). Either way they are verified, and nothing
has to be configured here (docs/decisions/0048-behind-a-transaction-pooler.md).
"""

import asyncio
from typing import Any

import asyncpg
from loguru import logger

from eventboard.core.errors import Code, ServiceError
from eventboard.db import database_url, pooler, session_settings
from eventboard.db.errors import translate
from eventboard.db.session_settings import RETRY_AFTER, SERVING, Guard

# Seconds of a statement: of one in a call without a budget, and on the server.
STATEMENT_TIMEOUT = 60.0


class Connector:
    """`statement_timeout` is a backstop in seconds: the server ends a statement that should have been cancelled.

    `guard` is for the statements that set a scope, on the connections of a pooler.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str,
        connect_timeout: float,
        statement_timeout: float = STATEMENT_TIMEOUT,
        warn_of_privileges: bool = False,
    ) -> None:
        self._url = database_url.parse(url)
        self._role = role
        self._connect_timeout = connect_timeout
        self._statement_timeout = statement_timeout
        self._warn_of_privileges = warn_of_privileges
        self._rejects_settings = False
        # A connection of the pooler that was found fit: it ends with the pooler.
        self._found_fit: Any = None
        self._examining = asyncio.Lock()
        self.guard = Guard(role)

    async def connect(self, connection_class: type[Any]) -> tuple[Any, bool]:
        """A verified connection, and whether there is a pooler in between. Raises ServiceError, asyncpg's errors."""
        connection = await self._open(connection_class=connection_class, command_timeout=self._statement_timeout)
        try:
            session = await session_settings.read(connection, SERVING)
            if session.pooled:
                await self._examine_pooler(connection)
            session.require(SERVING, role=self._role, statement_timeout=self._statement_timeout)
        except BaseException as error:
            connection.terminate()
            if isinstance(error, pooler.UNPREPARED):
                raise pooler.unprepared() from error
            # By the next attempt there may be no pooler any more.
            self._rejects_settings = False
            raise
        if session.bypasses and self._warn_of_privileges:
            self._warn_of_privileges = False
            logger.warning("the account of {} {}", self._role, session_settings.BYPASSES)
        return connection, session.pooled

    async def _open(self, **options: Any) -> Any:
        if not self._rejects_settings:
            try:
                return await self._open_with(self._settings(), options)
            except asyncpg.ProtocolViolationError:
                # "unsupported startup parameter": PostgreSQL has another error for a parameter it doesn't know.
                connection = await self._open_with(self._url.settings, options)
                self._rejects_settings = True
                return connection
        return await self._open_with(self._url.settings, options)

    async def _open_with(self, settings: dict[str, str], options: dict[str, Any]) -> Any:
        return await asyncpg.connect(
            **self._url.arguments,
            timeout=self._connect_timeout,
            server_settings={"application_name": self._role, **settings},
            **options,
        )

    def _settings(self) -> dict[str, str]:
        return {
            **self._url.settings,
            **SERVING,
            "statement_timeout": str(int(self._statement_timeout * 1000)),
            "role": self._role,
        }

    async def _examine_pooler(self, connection: Any) -> None:
        async with self._examining:
            if self._found_fit is None or self._found_fit.is_closed():
                async with asyncio.timeout(self._connect_timeout):
                    await pooler.require_transactions_with_prepared_statements(
                        lambda: self._open(statement_cache_size=0)
                    )
                self._found_fit = connection


def translate_connect_error(error: Exception, role: str) -> None:
    """Raises a ServiceError that says why no connection can be made; returns for a bug."""
    if isinstance(error, ValueError | KeyError) or (
        isinstance(error, PermissionError) and database_url.unreadable_home()
    ):
        # The URL names a missing certificate, an unknown option or no account. The message may quote its password.
        raise ServiceError(
            Code.UNAVAILABLE,
            "The database's URL can't be used; `eventboard check` says why.",
            retry_after=RETRY_AFTER,
        ) from None
    translate(error)
    if isinstance(error, asyncpg.PostgresError):
        # The role, or an option of the URL, is rejected.
        message = str(error).splitlines()[0]
        missing = isinstance(error, asyncpg.InvalidParameterValueError) and role in message
        why = (
            f"has no role {role}: it was never migrated; run `eventboard migrate`"
            if missing
            else f"accepts no connection: {message}"
        )
        raise ServiceError(Code.UNAVAILABLE, f"The database {why}.", retry_after=RETRY_AFTER) from error
