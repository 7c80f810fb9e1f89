"""Deletes sessions and invitations some time after they have expired; the policies of the sweeper's role hold the
same times.
"""

from datetime import timedelta

from sqlalchemy import BigInteger, bindparam, delete, func, literal, select

from eventboard.db.database import Statement
from eventboard.db.sweeper import Sweep, counting
from eventboard.modules.auth.models import Invitation, UserSession

# In batches, so that no statement holds many locks for long; a locked row is left to the next one. A session is kept
# for longer than its last access token lives, which is checked against it; an invitation for as long as an ADMIN may
# want to know what became of it.
_SESSION_EXPIRED = UserSession.expires_at <= func.now() - timedelta(days=1)
_INVITATION_EXPIRED = Invitation.expires_at <= func.now() - timedelta(days=30)
_OLD_SESSIONS = (
    select(UserSession.id)
    .where(_SESSION_EXPIRED)
    .order_by(UserSession.expires_at)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("old_sessions")
)
# Their tokens are deleted with them.
_DELETE_SESSIONS = Statement(delete(UserSession).where(UserSession.id == _OLD_SESSIONS.c.id).returning(literal(1)))
_COUNT_SESSIONS = counting(select(UserSession.id).where(_SESSION_EXPIRED))
_OLD_INVITATIONS = (
    select(Invitation.organization_id, Invitation.id)
    .where(_INVITATION_EXPIRED)
    .order_by(Invitation.expires_at)
    .limit(bindparam("most", type_=BigInteger()))
    .with_for_update(skip_locked=True)
    .cte("old_invitations")
)
_DELETE_INVITATIONS = Statement(
    delete(Invitation)
    .where(Invitation.organization_id == _OLD_INVITATIONS.c.organization_id, Invitation.id == _OLD_INVITATIONS.c.id)
    .returning(literal(1))
)
_COUNT_INVITATIONS = counting(select(Invitation.id).where(_INVITATION_EXPIRED))

_ROLE = "eventboard_auth_sweeper"

# The numbers of advisory locks: any, as long as no other lock has them.
EXPIRED_SESSIONS = Sweep(
    name="sessions",
    role=_ROLE,
    what="expired sessions",
    lock=0x6175_7373,
    # Each has a token for each time it was refreshed.
    batch=100,
    delete=_DELETE_SESSIONS,
    count=_COUNT_SESSIONS,
)
EXPIRED_INVITATIONS = Sweep(
    name="invitations",
    role=_ROLE,
    what="expired invitations",
    lock=0x6175_7369,
    batch=1_000,
    delete=_DELETE_INVITATIONS,
    count=_COUNT_INVITATIONS,
)
SWEEPS = (EXPIRED_SESSIONS, EXPIRED_INVITATIONS)
