"""What the parts of the auth module share: their means, and how a person is logged in."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from eventboard.modules.auth import store
from eventboard.modules.auth.contract import LoggedIn, Session, User
from eventboard.modules.auth.limits import Limits
from eventboard.modules.auth.mail import Mail
from eventboard.modules.auth.opaque import fingerprint, new_token
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.auth.tokens import TokenIssuer
from eventboard.platform.database import Connection, Database
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.identity import Principal, Role, Verify, refused
from eventboard.platform.ids import uuid7
from eventboard.platform.quotas import Quota


class Lifetimes(Struct, frozen=True):
    """Seconds: of a session that isn't refreshed, of one that is, and of an invitation."""

    session: int
    longest_session: int
    invitation: int


class Part:
    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        issuer: TokenIssuer,
        verify: Verify,
        mail: Mail,
        lifetimes: Lifetimes,
        limits: Limits,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._issuer = issuer
        self._verify = verify
        self._mail = mail
        self._lifetimes = lifetimes
        self._limits = limits

    async def _log_in(self, connection: Connection, user_id: UUID, organization_id: UUID) -> Session:
        """A new session for an active member, begun by the transaction."""
        values, refresh_token = self._new_session(user_id, organization_id)
        (member,) = await connection.all(store.BEGIN_SESSION, **values)
        return self._begun(member, values["session_id"], refresh_token)

    def _new_session(
        self,
        user_id: UUID,
        organization_id: UUID | None,
        *,
        checked_hash: str | None = None,
        new_hash: str | None = None,
    ) -> tuple[dict[str, Any], str]:
        """The values of BEGIN_SESSION, and its refresh token."""
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
        }, refresh_token

    def _begun(self, member: Any, session_id: UUID, refresh_token: str) -> Session:
        """Of the row of BEGIN_SESSION."""
        if member["organization_id"] is None:
            raise _no_membership()
        return self._session(member, session_id, refresh_token)

    async def _continue(
        self, connection: Connection, session_id: UUID, user_id: UUID, organization_id: UUID
    ) -> Session:
        """A new pair of tokens for a session, written with the transaction's commit."""
        refresh_token = new_token()
        member = await connection.one(store.MEMBER, user_id=user_id, organization_id=organization_id)
        if member is None or not member["active"]:
            raise _no_membership()
        connection.last = store.ADD_REFRESH_TOKEN.inlined(hash=fingerprint(refresh_token), session_id=session_id)
        return self._session(member, session_id, refresh_token)

    def _session(self, member: Any, session_id: UUID, refresh_token: str) -> Session:
        """The access token says the role in force."""
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

    async def _admin(self, actor: str) -> Principal:
        caller = await self._verify(actor)
        if caller.role is not Role.ADMIN:
            raise _not_admin()
        return caller

    async def _still_admin(self, connection: Connection, caller: Principal) -> None:
        """In the transaction itself: what was taken from somebody they could give back to themselves, or to others,
        in the seconds until it is felt everywhere.
        """
        standing = await connection.one(
            store.STANDING,
            organization_id=caller.organization_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
        )
        if standing is None:
            raise ended()
        if standing["role"] != Role.ADMIN:
            raise _not_admin()

    async def _still_open(self, connection: Connection, caller: Principal) -> None:
        """Likewise: an ended session begins no other."""
        if not await connection.one(store.HOLD_SESSION, session_id=caller.session_id):
            raise ended()


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


def ended() -> ServiceError:
    return refused("its membership or its session has ended")


def _not_admin() -> ServiceError:
    return ServiceError(Code.FORBIDDEN, "Only an ADMIN may do this.")


def _no_membership() -> ServiceError:
    return ServiceError(Code.FORBIDDEN, "This account has no active membership there.")
