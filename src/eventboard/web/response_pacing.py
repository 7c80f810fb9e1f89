"""Sends large responses in small pieces, each when the client has taken those before, and limits how many wait.

`send` of an ASGI server waits while a connection's buffer is full, but accepts whatever is in one message.
"""

import asyncio
from collections.abc import Awaitable

from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.web.transfers import Transfers

# Bytes of one message. A connection's buffer holds this much above its high-water mark, which is 64 KiB.
PIECE = 32_768


class ResponsePacingMiddleware:
    """A response that `transfers` drops ends before its end, with its connection."""

    def __init__(self, app: App, transfers: Transfers) -> None:
        self._app = app
        self._transfers = transfers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        start: Message | None = None
        dropped = False

        async def send_paced(message: Message) -> None:
            nonlocal start, dropped
            if message["type"] == "http.response.start":
                # Sent with the first piece of the body, so that the limits are checked once.
                start = message
                return
            head, start = start, None
            if head is not None and len(message.get("body", b"")) <= PIECE and not message.get("more_body", False):
                # Small and complete, as most are: a connection's buffer holds it.
                await send(head)
                await send(message)
            elif not dropped:
                dropped = not await self._send_in_pieces(scope, send, head, message)

        return self._app(scope, receive, send_paced)

    async def _send_in_pieces(self, scope: Scope, send: Send, head: Message | None, message: Message) -> bool:
        """False if it was dropped."""
        body: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        try:
            async with asyncio.timeout(None) as limit:
                with self._transfers.transfer(scope, limit) as transfer:
                    if head is not None:
                        await send(head)
                    for begin in range(0, len(body) or 1, PIECE):
                        if len(body) > PIECE:
                            # The whole body is in memory until its last piece is sent.
                            self._transfers.resize(transfer, len(body), moved=True)
                        last = begin + PIECE >= len(body)
                        piece = body[begin : begin + PIECE]
                        await send({"type": "http.response.body", "body": piece, "more_body": more or not last})
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True
