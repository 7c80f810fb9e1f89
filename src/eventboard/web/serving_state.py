"""How many requests a process is serving, and whether it is shutting down."""

import time

from eventboard.core.errors import Code, ServiceError

# Seconds at the limit after which a process isn't ready: a load balancer can send requests to another one.
FULL_FOR = 5.0

# Seconds that each part may take to close, even when the time to shut down is over. Most need some milliseconds.
MIN_SECONDS_LEFT = 0.5


class ServingState:
    """Counts the requests in progress, except health checks. `ends_at` is on `time.monotonic()`'s clock."""

    def __init__(self, max_requests: int) -> None:
        self.max_requests = max_requests
        self.in_progress = 0
        self._full_since = float("inf")
        self.draining = False
        self.ends_at = float("inf")

    def start_request(self) -> bool:
        """False if the process is serving as many requests as it may."""
        if self.in_progress >= self.max_requests:
            return False
        self.in_progress += 1
        if self.in_progress == self.max_requests:
            self._full_since = time.monotonic()
        return True

    def end_request(self) -> None:
        self.in_progress -= 1
        self._full_since = float("inf")

    def seconds_left(self) -> float:
        """Until a draining process has to exit; never zero."""
        return max(MIN_SECONDS_LEFT, self.ends_at - time.monotonic())

    async def check(self) -> None:
        """The health check: a process that is draining, or has been full for some time, isn't ready."""
        if self.draining:
            raise ServiceError(Code.UNAVAILABLE, "This process is about to end.", shed=True)
        if time.monotonic() - self._full_since > FULL_FOR:
            raise ServiceError(
                Code.UNAVAILABLE, f"None of its {self.max_requests} requests has ended for {FULL_FOR:g} s.", shed=True
            )
