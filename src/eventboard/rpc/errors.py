"""Errors of the way to another process: what an attempt ends with, and what the caller of a contract receives."""

from eventboard.core.errors import Code, ServiceError

# Seconds until a client should try again, as long as a circuit breaker stays open.
RETRY_AFTER = 1


class CallError(Exception):
    """An attempt without an answer. The retry policy decides whether it becomes a ServiceError.

    `reason` is for the log.
    """

    reason = "it failed"


class NeverReachedError(CallError):
    """No connection was made, so the call did not run. `took`: seconds until that was known of the last replica."""

    reason = "no connection could be made"

    def __init__(self, message: str = "", *, took: float = 0) -> None:
        super().__init__(message)
        self.took = took


class LostError(CallError):
    """The connection ended, or returned something that is no answer: the call may have run."""

    reason = "the connection ended without an answer"


class ShedError(CallError):
    """A replica rejected the call before it ran. `error` is its answer; `others`: the module has other replicas."""

    reason = "the replica is overloaded or shutting down"

    def __init__(self, error: ServiceError, *, others: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.others = others


class UnreachableError(ServiceError):
    """No replica of the module answered."""

    def __init__(self, module: str, *, shed: bool) -> None:
        super().__init__(
            Code.UNAVAILABLE, f"The {module} service can't be reached now.", retry_after=RETRY_AFTER, shed=shed
        )
