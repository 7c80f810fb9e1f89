"""Counts what happened in the last seconds."""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

Clock = Callable[[], float]

# Buckets of a window: memory is bounded, whatever the rate, and an event is forgotten a twentieth of the window late.
BUCKETS = 20


class _Bucket(Struct):
    started_at: float
    count: int = 0


class SlidingCounter:
    """The number of events within the last `seconds`."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._buckets: deque[_Bucket] = deque()

    def add(self) -> None:
        now = self._clock()
        if not self._buckets or now - self._buckets[-1].started_at > self._seconds / BUCKETS:
            self._buckets.append(_Bucket(now))
            self._expire(now)
        self._buckets[-1].count += 1

    def total(self) -> int:
        self._expire(self._clock())
        return sum(bucket.count for bucket in self._buckets)

    def clear(self) -> None:
        self._buckets.clear()

    def _expire(self, now: float) -> None:
        while self._buckets and self._buckets[0].started_at < now - self._seconds:
            self._buckets.popleft()
