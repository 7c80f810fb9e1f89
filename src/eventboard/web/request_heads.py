"""Rejects requests whose host or end can be read in two ways, and which uvicorn's parsers accept."""

from collections.abc import Awaitable, Mapping

from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.web.error_responses import EncodeError, send_error

# uvicorn appends a chunked body's trailers to the request's headers. They must not repeat what a proxy has set.
_ONCE_WITH_TRAILERS = (b"authorization", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-prefix")
_CHECKED = (b"host", b"content-length", b"transfer-encoding", b"upgrade", *_ONCE_WITH_TRAILERS)


class RequestHeadMiddleware:
    """Comes before everything that reads a header or a body."""

    def __init__(self, app: App, encode_error: EncodeError) -> None:
        self._app = app
        self._encode_error = encode_error

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        count = dict.fromkeys(_CHECKED, 0)
        for name, _ in scope["headers"]:
            if name in count:
                count[name] += 1
        upgrade = count[b"upgrade"] > 0 and _offers_upgrade(scope)
        error = _check(scope, count, upgrade=upgrade)
        if error is not None:
            # It isn't known where the next request begins.
            return send_error(send, self._encode_error, error, close=True)
        return self._app(scope, receive, _closing(send) if upgrade else send)


def _check(scope: Scope, count: Mapping[bytes, int], *, upgrade: bool) -> ServiceError | None:
    """`upgrade`: see web/upgrade_offers.py, which leaves an offer to be seen here only if it comes late."""
    # RFC 9112, section 3.2: HTTP/1.1 has one, HTTP/1.0 may have none.
    if count[b"host"] != 1 and (count[b"host"] > 1 or scope["http_version"] != "1.0"):
        return _invalid(f"A request has one header Host, and this one has {count[b'host'] or 'none'}.")
    if not count[b"transfer-encoding"]:
        if upgrade and _has_body(scope):
            return _invalid("Upgrade: no other protocol is spoken here, and its offer can't come with a body.")
        return None
    # Section 6.1.
    codings = b",".join(value for name, value in scope["headers"] if name == b"transfer-encoding")
    if codings.strip().lower() != b"chunked":
        return ServiceError(Code.NOT_IMPLEMENTED, "Transfer-Encoding: chunked is the only one.")
    if scope["http_version"] == "1.0" or count[b"content-length"] or upgrade:
        return _invalid("Transfer-Encoding can't come with HTTP/1.0, Content-Length or Upgrade.")
    for name in _ONCE_WITH_TRAILERS:
        if count[name] > 1:
            return _invalid(f"{name.decode().title()} comes twice in a chunked request, of which one may be a trailer.")
    return None


def _offers_upgrade(scope: Scope) -> bool:
    return any(name == b"connection" and b"upgrade" in value.lower() for name, value in scope["headers"])


def _has_body(scope: Scope) -> bool:
    return any(name == b"content-length" and value.strip(b"0 ") for name, value in scope["headers"])


def _invalid(detail: str) -> ServiceError:
    return ServiceError(Code.INVALID_REQUEST, detail)


def _closing(send: Send) -> Send:
    """httptools drops what comes in one piece with a late offer, so the client has to send it again."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return send_and_close
