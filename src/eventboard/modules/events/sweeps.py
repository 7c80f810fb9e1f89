"""Which of the module's rows expire, and are deleted."""

from eventboard.db.sweeper import Sweep
from eventboard.modules.events import repository

# Rows that one transaction deletes: about 10 ms of work, and short locks.
BATCH = 1_000

EXPIRED_KEYS = Sweep(
    name="idempotency",
    role="eventboard_sweeper",
    what="expired idempotency keys",
    # Any number that no other advisory lock has; those of keys are 64 random bits.
    lock=0x6576_7377,
    batch=BATCH,
    delete=repository.DELETE_EXPIRED_KEYS,
    count=repository.COUNT_EXPIRED_KEYS,
)
