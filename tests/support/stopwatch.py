"""Measures how long the program takes, without the time that a busy machine takes from it.

A promise such as "at most 100 ms after the budget" is about the program. Where other processes want the processors,
too, this one waits for a turn each time that it wakes up, and a test would measure the machine. A thread that does
nothing but sleep shows when that happens: whatever it sleeps too long, nobody here could run.
"""

import threading
import time
from types import TracebackType
from typing import Self

# Seconds that the thread sleeps at a time, and how much too long is no stall yet.
TICK, TOLERATED = 0.005, 0.001


class Stopwatch:
    """A context manager. What the block itself does too slowly counts, also where it blocks the event loop."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stopwatch", daemon=True)
        # From when to when, on time.monotonic()'s clock.
        self._stalls: list[tuple[float, float]] = []
        self.begun = 0.0
        self._ended: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.begun = time.monotonic()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._ended = time.monotonic()
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            due = time.monotonic() + TICK
            self._over.wait(TICK)
            awake = time.monotonic()
            if awake - due > TOLERATED:
                self._stalls.append((due, awake))

    @property
    def elapsed(self) -> float:
        """Seconds by the clock, until now or the end of the block."""
        return self._now() - self.begun

    @property
    def seconds(self) -> float:
        """Those of them in which the machine let this process run."""
        return self.since(self.begun)

    def since(self, moment: float) -> float:
        """The same since a moment of time.monotonic(); negative where that is still to come."""
        now = self._now()
        stalled = sum(max(0.0, min(end, now) - max(begin, moment)) for begin, end in self._stalls)
        return now - moment - stalled

    def _now(self) -> float:
        return time.monotonic() if self._ended is None else self._ended
