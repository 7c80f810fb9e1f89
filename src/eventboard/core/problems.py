"""Errors as problems of RFC 9457 (application/problem+json)."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.contract import about
from eventboard.core.errors import HTTP, Code, FieldError, ServiceError

MEDIA_TYPE = "application/problem+json"

# A later attempt may succeed.
_TRANSIENT = frozenset({Code.INTERNAL, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.REQUEST_IN_PROGRESS})


class Problem(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An error (RFC 9457)."""

    type: Annotated[str, about("The address of a page about this problem.")]
    title: Annotated[str, about("What kind of problem it is.")]
    status: Annotated[int, about("The HTTP status.")]
    detail: Annotated[str, about("What went wrong with this request.")]
    code: Annotated[Code, about("The kind of problem, for programs.")]
    correlation_id: Annotated[str, about("The request's correlation id, under which the server's logs have it.")]
    retryable: Annotated[bool, about("Whether sending the same request again is safe, and may succeed.")]
    errors: Annotated[tuple[FieldError, ...], about("What is wrong with which field; absent if no field is.")] = ()


def problem(error: ServiceError, *, safe: bool) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and body. `safe`: the request may be repeated without changing anything twice."""
    status, title_of_code = HTTP[error.code]
    context = request_context.current()
    page = Problem(
        type=f"{context.problem_base}/problems/{error.code}",
        title=error.title or title_of_code,
        status=status,
        detail=error.detail,
        code=error.code,
        correlation_id=context.correlation_id,
        retryable=error.shed or (safe and error.code in _TRANSIENT),
        errors=error.errors,
    )
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.version is not None:
        headers["etag"] = entity_tag(error.version)
    return status, headers, msgspec.json.encode(page)


def entity_tag(version: int) -> str:
    """An event's `ETag`."""
    return f'"{version}"'


def is_safe(method: str) -> bool:
    return method in ("GET", "HEAD", "OPTIONS")


def bug() -> ServiceError:
    """The error that a client sees for an unexpected exception, without its details."""
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
