"""Two versions side by side: another side's contract is told once, and shows for as long as it is met."""

import time
from collections.abc import Callable

from loguru import logger

# Seconds after it was last met that another contract still shows: replicas and callers of both versions take turns.
SHOWN_FOR = 10.0


class Skew:
    """`who` has the other contract, in the log's words; `ours` is this process's hash of it."""

    def __init__(self, who: str, ours: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._who = who
        self._ours = ours
        self._clock = clock
        self._told: set[str] = set()
        self._met: dict[str, float] = {}

    def meet(self, theirs: str) -> None:
        """With each call; one that names no contract needn't be."""
        if theirs == self._ours and not self._met:
            return
        now = self._clock()
        self._met = {other: at for other, at in self._met.items() if now - at < SHOWN_FOR}
        if theirs == self._ours:
            return
        self._met[theirs] = now
        if theirs not in self._told:
            self._told.add(theirs)
            logger.warning("{} has contract {}, this process {}: one is being upgraded", self._who, theirs, self._ours)

    def state(self) -> dict[str, str]:
        """For /health; empty where all are of one version. Without calls it stays as it was."""
        return {"contract": f"{', '.join(sorted(self._met))} there, {self._ours} here"} if self._met else {}
