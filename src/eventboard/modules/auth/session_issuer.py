"""Starts sessions and issues their tokens. The sessions of one log-in are a family, which ends as one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from eventboard.core.errors import Code, ServiceError
from eventboard.core.ids import uuid7
from eventboard.core.quotas import Quota
from eventboard.db.database import Connection
from eventboard.identity.access_tokens import Principal, Role, invalid_token
from eventboard.modules.auth import repository
from eventboard.modules.auth.contract import LoggedIn, Session, User
from eventboard.modules.auth.limits import SESSIONS, Limits
from eventboard.modules.auth.opaque_tokens import fingerprint, new_token
from eventboard.modules.auth.tokens import TokenIssuer


class Lifetimes(Struct, frozen=True):
    """In seconds: of a session that isn't refreshed, of one that is refreshed again and again, of an invitation."""

    session: int
    longest_session: int
    invitation: int


class Bounds(Struct, frozen=True):
    """How many may exist at once: live sessions of a user, pending invitations of an organization. 0 is no bound."""

    sessions: int
    pending_invitations: int


class Family(Struct, frozen=True):
    """The log-in that a session comes from, inherited by the sessions that are started from it."""

    id: UUID
    logged_in_at: datetime


class SessionIssuer:
    def __init__(self, issuer: TokenIssuer, lifetimes: Lifetimes, limits: Limits, bounds: Bounds) -> None:
        self._issuer = issuer
        self._lifetimes = lifetimes
        self._limits = limits
        self._bounds = bounds

    async def log_in(
        self, connection: Connection, user_id: UUID, organization_id: UUID, family: Family | None = None
    ) -> Session:
        """Starts a session of an active member in the transaction; without a `family`, in a new one."""
        values, refresh_token = self.new_session(user_id, organization_id, family=family)
        (member,) = await connection.all(repository.START_SESSION, **values)
        return self.started(member, values["session_id"], refresh_token)

    def new_session(
        self,
        user_id: UUID,
        organization_id: UUID | None,
        *,
        checked_hash: str | None = None,
        new_hash: str | None = None,
        family: Family | None = None,
    ) -> tuple[dict[str, Any], str]:
        """Returns the values of START_SESSION, and the refresh token."""
        refresh_token = new_token()
        return {
            "session_id": uuid7(),
            "user_id": user_id,
            "organization_id": organization_id,
            "lifetime": self._lifetimes.session,
            "longest": self._lifetimes.longest_session,
            "hash": fingerprint(refresh_token),
            "checked_hash": checked_hash,
            "new_hash": new_hash,
            "family_id": family and family.id,
            "logged_in_at": family and family.logged_in_at,
            "most": self._bounds.sessions,
        }, refresh_token

    def started(self, member: Any, session_id: UUID, refresh_token: str) -> Session:
        """From the row of START_SESSION. Raises `forbidden` where there is no active membership."""
        if member["organization_id"] is None:
            raise _no_membership()
        return self._session(member, session_id, refresh_token)

    async def renew(self, connection: Connection, session_id: UUID, user_id: UUID, organization_id: UUID) -> Session:
        """Issues a new pair of tokens."""
        refresh_token = new_token()
        member = await connection.one(repository.MEMBER, user_id=user_id, organization_id=organization_id)
        if member is None or not member["active"]:
            raise _no_membership()
        await connection.run(repository.ADD_REFRESH_TOKEN, hash=fingerprint(refresh_token), session_id=session_id)
        return self._session(member, session_id, refresh_token)

    def _session(self, member: Any, session_id: UUID, refresh_token: str) -> Session:
        """The access token has the role in force."""
        user = User(**person(member))
        access_token = self._issuer.issue(
            user_id=user.id,
            organization_id=user.organization_id,
            role=user.role,
            name=f"{user.first_name} {user.last_name}",
            session_id=session_id,
        )
        return Session(
            user=user, access_token=access_token, refresh_token=refresh_token, expires_in=self._issuer.lifetime
        )

    async def lock_family(self, connection: Connection, caller: Principal) -> Family:
        """The family of the caller's session, which can't be ended before the transaction ends.

        Raises `invalid-token` where it has ended or expired, `too-many-requests` where the family has no room for more.
        """
        await connection.one(repository.LOCK_USER, user_id=caller.user_id)
        session = await connection.one(
            repository.LOCK_SESSION_FOR_SHARE, session_id=caller.session_id, user_id=caller.user_id
        )
        if session is None:
            raise session_ended()
        most = self._bounds.sessions
        if 0 < most <= session["live"]:
            # At a log-in the family used longest ago ends instead. Here that is this one, and it may be the owner's.
            detail = f"This log-in has {most} sessions, which is the most there can be. Log in again."
            lifetime, ends_in = self._lifetimes.session, session["first_expires_in"]
            raise self._limits.bound_reached(SESSIONS, most, lifetime, ends_in, detail)
        return Family(session["family_id"], session["created_at"])


async def end_family(connection: Connection, user_id: UUID, family_id: UUID) -> None:
    await connection.one(repository.LOCK_USER, user_id=user_id)
    await connection.run(repository.END_FAMILY, user_id=user_id, family_id=family_id)


def logged_in(session: Session, quotas: tuple[Quota, ...]) -> LoggedIn:
    return LoggedIn(
        user=session.user,
        access_token=session.access_token,
        refresh_token=session.refresh_token,
        token_type=session.token_type,
        expires_in=session.expires_in,
        quotas=quotas,
    )


def person(row: Any) -> dict[str, Any]:
    names = ("id", "email", "first_name", "last_name", "organization_id", "created_at")
    return {**{name: row[name] for name in names}, "role": Role(row["role"])}


def session_ended() -> ServiceError:
    return invalid_token("its membership or its session has ended. Log in again")


def _no_membership() -> ServiceError:
    return ServiceError(
        Code.FORBIDDEN,
        "You have no active membership in that organization. Ask one of its ADMINs to invite or reactivate you.",
    )
