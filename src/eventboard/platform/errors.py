"""The one error that crosses a contract, and its closed list of codes."""

from enum import StrEnum

from msgspec import Struct

from eventboard.platform.quotas import Quota


class Code(StrEnum):
    INVALID_REQUEST = "invalid-request"
    INVALID_CURSOR = "invalid-cursor"
    INVALID_IDEMPOTENCY_KEY = "invalid-idempotency-key"
    INVALID_TOKEN = "invalid-token"  # noqa: S105 - the name of an error, not a secret
    INVALID_CREDENTIALS = "invalid-credentials"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    TOO_LARGE = "too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    WRONG_STATE = "wrong-state"
    ALREADY_EXISTS = "already-exists"
    REQUEST_IN_PROGRESS = "request-in-progress"
    LAST_ADMIN = "last-admin"
    VERSION_CHANGED = "version-changed"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    TOO_MANY_REQUESTS = "too-many-requests"
    INTERNAL = "internal"
    NOT_IMPLEMENTED = "not-implemented"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline-exceeded"


# The one table from codes to HTTP: status and title.
HTTP: dict[Code, tuple[int, str]] = {
    Code.INVALID_REQUEST: (400, "The request is not valid"),
    Code.INVALID_CURSOR: (400, "The cursor is not valid"),
    Code.INVALID_IDEMPOTENCY_KEY: (400, "The idempotency key is not valid"),
    Code.INVALID_TOKEN: (401, "A valid access token is needed"),
    Code.INVALID_CREDENTIALS: (401, "The e-mail address or the password is wrong"),
    Code.FORBIDDEN: (403, "This is not allowed"),
    Code.NOT_FOUND: (404, "There is no such thing"),
    Code.METHOD_NOT_ALLOWED: (405, "The method is not allowed here"),
    Code.TOO_LARGE: (413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "The media type is not supported"),
    Code.WRONG_STATE: (409, "The event is in another state"),
    Code.ALREADY_EXISTS: (409, "It exists already"),
    Code.LAST_ADMIN: (409, "An organization needs an active ADMIN"),
    Code.REQUEST_IN_PROGRESS: (409, "The first request with this key is still running"),
    Code.VERSION_CHANGED: (412, "The event has changed"),
    Code.IDEMPOTENCY_KEY_REUSED: (422, "The idempotency key was used for something else"),
    Code.TOO_MANY_REQUESTS: (429, "Too many requests"),
    Code.INTERNAL: (500, "Something went wrong here"),
    Code.NOT_IMPLEMENTED: (501, "This service can't do that yet"),
    Code.UNAVAILABLE: (503, "The service is not available now"),
    Code.DEADLINE_EXCEEDED: (504, "It took too long"),
}


class KeyStatus(StrEnum):
    """What became of a request's idempotency key: its outcome was stored, or is the one that was stored before."""

    EXECUTED = "executed"
    REPLAYED = "replayed"


class FieldError(Struct, frozen=True):
    """`pointer` is a JSON Pointer (RFC 6901) into the body, or into the query taken as an object."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """What a module, or the way to it, answers instead of a result.

    `retry_after` is in seconds. `not_run` is for an `unavailable` that is known to have refused before anything ran
    (overload, a full queue, draining, never reached): such a call may be sent again, whatever it does. `key_status` is
    set where this very error is stored under the client's idempotency key. `quotas` are the limits that the call was
    counted against, of which a `too-many-requests` has used one up.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after: int | None = None,
        *,
        not_run: bool = False,
        key_status: KeyStatus | None = None,
        quotas: tuple[Quota, ...] = (),
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.not_run = not_run
        self.key_status = key_status
        self.quotas = quotas


def too_many(quotas: tuple[Quota, ...]) -> ServiceError:
    """The last of the quotas is used up. Whatever was asked for has not run."""
    spent = quotas[-1]
    return ServiceError(
        Code.TOO_MANY_REQUESTS,
        f"The limit {spent.name} is used up: {spent.most} in {spent.window} s.",
        retry_after=spent.ends_in,
        not_run=True,
        quotas=quotas,
    )


def invalid(pointer: str, detail: str) -> ServiceError:
    """A 400 about one field."""
    return ServiceError(Code.INVALID_REQUEST, f"{pointer}: {detail}", (FieldError(pointer, detail),))
