"""Litestar's exception handlers: every error is a problem of RFC 9457."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from loguru import logger

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.core.problems import MEDIA_TYPE, STATUS_CODES, bug, is_safe, problem
from eventboard.core.quotas import quota_headers
from eventboard.observability.logging import printable_path
from eventboard.web.head_and_options import allowed_methods
from eventboard.web.idempotency_headers import KEY_STATUS, takes_key


def service_error_handler(request: Request[Any, Any, Any], error: ServiceError) -> Response[bytes]:
    # A write with an idempotency key happens once, however often it is sent.
    safe = is_safe(request.method) or (takes_key(request.scope) and "idempotency-key" in request.headers)
    request_context.current().log_fields.failed(error, error.code)
    status, headers, body = problem(error, safe=safe)
    if error.key_status is not None:
        headers[KEY_STATUS] = error.key_status.value
    headers.update(quota_headers(error.quotas))
    if status == 401:
        headers["www-authenticate"] = _challenge(request, error)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def http_exception_handler(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Errors that Litestar raises: no such path, no such method, a body that is too large."""
    code = STATUS_CODES.get(error.status_code)
    if code is None:
        return unexpected_error_handler(request, error)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    detail = error.detail
    if code is Code.NOT_FOUND:
        docs = f"{request_context.current().prefix}/docs"
        detail = (
            "Nothing is at this path. Check its spelling, upper and lower case too;"
            f" the gateway lists all its paths at {docs}."
        )
    elif code is Code.METHOD_NOT_ALLOWED and "allow" in headers:
        # In the order that OPTIONS has; Litestar's is a set's.
        headers["allow"] = allowed_methods(set(headers["allow"].split(", ")))
        detail = f"This path has no {request.method}. Its methods are {headers['allow']}."
    response = service_error_handler(request, ServiceError(code, detail))
    response.headers.update(headers)
    return response


def unexpected_error_handler(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.opt(exception=error).error(
        "{} {} failed; this is a bug, please report what follows",
        request.method,
        printable_path(request.scope["raw_path"]),
    )
    return service_error_handler(request, bug())


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
    ServiceError: service_error_handler,
    HTTPException: http_exception_handler,
    Exception: unexpected_error_handler,
}


def _challenge(request: Request[Any, Any, Any], error: ServiceError) -> str:
    """RFC 6750, section 3.1: no error code where no bearer token was sent."""
    challenge = 'Bearer realm="eventboard"'
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if error.code is Code.INVALID_TOKEN and scheme == "bearer":
        challenge += f', error="invalid_token", error_description="{error.detail}"'
    return challenge
