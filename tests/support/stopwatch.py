"""Measures how long the program takes, without the time that a busy machine takes from it.

A promise such as "at most 100 ms after the budget" is about the program. Where other processes want the processors,
too, this one waits for a turn each time that it wakes up, and a test would measure the machine. A thread that does
nothing but sleep shows when that happens: whatever it sleeps too long, nobody here could run.
"""

import sys
import threading
import time
from types import TracebackType
from typing import Self

# Seconds that the thread sleeps at a time, and how much too long is no stall yet.
TICK, TOLERATED = 0.005, 0.001
# Seconds until a thread that computes lets another one run; by default as many as a tick has. Otherwise what the block
# computes would seem to be a stall.
SWITCH = 0.0002

# From when to when, on time.monotonic()'s clock, since the first stopwatch of this process was made.
_stalls: list[tuple[float, float]] = []
# When the thread is to be awake again: a stall that goes on still isn't in the list.
_due = 0.0
_starting = threading.Lock()
_watching = False


class Stopwatch:
    """Runs from when it is made; as a context manager, from the begin of the block to its end.

    What the block itself does too slowly counts, also where it blocks the event loop.
    """

    def __init__(self) -> None:
        _watch()
        self._first = len(_stalls)
        self._ended: float | None = None
        self.begun = time.monotonic()

    def __enter__(self) -> Self:
        self.begun = time.monotonic()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._ended = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds by the clock, until now or the end of the block."""
        return self._now() - self.begun

    @property
    def seconds(self) -> float:
        """Those of them in which the machine let this process run."""
        return self.since(self.begun)

    @property
    def stalled(self) -> float:
        """The others."""
        return self._stalled(self.begun, self._now())

    def since(self, moment: float) -> float:
        """As `seconds`, since a moment of time.monotonic(); negative where that is still to come."""
        now = self._now()
        return now - moment - self._stalled(moment, now)

    def _stalled(self, since: float, until: float) -> float:
        due, stalls = _due, _stalls[self._first :]
        if until - due > TOLERATED and (not stalls or stalls[-1][0] != due):
            stalls.append((due, until))
        return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in stalls)

    def _now(self) -> float:
        return time.monotonic() if self._ended is None else self._ended


def _watch() -> None:
    global _watching, _due
    with _starting:
        if not _watching:
            _watching, _due = True, time.monotonic() + TICK
            sys.setswitchinterval(SWITCH)
            threading.Thread(target=_note_stalls, name="stopwatch", daemon=True).start()


def _note_stalls() -> None:
    global _due
    while True:
        _due = time.monotonic() + TICK
        time.sleep(TICK)
        awake = time.monotonic()
        if awake - _due > TOLERATED:
            _stalls.append((_due, awake))
