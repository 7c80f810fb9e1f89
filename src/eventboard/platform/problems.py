"""Errors as HTTP sees them: RFC 9457's application/problem+json."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from eventboard.platform import context
from eventboard.platform.errors import HTTP, Code, FieldError, ServiceError

MEDIA_TYPE = "application/problem+json"

# Codes that a later repetition may not meet again.
_PASSING = frozenset({Code.INTERNAL, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.REQUEST_IN_PROGRESS})


class Problem(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`retryable` is true only where repeating the same request is safe."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    correlation_id: str
    retryable: bool
    errors: tuple[FieldError, ...] = ()


def problem(error: ServiceError, *, safe: bool) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body. `safe`: the request changes nothing, so that it may be repeated."""
    status, title = HTTP[error.code]
    page = Problem(
        type=f"/problems/{error.code}",
        title=title,
        status=status,
        detail=error.detail,
        code=error.code,
        correlation_id=context.current().correlation_id,
        retryable=error.not_run or (safe and error.code in _PASSING),
        errors=error.errors,
    )
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return status, headers, msgspec.json.encode(page)


def is_safe(method: str) -> bool:
    return method in ("GET", "HEAD", "OPTIONS")


def bug() -> ServiceError:
    """What a client is told of an error nobody foresaw: nothing of the inside."""
    return ServiceError(Code.INTERNAL, "The error was logged under this correlation id.")


STATUS_CODES: Mapping[int, Code] = {
    400: Code.INVALID_REQUEST,
    401: Code.INVALID_TOKEN,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}
