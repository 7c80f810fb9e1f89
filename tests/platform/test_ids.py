"""UUIDs of version 7."""

import time

from eventboard.platform.ids import uuid7


def test_format() -> None:
    """RFC 9562's version and variant, and the time in the first 48 bits."""
    for _ in range(1000):
        before = time.time_ns() // 1_000_000
        made = uuid7()
        assert (made.version, made.variant) == (7, "specified in RFC 4122")
        assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_order() -> None:
    """Later ones are greater, to the millisecond."""
    made = []
    for _ in range(20):
        made.append(uuid7())
        end = time.time_ns() // 1_000_000 + 1
        while time.time_ns() // 1_000_000 < end:
            pass
    assert made == sorted(made)


def test_chance() -> None:
    """Everything but time, version and variant is chance: no two are alike, and no bit is always the same."""
    made = [uuid7().int for _ in range(10_000)]
    assert len(set(made)) == len(made)
    random_bits = (1 << 80) - 1 & ~(0xF << 76) & ~(0x3 << 62)
    ever, always = 0, random_bits
    for value in made:
        ever |= value
        always &= value
    assert ever & random_bits == random_bits
    assert always == 0
