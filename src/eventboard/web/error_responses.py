"""Errors that a middleware answers by itself, before a request reaches Litestar or a service."""

from collections.abc import Callable

from eventboard.core import request_context
from eventboard.core.asgi import Send
from eventboard.core.errors import ServiceError
from eventboard.core.problems import MEDIA_TYPE, problem

# Seconds until a client should try again where the process is overloaded.
RETRY_AFTER = 1

# Status, headers and body of an error: a problem for clients, a failure frame between processes.
EncodeError = Callable[[ServiceError], tuple[int, dict[str, str], bytes]]


def encode_problem(error: ServiceError) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = problem(error, safe=False)
    return status, {**headers, "content-type": MEDIA_TYPE}, body


async def send_error(send: Send, encode_error: EncodeError, error: ServiceError, *, close: bool = False) -> None:
    """`close`: the connection ends with this response."""
    request_context.current().log_fields.failed(error, error.code)
    status, headers, body = encode_error(error)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    if close:
        raw.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
