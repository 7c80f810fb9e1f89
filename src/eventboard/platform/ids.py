"""UUIDs of version 7: ordered by time, so that new rows go to the end of an index."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """RFC 9562, section 5.7: 48 bits of Unix milliseconds, 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
