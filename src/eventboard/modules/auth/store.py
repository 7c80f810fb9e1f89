"""The statements of accounts, each compiled once."""

from datetime import timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Double,
    bindparam,
    case,
    column,
    delete,
    func,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from eventboard.modules.auth.models import (
    Counter,
    Invitation,
    Membership,
    Organization,
    RefreshToken,
    User,
    UserSession,
)
from eventboard.platform.database import Statement
from eventboard.platform.sweeper import counting


def _given(*names: str) -> dict[str, object]:
    return {name: bindparam(name) for name in names}


_IN_ORGANIZATION = Membership.organization_id == bindparam("organization_id")
_THIS_USER = Membership.user_id == bindparam("user_id")
# Seconds from now, by the database's clock.
_LIFETIME = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("lifetime", type_=Double()))
# The same, and in any case no later than so many seconds after the session began.
_LONGEST = func.make_interval(0, 0, 0, 0, 0, 0, bindparam("longest", type_=Double()))

# People.
_USER_BY_EMAIL = select(User.id, User.password_hash).where(User.email == bindparam("email"))
USER = Statement(select(User.email).where(User.id == bindparam("user_id")))
ADD_USER = Statement(insert(User).values(_given("id", "email", "password_hash", "first_name", "last_name")))
SET_PASSWORD = Statement(
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(password_hash=bindparam("password_hash"), updated_at=func.now())
)

# Organizations.
_ORGANIZATION = [
    Organization.id,
    Organization.name,
    Organization.slug,
    Organization.open_signup,
    Organization.created_at,
    Organization.updated_at,
]
_NAME_AND_OPEN = select(Organization.name, Organization.open_signup).where(
    Organization.id == bindparam("organization_id")
)
ORGANIZATION = Statement(_NAME_AND_OPEN)
# It stays as it is until the transaction ends.
HOLD_ORGANIZATION = Statement(_NAME_AND_OPEN.with_for_update(read=True))
LOCK_ORGANIZATION = Statement(
    select(*_ORGANIZATION).where(Organization.id == bindparam("organization_id")).with_for_update()
)
SET_ORGANIZATION = Statement(
    update(Organization)
    .where(Organization.id == bindparam("organization_id"))
    .values(
        name=bindparam("new_name"),
        name_key=bindparam("name_key"),
        open_signup=bindparam("new_open_signup"),
        updated_at=func.now(),
    )
    .returning(*_ORGANIZATION)
)
# No row where the slug is taken; a taken name raises.
ADD_ORGANIZATION = Statement(
    insert(Organization)
    .values(_given("id", "name", "name_key", "slug"))
    .on_conflict_do_nothing(index_elements=[Organization.slug])
    .returning(Organization.id)
)

# Memberships.
MEMBER = Statement(
    select(
        User.id,
        User.email,
        User.first_name,
        User.last_name,
        Membership.role,
        Membership.organization_id,
        User.created_at,
        User.updated_at,
        Organization.name,
        Organization.slug,
        Membership.active,
        User.password_hash,
    )
    .select_from(User)
    .join(Membership, Membership.user_id == User.id)
    .join(Organization)
    .where(_IN_ORGANIZATION, _THIS_USER)
)
ADD_MEMBERSHIP = Statement(insert(Membership).values(_given("organization_id", "user_id", "role")))
_MEMBER_ROW = (
    select(
        User.id,
        User.email,
        User.first_name,
        User.last_name,
        Membership.role,
        Membership.active,
        Membership.created_at.label("joined_at"),
        Membership.updated_at,
    )
    .join(User, User.id == Membership.user_id)
    .where(_IN_ORGANIZATION)
)
MEMBERS = Statement(_MEMBER_ROW.order_by(User.last_name, User.first_name, User.id))
ONE_MEMBER = Statement(_MEMBER_ROW.where(_THIS_USER))
MEMBER_BY_EMAIL = Statement(_MEMBER_ROW.where(User.email == bindparam("email")))
LOCK_ADMINS = Statement(
    select(Membership.user_id)
    .where(_IN_ORGANIZATION, Membership.role == "ADMIN", Membership.active)
    .order_by(Membership.user_id)
    .with_for_update()
)
LOCK_MEMBERSHIP = Statement(
    select(Membership.role, Membership.active).where(_IN_ORGANIZATION, _THIS_USER).with_for_update()
)
SET_MEMBERSHIP = Statement(
    update(Membership)
    .where(_IN_ORGANIZATION, _THIS_USER)
    .values(role=bindparam("role"), active=bindparam("active"), updated_at=func.now())
)

# Sessions.
_LIVE_SESSION = (UserSession.ended_at.is_(None), UserSession.expires_at > func.now())
# No row where the membership, or the session, has ended.
STANDING = Statement(
    select(Membership.role)
    .join(UserSession, UserSession.user_id == Membership.user_id)
    .where(_IN_ORGANIZATION, _THIS_USER, Membership.active)
    .where(UserSession.id == bindparam("session_id"), UserSession.ended_at.is_(None))
)
USE_SESSION = Statement(
    update(UserSession)
    .where(UserSession.id == bindparam("session_id"), *_LIVE_SESSION)
    .values(used_at=func.now(), expires_at=func.least(_LIFETIME, UserSession.created_at + _LONGEST))
    .returning(UserSession.id)
)
OPEN_SESSIONS = Statement(
    select(
        UserSession.id,
        UserSession.organization_id,
        UserSession.created_at,
        UserSession.used_at,
        UserSession.expires_at,
    )
    .where(UserSession.user_id == bindparam("user_id"), *_LIVE_SESSION)
    .order_by(UserSession.used_at.desc(), UserSession.id)
)
# Where it stands, it does so until the transaction ends: it can't be ended meanwhile.
HOLD_SESSION = Statement(
    select(UserSession.id)
    .where(UserSession.id == bindparam("session_id"), UserSession.ended_at.is_(None))
    .with_for_update(read=True)
)
# Waits for what is begun from one of them, so that the next statement sees that, too.
LOCK_SESSIONS = Statement(
    select(UserSession.id)
    .where(UserSession.user_id == bindparam("user_id"), UserSession.ended_at.is_(None))
    .order_by(UserSession.id)
    .with_for_update()
)
END_SESSION = Statement(
    update(UserSession)
    .where(UserSession.id == bindparam("session_id"), UserSession.user_id == bindparam("user_id"), *_LIVE_SESSION)
    .values(ended_at=func.now())
    .returning(UserSession.id)
)
# All but one; all, where none is named.
END_OTHER_SESSIONS = Statement(
    update(UserSession)
    .where(
        UserSession.user_id == bindparam("user_id"),
        UserSession.id.is_distinct_from(bindparam("session_id", type_=UserSession.id.type)),
        UserSession.ended_at.is_(None),
    )
    .values(ended_at=func.now())
)
ADD_REFRESH_TOKEN = Statement(insert(RefreshToken).values(_given("hash", "session_id")))
# With its first refresh token; its organization is where the user is logged in to next time. No row where the hash is
# another than the one that was checked, where one was; no organization where no membership there is in force.
_BEGIN_SESSION = text(
    "SELECT * FROM auth.begin_session"
    "(:session_id, :hash, :user_id, :organization_id, :checked_hash, :new_hash, :lifetime, :longest)"
).columns(
    *(column(name) for name in ("id", "email", "first_name", "last_name", "created_at", "organization_id", "role"))
)
BEGIN_SESSION = Statement(_BEGIN_SESSION)
FAMILY = Statement(
    select(UserSession.id, UserSession.user_id, UserSession.organization_id)
    .join(RefreshToken, RefreshToken.session_id == UserSession.id)
    .where(RefreshToken.hash == bindparam("hash"))
)
SPEND_REFRESH_TOKEN = Statement(
    update(RefreshToken)
    .where(RefreshToken.hash == bindparam("hash"), RefreshToken.spent_at.is_(None))
    .values(spent_at=func.now())
    .returning(RefreshToken.session_id)
)
END_FAMILY = Statement(
    update(UserSession)
    .where(
        UserSession.id
        == select(RefreshToken.session_id).where(RefreshToken.hash == bindparam("hash")).scalar_subquery(),
        UserSession.ended_at.is_(None),
    )
    .values(ended_at=func.now())
)

# Invitations.
_PENDING = (
    Invitation.used_at.is_(None),
    Invitation.revoked_at.is_(None),
    Invitation.expires_at > func.now(),
)
_INVITATION = [
    Invitation.id,
    Invitation.email,
    Invitation.role,
    case(
        (Invitation.used_at.is_not(None), text("'used'")),
        (Invitation.revoked_at.is_not(None), text("'revoked'")),
        (Invitation.expires_at <= func.now(), text("'expired'")),
        else_=text("'pending'"),
    ).label("state"),
    Invitation.created_at,
    Invitation.expires_at,
]
ADD_INVITATION = Statement(
    insert(Invitation)
    .values({**_given("organization_id", "id", "email", "role", "hash", "invited_by_id"), "expires_at": _LIFETIME})
    .returning(*_INVITATION)
)
INVITATIONS = Statement(
    select(*_INVITATION)
    .where(Invitation.organization_id == bindparam("organization_id"))
    .order_by(Invitation.created_at.desc(), Invitation.id)
)
USE_INVITATION = Statement(
    update(Invitation)
    .where(
        Invitation.organization_id == bindparam("organization_id"),
        Invitation.hash == bindparam("hash"),
        Invitation.email == bindparam("email"),
        *_PENDING,
    )
    .values(used_at=func.now())
    .returning(Invitation.role)
)
REVOKE_INVITATION = Statement(
    update(Invitation)
    .where(
        Invitation.organization_id == bindparam("organization_id"),
        Invitation.id == bindparam("id"),
        Invitation.used_at.is_(None),
        Invitation.revoked_at.is_(None),
    )
    .values(revoked_at=func.now())
    .returning(Invitation.id)
)

# Counters. A window that has ended is none: the next one begins with whoever comes.
_COUNTED = "auth.counted(:keys, :windows, :amounts, :mosts, :renewed)"
COUNT = Statement(text(f"SELECT * FROM {_COUNTED}"))  # noqa: S608 - a constant


class Beside(Struct, frozen=True):
    """A statement of at most one row, the first column of which is never null: alone, and behind a count.

    The count comes first, and both are done or none is. It is two columns of arrays, before those of the row.
    """

    alone: Statement
    counting: Statement


def beside_a_count(statement: Any) -> Beside:
    # One row, so that a function which is asked is called once.
    counts = (
        text(
            "SELECT array_agg(made ORDER BY place) AS made, array_agg(ends_in ORDER BY place) AS ends_in"  # noqa: S608
            f" FROM {_COUNTED} WITH ORDINALITY AS counted (made, ends_in, place)"
        )
        .columns(column("made"), column("ends_in"))
        .subquery("counts")
    )
    asked = statement.subquery("asked")
    return Beside(
        alone=Statement(statement),
        counting=Statement(select(counts, asked).join_from(counts, asked, true(), isouter=True)),
    )


FIND_USER = beside_a_count(_USER_BY_EMAIL)
LOG_IN = beside_a_count(_BEGIN_SESSION)
_OVER = Counter.ends_at <= func.now()
REMEMBERED = Statement(select(Counter.key).where(Counter.key == bindparam("key"), Counter.ends_at > func.now()))
# A batch; what somebody counts on meanwhile is left to next time.
_ENDED = (
    select(Counter.key)
    .where(_OVER)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("ended")
)
SWEEP_COUNTERS = Statement(delete(Counter).where(Counter.key == _ENDED.c.key).returning(literal(1)))

# What is over goes in batches, so that no statement holds many locks for long; a row that somebody uses is left to next
# time. A session is kept for longer than its last access token lives, whose caller stands by it; an invitation for as
# long as an ADMIN may want to know what became of it.
_SESSION_OVER = UserSession.expires_at <= func.now() - timedelta(days=1)
_INVITATION_OVER = Invitation.expires_at <= func.now() - timedelta(days=30)
_OLD_SESSIONS = (
    select(UserSession.id)
    .where(_SESSION_OVER)
    .order_by(UserSession.expires_at)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("old_sessions")
)
# Their tokens go with them.
SWEEP_SESSIONS = Statement(delete(UserSession).where(UserSession.id == _OLD_SESSIONS.c.id).returning(literal(1)))
EXPIRED_SESSIONS = counting(select(UserSession.id).where(_SESSION_OVER))
_OLD_INVITATIONS = (
    select(Invitation.organization_id, Invitation.id)
    .where(_INVITATION_OVER)
    .order_by(Invitation.expires_at)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("old_invitations")
)
SWEEP_INVITATIONS = Statement(
    delete(Invitation)
    .where(Invitation.organization_id == _OLD_INVITATIONS.c.organization_id, Invitation.id == _OLD_INVITATIONS.c.id)
    .returning(literal(1))
)
EXPIRED_INVITATIONS = counting(select(Invitation.id).where(_INVITATION_OVER))
