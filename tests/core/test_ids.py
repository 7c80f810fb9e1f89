"""UUIDs of version 7."""

import time

from eventboard.core.ids import uuid7


def test_format() -> None:
    """RFC 9562's version and variant, and the time in the first 48 bits."""
    for _ in range(1000):
        before = time.time_ns() // 1_000_000
        made = uuid7()
        assert (made.version, made.variant) == (7, "specified in RFC 4122")
        assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_order() -> None:
    """Each is greater than the one before it, within a millisecond too."""
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
