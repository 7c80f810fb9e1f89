"""Serves requests that offer another protocol, as Java's HttpClient (`Upgrade: h2c`) and `curl --http2` send them.

A server may ignore the offer (RFC 9110, section 7.8). Of uvicorn's parsers httptools is the fast one, but it takes the
body of such a request for the other protocol's (https://github.com/Kludex/uvicorn/issues/2722). h11 reads it as the
body. So each connection gets the parser that fits its first request.
"""

import asyncio
import logging
import re
from typing import Any, cast

import uvicorn

from eventboard.core.asgi import App, Receive, Scope, Send

# The end of a head, and the header of an offer in it.
_END = b"\r\n\r\n"
_OFFER = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
# The beginning of a head that has more to come. httptools answers anything else with 400.
_BEGINNING = re.compile(rb"[A-Z]{1,16}( |$)")
# Bytes after which a head without an end isn't waited for. h11 takes heads of this length.
LONGEST_HEAD = 32_768
# uvicorn's warnings about each offer.
_WARNINGS = ("Unsupported upgrade request.", "No supported WebSocket library detected.")


def ignore_offers(app: App, **options: Any) -> Any:
    """A value for uvicorn's option `http`; `options` are uvicorn's others, for both parsers."""
    httptools = uvicorn.Config(cast("Any", app), http="httptools", **options)
    ignoring: Any = _without_offer(app)
    h11 = uvicorn.Config(ignoring, http="h11", h11_max_incomplete_event_size=LONGEST_HEAD, **options)
    httptools.load()
    h11.load()
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_WARNINGS))

    def protocol(config: uvicorn.Config, **of_server: Any) -> asyncio.Protocol:  # noqa: ARG001 - each parser has its own
        return _FirstHead(httptools, h11, of_server)

    return protocol


def _without_offer(app: App) -> App:
    async def ignoring(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"upgrade"]
        await app(scope, receive, send)

    return ignoring


class _FirstHead(asyncio.Protocol):
    """Reads a connection until it knows which parser fits, which has the connection from then on.

    It is httptools' from the beginning, so that a connection without a request ends when the server does.
    """

    def __init__(self, httptools: uvicorn.Config, h11: uvicorn.Config, of_server: dict[str, Any]) -> None:
        self._of_server = of_server
        self._h11 = h11
        self._parser = self._parser_of(httptools)
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._begun += data
        head, end, _ = self._begun.partition(_END)
        if not end and len(head) < LONGEST_HEAD and _BEGINNING.match(head):
            return
        if _OFFER.search(head):
            # To httptools the connection is over.
            self._parser.connection_lost(ConnectionAbortedError())
            self._parser = self._parser_of(self._h11)
            self._parser.connection_made(self._transport)
        self._transport.set_protocol(self._parser)
        self._parser.data_received(self._begun)

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser.connection_lost(exc)

    def _parser_of(self, config: uvicorn.Config) -> asyncio.Protocol:
        return config.http_protocol_class(config=config, **self._of_server)  # type: ignore[call-arg]  # as uvicorn calls it
