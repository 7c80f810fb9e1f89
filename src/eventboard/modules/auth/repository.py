"""Statements of accounts, sessions and tokens, each compiled once."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    Double,
    Text,
    and_,
    bindparam,
    column,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from eventboard.db.database import Statement
from eventboard.modules.auth.models import Invitation, Membership, Organization, RefreshToken, User, UserSession


def _parameters(*names: str) -> dict[str, object]:
    return {name: bindparam(name) for name in names}


_IN_ORGANIZATION = Membership.organization_id == bindparam("organization_id")
_THIS_USER = Membership.user_id == bindparam("user_id")
# Seconds from now, by the database's clock.
_LIFETIME = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("lifetime", type_=Double()))
# Likewise, from the time of the log-in: no session lasts longer.
_LONGEST = func.make_interval(0, 0, 0, 0, 0, 0, bindparam("longest", type_=Double()))

# Users.
# The spellings of an address, the most likely first: see names.email_spellings().
_SPELLINGS: Any = bindparam("emails", type_=ARRAY(Text()))
FIND_USER = Statement(
    select(User.id, User.password_hash)
    .where(User.email == func.any(_SPELLINGS))
    .order_by(func.array_position(_SPELLINGS, User.email))
    .limit(literal_column("1"))
)
USER_EMAIL = Statement(select(User.email).where(User.id == bindparam("user_id")))
ADD_USER = Statement(insert(User).values(_parameters("id", "email", "password_hash", "first_name", "last_name")))
SET_PASSWORD = Statement(
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(password_hash=bindparam("password_hash"), updated_at=func.now())
)

# Organizations.
_NAME_AND_OPEN = select(Organization.name, Organization.open_signup).where(
    Organization.id == bindparam("organization_id")
)
ORGANIZATION = Statement(_NAME_AND_OPEN)
LOCK_ORGANIZATION_FOR_SHARE = Statement(_NAME_AND_OPEN.with_for_update(read=True))
ORGANIZATION_BY_NAME = Statement(select(Organization.id).where(Organization.name_key == bindparam("name_key")))
# No row where the slug is taken; a taken name raises.
ADD_ORGANIZATION = Statement(
    insert(Organization)
    .values(_parameters("id", "name", "name_key", "slug"))
    .on_conflict_do_nothing(index_elements=[Organization.slug])
    .returning(Organization.id)
)

# Memberships.
_MEMBER = (
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
MEMBER = Statement(_MEMBER)
ADD_MEMBERSHIP = Statement(insert(Membership).values(_parameters("organization_id", "user_id", "role")))

# Sessions.
_LIVE_SESSION = (UserSession.ended_at.is_(None), UserSession.expires_at > func.now())
_THIS_SESSION = UserSession.id == bindparam("session_id")
_OF_USER = UserSession.user_id == bindparam("user_id")
_FAMILY = func.coalesce(UserSession.family_id, UserSession.id)
# An ended session is deleted like an expired one, a day later.
_END = {"ended_at": func.now(), "expires_at": func.least(UserSession.expires_at, func.now())}
# No row where the membership isn't active, or the session has ended or expired.
ROLE_IN_FORCE = (
    select(Membership.role)
    .join(UserSession, UserSession.user_id == Membership.user_id)
    .where(_IN_ORGANIZATION, _THIS_USER, Membership.active)
    .where(_THIS_SESSION, *_LIVE_SESSION)
)
SESSION_STATUS = Statement(ROLE_IN_FORCE)
# No row where the session has ended or expired; the membership may be inactive.
MEMBER_OF_SESSION = Statement(_MEMBER.where(exists().where(_THIS_SESSION, _OF_USER, *_LIVE_SESSION)))
LIVE_SESSIONS = select(
    UserSession.id,
    UserSession.organization_id,
    UserSession.created_at,
    UserSession.used_at,
    UserSession.expires_at,
).where(_OF_USER, *_LIVE_SESSION)
EXTEND_SESSION = Statement(
    update(UserSession)
    .where(_THIS_SESSION, *_LIVE_SESSION)
    .values(used_at=func.now(), expires_at=func.least(_LIFETIME, UserSession.created_at + _LONGEST))
    .returning(UserSession.id)
)
# Every session of a user starts and ends under this lock, which is taken before those of sessions.
LOCK_USER = Statement(select(User.id).where(User.id == bindparam("user_id")).with_for_update(key_share=True))
# A live session that another is started from, and how many are live in its family. The release before ends sessions
# without the user's lock, so the session itself is locked, too.
_SIBLING = aliased(UserSession)
_LIVE_SIBLINGS = (
    _SIBLING.user_id == UserSession.user_id,
    func.coalesce(_SIBLING.family_id, _SIBLING.id) == _FAMILY,
    _SIBLING.ended_at.is_(None),
    _SIBLING.expires_at > func.now(),
)
LOCK_SESSION_FOR_SHARE = Statement(
    select(
        _FAMILY.label("family_id"),
        UserSession.created_at,
        select(func.count()).where(*_LIVE_SIBLINGS).correlate(UserSession).scalar_subquery().label("live"),
        select(func.extract("epoch", func.min(_SIBLING.expires_at) - func.now()))
        .where(*_LIVE_SIBLINGS)
        .correlate(UserSession)
        .scalar_subquery()
        .label("first_expires_in"),
    )
    .where(_THIS_SESSION, _OF_USER, *_LIVE_SESSION)
    .with_for_update(read=True, of=UserSession)
)
# It waits for what the release before starts from one of them, so that the next statement sees that, too.
LOCK_SESSIONS = Statement(
    select(UserSession.id).where(_OF_USER, *_LIVE_SESSION).order_by(UserSession.id).with_for_update()
)
FAMILY_OF_SESSION = Statement(select(_FAMILY.label("family_id")).where(_THIS_SESSION, _OF_USER, *_LIVE_SESSION))
END_FAMILY = Statement(
    update(UserSession).where(_OF_USER, bindparam("family_id") == _FAMILY, UserSession.ended_at.is_(None)).values(_END)
)
# All but the given one; all, where none is given.
END_OTHER_SESSIONS = Statement(
    update(UserSession)
    .where(
        _OF_USER,
        UserSession.id.is_distinct_from(bindparam("session_id", type_=UserSession.id.type)),
        UserSession.ended_at.is_(None),
    )
    .values(_END)
)
ADD_REFRESH_TOKEN = Statement(insert(RefreshToken).values(_parameters("hash", "session_id")))
# With its first refresh token; its organization becomes the one that the user is logged in to next time. No row where a
# `checked_hash` is no longer the user's; no organization where there is no active membership.
START_SESSION = Statement(
    text(
        "SELECT * FROM auth.start_session"
        "(:session_id, :hash, :user_id, :organization_id, :checked_hash, :new_hash, :lifetime, :longest,"
        " :family_id, :logged_in_at, :most)"
    ).columns(
        *(column(name) for name in ("id", "email", "first_name", "last_name", "created_at", "organization_id", "role"))
    )
)
REFRESH_TOKEN_OWNER = Statement(
    select(UserSession.id, UserSession.user_id, UserSession.organization_id, _FAMILY.label("family_id"))
    .join(RefreshToken, RefreshToken.session_id == UserSession.id)
    .where(RefreshToken.hash == bindparam("hash"))
)
SPEND_REFRESH_TOKEN = Statement(
    update(RefreshToken)
    .where(RefreshToken.hash == bindparam("hash"), RefreshToken.spent_at.is_(None))
    .values(spent_at=func.now())
    .returning(RefreshToken.session_id)
)

# Invitations.
PENDING = (
    Invitation.used_at.is_(None),
    Invitation.revoked_at.is_(None),
    Invitation.expires_at > func.now(),
)
# The inviter is an active ADMIN: an invitation is usable for as long as they are.
_INVITER = (
    Membership.organization_id == Invitation.organization_id,
    Membership.user_id == Invitation.invited_by_id,
    Membership.role == "ADMIN",
    Membership.active,
)
_OF_ORGANIZATION = Invitation.organization_id == bindparam("organization_id")
_INVITED = (
    _OF_ORGANIZATION,
    Invitation.hash == bindparam("hash"),
    Invitation.email == func.any(_SPELLINGS),
    *PENDING,
)
# The inviter's membership, where it may invite.
LOCK_INVITER_FOR_SHARE = Statement(
    select(Membership.user_id)
    .join(Invitation, and_(*_INVITER))
    .where(*_INVITED)
    .with_for_update(read=True, of=Membership)
)
PENDING_INVITATION = Statement(
    select(exists().where(*_INVITER).label("usable")).select_from(Invitation).where(*_INVITED)
)
USE_INVITATION = Statement(update(Invitation).where(*_INVITED).values(used_at=func.now()).returning(Invitation.role))
