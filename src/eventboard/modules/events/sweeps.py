"""What of the module's rows is over, and is deleted."""

from eventboard.modules.events import store
from eventboard.platform.sweeper import Sweep

# Rows of one transaction: some 10 ms of work, and short locks.
BATCH = 1_000

EXPIRED_KEYS = Sweep(
    name="idempotency",
    what="expired idempotency keys",
    # Any number will do as long as no key's lock has it; those are 64 random bits.
    lock=0x6576_7377,
    batch=BATCH,
    delete=store.SWEEP_KEYS,
    count=store.EXPIRED_KEYS,
)
