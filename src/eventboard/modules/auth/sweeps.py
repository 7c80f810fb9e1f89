"""What of the module's rows is over, and is deleted some time later; the policies of its role say when, too."""

from eventboard.modules.auth import store
from eventboard.platform.sweeper import Sweep

# Any numbers will do as long as no other lock has them.
EXPIRED_SESSIONS = Sweep(
    name="sessions",
    what="expired sessions",
    lock=0x6175_7373,
    # Each with its tokens: as many as it was refreshed.
    batch=100,
    delete=store.SWEEP_SESSIONS,
    count=store.EXPIRED_SESSIONS,
)
EXPIRED_INVITATIONS = Sweep(
    name="invitations",
    what="expired invitations",
    lock=0x6175_7369,
    batch=1_000,
    delete=store.SWEEP_INVITATIONS,
    count=store.EXPIRED_INVITATIONS,
)
SWEEPS = (EXPIRED_SESSIONS, EXPIRED_INVITATIONS)
