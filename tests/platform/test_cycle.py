"""Answers on their way out: to the byte what uvicorn writes, whatever an application says."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn

from eventboard.platform.asgi import Message, Receive, Scope, Send
from eventboard.platform.connections import bounded
from tests.support.processes import PATIENCE

LENGTH = (b"content-length", b"4")
TEXT = (b"content-type", b"text/plain")


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(piece: bytes = b"told", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more}


END: Message = {"type": "http.response.body"}

ANSWERS: dict[str, Sequence[Message]] = {
    "in one piece": [start(TEXT, LENGTH), body()],
    "an error": [start(TEXT, LENGTH, status=503), body()],
    "no phrase": [start(TEXT, LENGTH, status=599), body()],
    "empty": [start((b"content-length", b"0")), body(b"")],
    "without a body of its own": [start((b"content-length", b"0")), END],
    "no content": [start(status=204), END],
    "not modified": [start((b"etag", b'"1"'), status=304), END],
    "without a length": [start(TEXT), body()],
    "in two pieces": [start(LENGTH), body(b"to", more=True), body(b"ld")],
    "in two pieces, without a length": [start(), body(b"to", more=True), body(b"ld")],
    "whole, and then its end": [start(LENGTH), body(more=True), END],
    "in chunks": [start((b"transfer-encoding", b"chunked")), body()],
    "names with capitals": [start((b"Content-Type", b"text/plain"), (b"Content-Length", b"4")), body()],
    "the same header twice": [start(LENGTH, (b"set-cookie", b"a"), (b"set-cookie", b"b")), body()],
    "the last of its connection": [start(LENGTH, (b"connection", b"close")), body()],
    "the last, with capitals": [start(LENGTH, (b"Connection", b"Close")), body()],
    "too short": [start((b"content-length", b"5")), body()],
    "too long": [start((b"content-length", b"3")), body()],
    "a length that is no number": [start((b"content-length", b"x")), body()],
    "a tab in a value": [start(LENGTH, (b"x", b"a\tb")), body()],
    "more than ASCII": [start(LENGTH, (b"x", "ä".encode())), body()],
    "a line's end in a value": [start(LENGTH, (b"x", b"a\r\nset-cookie: b")), body()],
    "a line feed in a value": [start(LENGTH, (b"x", b"a\nset-cookie: b")), body()],
    "a line's end in a name": [start(LENGTH, (b"x\r\ny", b"a")), body()],
    "a blank in a name": [start(LENGTH, (b"x y", b"a")), body()],
    "a colon in a name": [start(LENGTH, (b"x:y", b"a")), body()],
    "half of a line's end in each": [start(LENGTH, (b"x", b"a\r"), (b"y", b"\nb")), body()],
    "NUL in a value": [start(LENGTH, (b"x", b"a\0")), body()],
    "DEL in a value": [start(LENGTH, (b"x", b"a\x7f")), body()],
    "nothing": [],
    "a body first": [body()],
    "two beginnings": [start(LENGTH), start(LENGTH), body()],
    "two beginnings of nothing": [start((b"content-length", b"0")), start((b"content-length", b"0")), END],
    "two answers": [start(LENGTH), body(), start(LENGTH), body()],
}
REQUESTS = {
    "kept": b"GET / HTTP/1.1\r\nhost: test\r\n\r\n",
    "not kept": b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "without its body": b"HEAD / HTTP/1.1\r\nhost: test\r\n\r\n",
    "with a body": b"POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
}
LAST = b"GET /last HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"


class Saying:
    """An application that says this, but to the last request of a connection, which is answered well."""

    messages: Sequence[Message] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await receive()
        for message in self.messages if scope["path"] == "/" else (start(LENGTH), body()):
            await send({**message, **({"headers": list(message["headers"])} if "headers" in message else {})})


@asynccontextmanager
async def served(app: Saying, **how: Any) -> AsyncIterator[int]:
    """The port that it is served at."""
    settings = {"log_config": None, "access_log": False, "date_header": False, "lifespan": "off"}
    config = uvicorn.Config(cast("Any", app), **cast("Any", {**settings, **how}))
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup([listener])
        try:
            yield listener.getsockname()[1]
        finally:
            await server.shutdown([listener])


async def answered(port: int, request: bytes) -> bytes:
    """All that is said to this request, and to another one after it on the same connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request + LAST)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("messages", ANSWERS.values(), ids=ANSWERS)
async def test_as_uvicorn(messages: Sequence[Message]) -> None:
    """Whatever is asked, and however it goes wrong: the same bytes, and the same end of the connection."""
    app = Saying()
    app.messages = messages
    async with served(app, http="httptools") as theirs, served(app, http=bounded(most=65536)) as ours:
        for name, request in REQUESTS.items():
            assert await answered(ours, request) == await answered(theirs, request), name
