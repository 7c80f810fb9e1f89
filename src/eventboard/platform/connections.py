"""One client's connection: uvicorn's protocol, with the bounds that it leaves to a proxy.

Nothing is timed on a request's way. The server looks at all connections now and then (`look`), and what hasn't moved on
since an earlier look is cut.
"""

import socket
import struct
from typing import Any

import httptools
from loguru import logger
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# Bytes that a client has to take within its time, of an answer that it hasn't taken whole: as much as a kernel buffers.
LEAST_TAKEN = 65_536
# Requests of one connection that may wait for the answers to those before them.
MOST_WAITING = 256
# Bytes on the wire for one of a body, which may come in chunks of one; with more, it is something else that is sent.
MOST_CHUNKED = 16
# To linger for no time: closing is a reset.
RESET = struct.pack("ii", 1, 0)
_REFUSALS = {
    400: "This is no HTTP request.",
    408: "The request took too long to come.",
    429: "Too many requests wait for the answers to those before them.",
    431: "The request's line and headers are too large.",
}


# Headers that say how an answer goes over the wire: what they mean is uvicorn's to know.
_UNCOMMON = frozenset({b"connection", b"transfer-encoding"})
# Headers that say how long a body is.
_LENGTHS = (b"content-length", b"transfer-encoding")
# No value may have them; ends of lines are counted.
_CONTROL = bytes({*range(32), 127} - set(b"\t\r\n"))


class Cycle(RequestResponseCycle):
    """A request and its answer, which is written at once where it has a length and comes in one piece, as ours do.

    uvicorn looks at each name and each value with a regular expression; here all of them are looked at as one.
    """

    flow: "Flow"
    # What was said of an answer whose body is to come.
    _head = b""

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._head = self._head_of(message)
            if self._head:
                self.response_started = True
                self.waiting_for_100_continue = self.chunked_encoding = False
                return
        elif self._head:
            head, self._head = self._head, b""
            body = message.get("body", b"")
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and len(body) == self.expected_content_length:
                self.transport.write(head + body)
                self.flow.written += len(head) + len(body)
                self._complete()
                return
            self.transport.write(head)
        await super().send(message)

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head_of(self, message: Any) -> bytes:
        """As it goes over the wire; b"" for what is out of the ordinary."""
        if message["type"] != "http.response.start" or self.scope["method"] == "HEAD" or not self.keep_alive:
            return b""
        headers = [*self.default_headers, *message["headers"]]
        length = dict(headers).get(b"content-length", b"")
        try:
            lines = [_BEGINS[name] + value for name, value in headers]
        except KeyError:
            return b""
        head = STATUS_LINE[message["status"]] + b"\r\n".join([*lines, b""])
        # The end of a line inside of one would begin another header, or another answer.
        ends = len(headers) + 1
        plain = head.count(b"\r") == head.count(b"\n") == ends and len(head.translate(None, _CONTROL)) == len(head)
        if not plain or not length.isdigit():
            return b""
        self.expected_content_length = int(length)
        return head + b"\r\n"


class _Begins(dict[bytes, bytes]):
    """Of headers' lines, by their names. Raises KeyError for a name that is uncommon, or none."""

    MOST = 256

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        if lower in _UNCOMMON or HEADER_RE.search(name):
            raise KeyError(name)
        if len(self) < self.MOST:
            self[name] = lower + b": "
        return lower + b": "


_BEGINS = _Begins()


class Flow(FlowControl):
    # Bytes of answers in one piece, taken or not.
    written = 0


class RefusedError(Exception):
    """Raised for the parser, which turns it into an error of its own."""


class _Dropped(list[tuple[bytes, bytes]]):
    """Trailers: they are no headers (RFC 9110, section 6.5.1), and nobody here asks for one."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS = _Dropped()


class Connection(HttpToolsProtocol):
    """`most` bytes may a request's line and headers have; more is 431."""

    most: int
    flow: Flow

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Whether the request that began last is here, and its headers are; how many have begun.
        self._whole = self._headed = True
        self._begun = 0
        # How many have begun to be served, or wait for that, and aren't answered.
        self._unanswered = 0
        # Bytes: of the newest piece; of the piece in which the request began, and of all since, that one included; of
        # its body.
        self._piece = self._first = self._fed = self._body = 0
        self._status = 400
        # What is said, and nothing after it, when those before it are answered.
        self._last_words = b""
        # What an earlier look has seen: the request that wasn't whole, the bytes that were taken, and when.
        self._late: tuple[int, float] | None = None
        self._untaken: tuple[int, float] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # uvicorn has no setting for its class.
        self.flow.__class__ = Flow
        # Also before the first request: uvicorn would wait for it for ever.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        if self._last_words:
            return
        # Line ends between requests begin none, and aren't nothing either: until a request is whole, its time runs.
        self._whole = False
        self._piece = len(data)
        self._fed += self._piece
        self._unset_keepalive_if_required()
        self._feed(data)
        self._bound()

    def _bound(self) -> None:
        """To the headers, and to what comes beside a body, as trailers: the parser holds each until it is whole."""
        if self._whole or self._last_words or self.transport.is_closing():
            return
        if self._fed - self._first - MOST_CHUNKED * self._body > self.most:
            self._refuse(431)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _stay(self, rest: bytes) -> None:
        """Nobody has to take the offer of another protocol (RFC 9110, section 7.8): this one goes on.

        The parser takes the body for the other protocol's; another parser reads it, and whatever comes after it.
        """
        if self.scope["method"] == "CONNECT":
            # What comes is for somebody else.
            self.cycle.keep_alive = False
            return
        length = [(name, value) for name, value in self.scope["headers"] if name in _LENGTHS]
        head = b""
        if length:
            head = b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(b"%s: %s\r\n" % header for header in length)
            self._whole, self.cycle.more_body = False, True
        self.parser = httptools.HttpRequestParser(_Body(self) if length else self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head + rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun += 1
        self._whole = self._headed = False
        self._first = self._fed = self._piece
        self._body = 0

    def on_headers_complete(self) -> None:
        # A piece may hold more than one request: only then is it worth counting.
        if self._fed > self.most and self._size_of_head() > self.most:
            self._status = 431
            raise RefusedError
        if len(self.pipeline) >= MOST_WAITING:
            self._status = 429
            raise RefusedError
        super().on_headers_complete()
        self._headed = True
        self._unanswered += 1
        self.headers = _TRAILERS
        # Its task hasn't begun yet; uvicorn has no setting for its class.
        self.cycle.__class__ = Cycle

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._whole = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unanswered -= 1
        if self.transport.is_closing():
            return
        if self._last_words and not self._unanswered:
            self.transport.write(self._last_words)
            self.transport.close()
        elif self._last_words or self.pipeline:
            # uvicorn reads on, and lets more and more wait.
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, with another status where there is a better one, and after the answers to what was sent before."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._headed and cycle is not None and cycle.more_body:
            # Its own body is broken. It is being served, where none is before it, or never will be.
            if cycle.response_started:
                self.transport.close()
                return
            if self.pipeline:
                self.pipeline.popleft()
            self._unanswered -= 1
        logger.info("a client is refused: {}", _REFUSALS[self._status])
        text = _REFUSALS[self._status].encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        answer = STATUS_LINE[self._status] + head + b"\r\n" + text
        if self._unanswered:
            self._last_words = answer
            self.flow.pause_reading()
        else:
            self.transport.write(answer)
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        # Who hasn't taken the last answer by now would keep a connection that waits for it from ever closing.
        if self.transport.get_write_buffer_size():
            self._reset()
        else:
            super().timeout_keep_alive_handler()

    def look(self, now: float, *, patience: float) -> None:
        """Cuts a client that has been sending one request, or taking one answer, for `patience` seconds."""
        untaken = self.transport.get_write_buffer_size()
        if not untaken:
            self._untaken = None
        elif self._untaken is None or abs(self.flow.written - untaken - self._untaken[0]) >= LEAST_TAKEN:
            self._untaken = (self.flow.written - untaken, now)
        elif now - self._untaken[1] > patience:
            logger.info("a client is cut: it doesn't take its answer")
            self._reset()
            return
        # What isn't read from it, for what came before is being worked at, isn't for it to hurry with.
        if self._whole or self.flow.read_paused or self.transport.is_closing():
            self._late = None
        elif self._late is None or self._late[0] != self._begun:
            self._late = (self._begun, now)
        elif now - self._late[1] > patience:
            self._cut()

    def _cut(self) -> None:
        logger.info("a client is cut: its request takes too long to come")
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self._refuse(408)
        else:
            self.transport.close()

    def _reset(self) -> None:
        """At once: the kernel, too, throws away what it holds for somebody who doesn't take it."""
        found = self.transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        self._status = status
        self.send_400_response("")

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


class _Body:
    """A parser's protocol, of a request whose head the connection knows: tells it the body, and all after it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._past_head = False

    def on_message_begin(self) -> None:
        if self._past_head:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._past_head:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._past_head:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._past_head:
            self._connection.on_headers_complete()
        self._past_head = True

    def on_body(self, body: bytes) -> None:
        self._connection.on_body(body)

    def on_message_complete(self) -> None:
        self._connection.on_message_complete()


def bounded(*, most: int) -> type[Connection]:
    """uvicorn wants a class, and makes its objects itself."""

    class Bounded(Connection):
        pass

    Bounded.most = most
    return Bounded
