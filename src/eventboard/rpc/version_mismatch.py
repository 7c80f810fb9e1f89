"""Detects peers with another version of a contract: each is logged once, and in /health while it is seen."""

import time
from collections.abc import Callable

from loguru import logger

# Seconds that another version stays in /health after a call: replicas and callers of both versions take turns.
SHOWN_FOR = 10.0


class VersionMismatch:
    """`peer` names the other side in the log; `ours` is the `contract_hash` of this process."""

    def __init__(self, peer: str, ours: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._ours = ours
        self._clock = clock
        self._logged: set[str] = set()
        self._seen_at: dict[str, float] = {}

    def record(self, theirs: str) -> None:
        """To be called with the `contract_hash` of each call."""
        if theirs == self._ours and not self._seen_at:
            return
        now = self._clock()
        self._seen_at = {other: at for other, at in self._seen_at.items() if now - at < SHOWN_FOR}
        if theirs == self._ours:
            return
        self._seen_at[theirs] = now
        if theirs not in self._logged:
            self._logged.add(theirs)
            logger.warning(
                "{} has contract {}, this process {}: one is being upgraded; if not, deploy the same version of both",
                self._peer,
                theirs,
                self._ours,
            )

    def state(self) -> dict[str, str]:
        """For /health; empty where all have this version. It changes with calls only."""
        return {"contract": f"{', '.join(sorted(self._seen_at))} there, {self._ours} here"} if self._seen_at else {}
