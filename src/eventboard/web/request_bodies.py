"""Receives a request's body before the request counts as one in progress: half of a body keeps nobody else out."""

import asyncio
from collections.abc import Awaitable

from msgspec import Struct

from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.core.errors import Code, ServiceError
from eventboard.observability.metrics import Metrics
from eventboard.web.error_responses import RETRY_AFTER, EncodeError, send_error
from eventboard.web.transfers import Transfers

# Methods whose bodies are never read.
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})

# The limit's name in the metric of rejections.
TIMEOUT = "body-timeout"


class BodyLimits(Struct, frozen=True):
    """Bytes of a body with an `Authorization` header and without one, and the seconds in which it has to arrive."""

    authorized: int
    anonymous: int
    timeout: float


class RequestBodyMiddleware:
    """The application gets each body whole, in one message, and none that is too large."""

    def __init__(
        self, app: App, limits: BodyLimits, transfers: Transfers, encode_error: EncodeError, metrics: Metrics
    ) -> None:
        self._app = app
        self._limits = limits
        self._transfers = transfers
        self._encode_error = encode_error
        self._timed_out = metrics.rejected.labels(TIMEOUT)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] in WITHOUT_BODY:
            return self._app(scope, receive, send)
        length, most = self._length_and_limit(scope)
        if length == 0:
            return self._app(scope, receive, send)
        return self._with_body(scope, receive, send, length, most)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, length: int | None, most: int) -> None:
        try:
            if length is not None and length > most:
                raise self._too_large(most)
            message = await self._receive_all(scope, receive, most)
        except ServiceError as error:
            # A client that is still sending a large body would lose the response with the connection.
            await send_error(send, self._encode_error, error, close=error.code is not Code.TOO_LARGE)
            return
        if message["type"] == "http.request":
            await self._app(scope, _receive_from(message, receive), send)

    def _length_and_limit(self, scope: Scope) -> tuple[int | None, int]:
        """The body's length, None if it comes in chunks, and the length that it may have."""
        length: int | None = 0
        most = self._limits.anonymous
        for name, value in scope["headers"]:
            if name == b"content-length" and length == 0:
                length = int(value) if value.isdigit() else None
            elif name == b"transfer-encoding":
                length = None
            elif name == b"authorization":
                most = self._limits.authorized
        return length, most

    def _too_large(self, most: int) -> ServiceError:
        anonymous = most == self._limits.anonymous != self._limits.authorized
        where = " in a request without an Authorization header" if anonymous else ""
        return ServiceError(Code.TOO_LARGE, f"A body may have at most {most} bytes{where}.")

    async def _receive_all(self, scope: Scope, receive: Receive, most: int) -> Message:
        """The whole body, or `http.disconnect`. Raises `too-large`, `request-timeout` and `unavailable`."""
        try:
            async with asyncio.timeout(self._limits.timeout) as limit:
                with self._transfers.transfer(scope, limit) as transfer:
                    body = bytearray()
                    while True:
                        message = await receive()
                        body += message.get("body", b"")
                        if len(body) > most:
                            raise self._too_large(most)
                        if not message.get("more_body", False):
                            return {**message, "body": bytes(body)}
                        self._transfers.resize(transfer, len(body))
        except TimeoutError:
            if not limit.expired():
                raise
            if transfer.dropped:
                raise ServiceError(
                    Code.UNAVAILABLE,
                    "Too many requests are being sent at once, and this one took longest to arrive.",
                    retry_after=RETRY_AFTER,
                    shed=True,
                ) from None
            self._timed_out.inc()
            raise ServiceError(
                Code.REQUEST_TIMEOUT,
                f"The body did not arrive within {self._limits.timeout:g} s. Nothing was done: send it again.",
                shed=True,
            ) from None


def _receive_from(message: Message, receive: Receive) -> Receive:
    """Returns `message` once, and then what `receive` returns."""
    messages = [message]

    async def receive_next() -> Message:
        return messages.pop() if messages else await receive()

    return receive_next
