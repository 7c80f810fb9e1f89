"""Sessions: refresh tokens that rotate, and a family that ends when a spent one is used again."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, bindparam

from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database, Statement
from eventboard.identity.access_tokens import Verify
from eventboard.modules.auth import repository
from eventboard.modules.auth.contract import (
    ActiveSession,
    Done,
    EndSession,
    ListSessions,
    LoggedIn,
    Refresh,
    RefreshFrom,
    Session,
    SessionList,
)
from eventboard.modules.auth.limits import Limits, Origin
from eventboard.modules.auth.models import UserSession
from eventboard.modules.auth.opaque_tokens import fingerprint
from eventboard.modules.auth.pages import CursorPages, rows_shown
from eventboard.modules.auth.session_issuer import Lifetimes, SessionIssuer, end_family, logged_in

# The one that was used last comes first; one that is used meanwhile moves to the beginning.
_COLUMNS = (UserSession.used_at, UserSession.id)
_PAGES = CursorPages("sessions", *_COLUMNS, descending=True, timed=True)
_LIMIT = bindparam("limit", type_=BigInteger())
_AFTER = [bindparam(f"after_{column.key}", type_=column.type) for column in _COLUMNS]
_ROWS: Any = repository.LIVE_SESSIONS
_FIRST_PAGE = Statement(_PAGES.rows(None, _LIMIT).append_to_statement(_ROWS, UserSession))
_NEXT_PAGE = Statement(_PAGES.rows(_AFTER, _LIMIT).append_to_statement(_ROWS, UserSession))


class SessionsService:
    def __init__(
        self, database: Database, verify: Verify, limits: Limits, lifetimes: Lifetimes, sessions: SessionIssuer
    ) -> None:
        self._database = database
        self._verify = verify
        self._limits = limits
        self._lifetimes = lifetimes
        self._sessions = sessions

    async def refresh(self, command: RefreshFrom) -> LoggedIn:
        token = fingerprint(command.refresh_token)
        with self._limits.attempt() as attempt:
            await self._limits.count_refresh_address(attempt, Origin(command.address, command.shared))
            async with self._database.reading(None) as connection:
                owner = await connection.one(repository.REFRESH_TOKEN_OWNER, hash=token)
            if owner is None:
                raise _invalid_token("it is not known. Send the refreshToken of the last log-in or refresh")
            await self._limits.count_refresh_account(attempt, owner["user_id"])
            return logged_in(await self._spend(token, *owner), attempt.quotas)

    async def _spend(
        self, token: bytes, session_id: UUID, user_id: UUID, organization_id: UUID, family_id: UUID
    ) -> Session:
        async with self._database.transaction(organization_id, user_id) as connection:
            # Of a hundred requests at once one spends the token; for the others it is spent.
            if await connection.one(repository.SPEND_REFRESH_TOKEN, hash=token):
                lives = {"lifetime": self._lifetimes.session, "longest": self._lifetimes.longest_session}
                if await connection.one(repository.EXTEND_SESSION, session_id=session_id, **lives):
                    return await self._sessions.renew(connection, session_id, user_id, organization_id)
                why = "its session has ended. Log in again"
            else:
                why = "it was used before, and works once. This ended its session, so log in again"
                # It was stolen or sent twice, which can't be told apart: the family ends.
                await end_family(connection, user_id, family_id)
        # After the commit, which keeps the family ended although the answer is an error.
        raise _invalid_token(why)

    async def logout(self, command: Refresh) -> Done:
        """A token that isn't known is logged out already."""
        async with self._database.reading(None) as connection:
            owner = await connection.one(repository.REFRESH_TOKEN_OWNER, hash=fingerprint(command.refresh_token))
        if owner is not None:
            async with self._database.transaction(None, owner["user_id"]) as connection:
                await end_family(connection, owner["user_id"], owner["family_id"])
        return Done()

    async def list_sessions(self, query: ListSessions) -> SessionList:
        caller = await self._verify(query.actor)
        user = {"user_id": caller.user_id, "limit": rows_shown(query.page) + 1}
        position = _PAGES.position(caller.user_id, query.page)
        async with self._database.reading(None, caller.user_id) as connection:
            if position is None:
                rows = await connection.all(_FIRST_PAGE, **user)
            else:
                after = {"after_used_at": position.at, "after_id": position.id}
                rows = await connection.all(_NEXT_PAGE, **user, **after)
        shown, meta = _PAGES.page(caller.user_id, query.page, rows, lambda row: (row["id"], row["used_at"]))
        data = [ActiveSession(**row, current=row["id"] == caller.session_id) for row in shown]
        return SessionList(data=data, meta=meta)

    async def end_session(self, command: EndSession) -> Done:
        caller = await self._verify(command.actor)
        async with self._database.transaction(None, caller.user_id) as connection:
            await connection.one(repository.LOCK_USER, user_id=caller.user_id)
            if command.session_id is None:
                await connection.all(repository.LOCK_SESSIONS, user_id=caller.user_id)
                await connection.run(repository.END_OTHER_SESSIONS, user_id=caller.user_id, session_id=None)
                return Done()
            # With the sessions of its family: they are one log-in.
            session = {"user_id": caller.user_id, "session_id": command.session_id}
            family = await connection.one(repository.FAMILY_OF_SESSION, **session)
            if family is None:
                raise ServiceError(Code.NOT_FOUND, "You have no such session.")
            await end_family(connection, caller.user_id, family["family_id"])
        return Done()


def _invalid_token(why: str) -> ServiceError:
    title = "A valid refresh token is needed"
    return ServiceError(Code.INVALID_TOKEN, f"The refresh token is rejected: {why}.", title=title)
