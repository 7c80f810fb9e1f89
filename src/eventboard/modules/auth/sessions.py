"""Sessions: refresh tokens that rotate, and the end of a family when a spent one comes again."""

from uuid import UUID

from eventboard.modules.auth import store
from eventboard.modules.auth.contract import (
    Done,
    EndSession,
    ListSessions,
    LoggedIn,
    OpenSession,
    OpenSessions,
    Refresh,
    RefreshFrom,
    Session,
)
from eventboard.modules.auth.opaque import fingerprint
from eventboard.modules.auth.part import Part, logged_in
from eventboard.platform.errors import Code, ServiceError


class Sessions(Part):
    async def refresh(self, command: RefreshFrom) -> LoggedIn:
        token = fingerprint(command.refresh_token)
        with self._limits.tally() as tally:
            await self._limits.refresh_from(tally, command.address)
            async with self._database.reading(None) as connection:
                owner = await connection.one(store.FAMILY, hash=token)
            if owner is None:
                raise _refused()
            await self._limits.refresh_of(tally, owner["user_id"])
            return logged_in(await self._spend(token, *owner), tally.quotas)

    async def _spend(self, token: bytes, session_id: UUID, user_id: UUID, organization_id: UUID) -> Session:
        async with self._database.transaction(organization_id, user_id) as connection:
            # One of a hundred that come at once spends the token; the others meet a spent one.
            if await connection.one(store.SPEND_REFRESH_TOKEN, hash=token):
                lives = {"lifetime": self._lifetimes.session, "longest": self._lifetimes.longest_session}
                if await connection.one(store.USE_SESSION, session_id=session_id, **lives):
                    return await self._continue(connection, session_id, user_id, organization_id)
            else:
                # Stolen, or sent twice: nobody can tell, so nobody goes on.
                await connection.run(store.END_FAMILY, hash=token)
        # After the commit: the end of the family is no less final for being answered with a refusal.
        raise _refused()

    async def logout(self, command: Refresh) -> Done:
        """A token that nobody knows is logged out already."""
        await self._database.run(None, None, store.END_FAMILY, hash=fingerprint(command.refresh_token))
        return Done()

    async def list_sessions(self, query: ListSessions) -> OpenSessions:
        caller = await self._verify(query.actor)
        async with self._database.reading(None, caller.user_id) as connection:
            rows = await connection.all(store.OPEN_SESSIONS, user_id=caller.user_id)
        return OpenSessions(data=[OpenSession(**row, current=row["id"] == caller.session_id) for row in rows])

    async def end_session(self, command: EndSession) -> Done:
        caller = await self._verify(command.actor)
        async with self._database.transaction(None, caller.user_id) as connection:
            if command.session_id is None:
                await connection.all(store.LOCK_SESSIONS, user_id=caller.user_id)
                await connection.run(store.END_OTHER_SESSIONS, user_id=caller.user_id, session_id=None)
            elif not await connection.one(store.END_SESSION, user_id=caller.user_id, session_id=command.session_id):
                raise ServiceError(Code.NOT_FOUND, "You have no such session.")
        return Done()


def _refused() -> ServiceError:
    return ServiceError(
        Code.INVALID_TOKEN, "The refresh token is refused: it is unknown, spent, or its session has ended."
    )
