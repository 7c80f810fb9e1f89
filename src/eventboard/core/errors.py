"""The one error that crosses a contract, and its closed list of codes; and the one that ends a command."""

from enum import StrEnum
from typing import Annotated

from msgspec import Struct

from eventboard.core.contract import about
from eventboard.core.quotas import Quota


class CommandError(Exception):
    """Ends a command of the command line. Its text is one line for the operator."""


class Code(StrEnum):
    """The kind of a problem."""

    INVALID_REQUEST = "invalid-request"
    INVALID_CURSOR = "invalid-cursor"
    INVALID_IDEMPOTENCY_KEY = "invalid-idempotency-key"
    INVALID_TOKEN = "invalid-token"  # noqa: S105 - the name of an error, not a secret
    INVALID_CREDENTIALS = "invalid-credentials"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_TIMEOUT = "request-timeout"
    TOO_LARGE = "too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    WRONG_STATE = "wrong-state"
    ALREADY_EXISTS = "already-exists"
    REQUEST_IN_PROGRESS = "request-in-progress"
    LAST_ADMIN = "last-admin"
    VERSION_CHANGED = "version-changed"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    SEARCH_TOO_BROAD = "search-too-broad"
    QUOTA_EXCEEDED = "quota-exceeded"
    TOO_MANY_REQUESTS = "too-many-requests"
    INTERNAL = "internal"
    ANSWER_TOO_LARGE = "answer-too-large"
    NOT_IMPLEMENTED = "not-implemented"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline-exceeded"


# HTTP status and title of each code.
HTTP: dict[Code, tuple[int, str]] = {
    Code.INVALID_REQUEST: (400, "The request is not valid"),
    Code.INVALID_CURSOR: (400, "The cursor is not valid"),
    Code.INVALID_IDEMPOTENCY_KEY: (400, "The idempotency key is not valid"),
    Code.INVALID_TOKEN: (401, "A valid access token is needed"),
    Code.INVALID_CREDENTIALS: (401, "The e-mail address or the password is wrong"),
    Code.FORBIDDEN: (403, "This is not allowed"),
    Code.NOT_FOUND: (404, "There is no such thing"),
    Code.METHOD_NOT_ALLOWED: (405, "The method is not allowed here"),
    Code.REQUEST_TIMEOUT: (408, "The request took too long to arrive"),
    Code.TOO_LARGE: (413, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "The media type is not supported"),
    Code.WRONG_STATE: (409, "The event is in another state"),
    Code.ALREADY_EXISTS: (409, "It exists already"),
    Code.LAST_ADMIN: (409, "An organization needs an active ADMIN"),
    Code.REQUEST_IN_PROGRESS: (409, "The first request with this key is still running"),
    Code.VERSION_CHANGED: (412, "The event has changed"),
    Code.IDEMPOTENCY_KEY_REUSED: (422, "The idempotency key was used for something else"),
    Code.SEARCH_TOO_BROAD: (422, "The search finds too much"),
    Code.QUOTA_EXCEEDED: (403, "The organization's storage is used up"),
    Code.TOO_MANY_REQUESTS: (429, "Too many requests"),
    Code.INTERNAL: (500, "Something went wrong here"),
    Code.ANSWER_TOO_LARGE: (500, "The answer is too large"),
    Code.NOT_IMPLEMENTED: (501, "This service can't do that yet"),
    Code.UNAVAILABLE: (503, "The service is not available now"),
    Code.DEADLINE_EXCEEDED: (504, "It took too long"),
}


class KeyStatus(StrEnum):
    """Whether the outcome of a request with an idempotency key is new, or the one that was stored before."""

    EXECUTED = "executed"
    REPLAYED = "replayed"


class FieldError(Struct, frozen=True):
    """What is wrong with one field."""

    pointer: Annotated[str, about("A JSON Pointer (RFC 6901) into the body, or into the query taken as an object.")]
    detail: Annotated[str, about("What is wrong with it.")]


class ServiceError(Exception):
    """What a contract call raises.

    `retry_after` is in seconds. `shed`: the call was rejected before it ran (overload, a full queue, draining, never
    reached), so it may be sent again, whatever it does. `key_status` is set where this error is stored under the
    client's idempotency key. `quotas` are the limits that the call counted against; a `too-many-requests` reports the
    one that is used up. `title` replaces that of the code. `version` is the one that a `version-changed` event has.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after: int | None = None,
        *,
        shed: bool = False,
        key_status: KeyStatus | None = None,
        quotas: tuple[Quota, ...] = (),
        title: str = "",
        version: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.shed = shed
        self.key_status = key_status
        self.quotas = quotas
        self.title = title
        self.version = version


def too_many(quotas: tuple[Quota, ...], detail: str = "") -> ServiceError:
    """For the last of the quotas, which is used up. The call did not run."""
    spent = quotas[-1]
    rate = f"The limit {spent.name} is used up: {spent.most} in {spent.window} s. Retry-After says when to try again."
    return ServiceError(
        Code.TOO_MANY_REQUESTS,
        detail or rate,
        retry_after=spent.ends_in,
        shed=True,
        quotas=quotas,
    )


def invalid(*errors: FieldError) -> ServiceError:
    """Errors of fields or parameters."""
    fields = ", ".join(error.pointer or "the body" for error in errors)
    return ServiceError(Code.INVALID_REQUEST, f"Not valid: {fields}.", errors)
