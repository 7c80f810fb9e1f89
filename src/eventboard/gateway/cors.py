"""CORS headers on every response, whichever middleware sends it."""

from litestar.config.cors import CORSConfig

from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.web.error_responses import EncodeError, send_error

# Seconds that a browser may cache the answer to a preflight request: the most that any of them does.
PREFLIGHT_MAX_AGE = 7200

_VARY = "Origin"
_VARY_OF_PREFLIGHTS = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def cors_config(origins: list[str]) -> CORSConfig:
    """The access token travels in a header, so no cookie needs `allow_credentials`."""
    return CORSConfig(
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            "authorization",
            "content-type",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "traceparent",
            "tracestate",
            "x-correlation-id",
        ],
        expose_headers=[
            "etag",
            "location",
            "idempotency-status",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "server-timing",
            "x-correlation-id",
        ],
        max_age=PREFLIGHT_MAX_AGE,
    )


class CORSMiddleware:
    """Comes before everything that may reject a request, so that a page can read the error.

    Litestar's own is inside the application, where the 503 of an overloaded process doesn't come from. And it replaces
    `Vary`.
    """

    def __init__(self, app: App, config: CORSConfig, encode_error: EncodeError) -> None:
        self._app = app
        self._config = config
        self._encode_error = encode_error
        self._headers = _raw(config.simple_headers)
        self._preflight_headers = _raw({**config.preflight_headers, "vary": _VARY_OF_PREFLIGHTS})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin, method = headers.get(b"origin"), headers.get(b"access-control-request-method")
        allowed = origin is not None and self._config.is_origin_allowed(origin.decode("latin-1"))
        own = [(b"access-control-allow-origin", origin), *self._headers] if allowed else []
        preflight = scope["method"] == "OPTIONS" and origin is not None and method is not None

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*_varied(message["headers"], _VARY_OF_PREFLIGHTS if preflight else _VARY), *own]
            await send(message)

        if not preflight:
            await self._app(scope, receive, send_with_cors)
        elif allowed and self._may_send(method or b"", headers.get(b"access-control-request-headers", b"")):
            answer = [(b"access-control-allow-origin", origin), *self._preflight_headers]
            await send({"type": "http.response.start", "status": 204, "headers": answer})
            await send({"type": "http.response.body", "body": b""})
        else:
            why = "with this method or these headers" if allowed else "from this site; the operator can allow it"
            detail = f"Pages may not call the API {why}."
            await send_error(send_with_cors, self._encode_error, ServiceError(Code.INVALID_REQUEST, detail))

    def _may_send(self, method: bytes, headers: bytes) -> bool:
        names = {name.strip().lower() for name in headers.decode("latin-1").split(",")} - {""}
        allowed = {name.lower() for name in self._config.preflight_headers["Access-Control-Allow-Headers"].split(", ")}
        return method.decode("latin-1") in self._config.allow_methods and names <= allowed


def _varied(headers: list[tuple[bytes, bytes]], more: str) -> list[tuple[bytes, bytes]]:
    """With one `Vary` that names `more`, too."""
    vary = [value for name, value in headers if name.lower() == b"vary"]
    others = [header for header in headers if header[0].lower() != b"vary"]
    return [*others, (b"vary", b", ".join([*vary, more.encode()]))]


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return [(name.encode(), value.encode()) for name, value in lowered.items()]
