"""Rejects requests that are too many for the process, at once and with 503."""

from collections.abc import Awaitable, Callable
from functools import partial

from eventboard.core.asgi import App, Message, Middleware, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.observability.metrics import Metrics
from eventboard.settings import Server
from eventboard.web.error_responses import RETRY_AFTER, EncodeError, send_error
from eventboard.web.health import PATHS as HEALTH
from eventboard.web.request_bodies import BodyLimits, RequestBodyMiddleware
from eventboard.web.response_pacing import ResponsePacingMiddleware
from eventboard.web.serving_state import ServingState
from eventboard.web.transfers import AddressOf, Transfers

# A request's scope keeps here what to call when its response starts, or when it ends without one.
ON_RESPONSE_START = "eventboard.on_response_start"


def request_limits(
    settings: Server,
    serving: ServingState,
    encode_error: EncodeError,
    metrics: Metrics,
    *,
    max_body: int | None = None,
    address_of: AddressOf | None = None,
) -> list[Middleware]:
    """A limit for each stage of a request: its response is sent, its body is received, it is worked on.

    `max_body` replaces the setting. `address_of` returns the client's address, where each has one of its own.
    """
    outgoing = Transfers(
        "outgoing",
        most=settings.max_outgoing,
        most_bytes=settings.max_outgoing_bytes,
        address_of=address_of,
        metrics=metrics,
    )
    incoming = Transfers(
        "incoming",
        most=settings.max_incoming,
        most_bytes=settings.max_incoming_bytes,
        address_of=address_of,
        metrics=metrics,
    )
    bodies = BodyLimits(max_body or settings.max_body, settings.max_anonymous_body, settings.body_timeout)
    return [
        partial(ResponsePacingMiddleware, transfers=outgoing),
        partial(RequestBodyMiddleware, limits=bodies, transfers=incoming, encode_error=encode_error, metrics=metrics),
        partial(LoadSheddingMiddleware, serving=serving, encode_error=encode_error, metrics=metrics),
    ]


class LoadSheddingMiddleware:
    """A request counts until its response starts, so a client that reads slowly doesn't keep others out."""

    def __init__(self, app: App, serving: ServingState, encode_error: EncodeError, metrics: Metrics) -> None:
        self._app = app
        self._serving = serving
        self._encode_error = encode_error
        self._rejected = metrics.rejected.labels("requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self._app(scope, receive, send)
            return
        if not self._serving.start_request():
            self._rejected.inc()
            await send_error(send, self._encode_error, _too_many_requests())
            return
        callbacks: list[Callable[[], None]] = [self._serving.end_request]
        scope[ON_RESPONSE_START] = callbacks

        def send_and_end(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                _run(callbacks)
            return send(message)

        try:
            await self._app(scope, receive, send_and_end)
        finally:
            _run(callbacks)


def _run(callbacks: list[Callable[[], None]]) -> None:
    """Each is called once."""
    while callbacks:
        callbacks.pop()()


def _too_many_requests() -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE, "Too many requests are being served already.", retry_after=RETRY_AFTER, shed=True
    )
