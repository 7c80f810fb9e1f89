"""One client's connection: uvicorn's protocol, with the bounds that it leaves to a proxy.

Nothing is timed on a request's way. The server looks at all connections now and then (`look`), and what hasn't moved on
since an earlier look is cut.
"""

import socket
import struct
from typing import Any

from loguru import logger
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# Bytes that a client has to take within its time, of an answer that it hasn't taken whole: as much as a kernel buffers.
LEAST_TAKEN = 65_536
# To linger for no time: closing is a reset.
RESET = struct.pack("ii", 1, 0)
_REFUSALS = {408: "The request took too long to come.", 431: "The request's line and headers are too large."}


# Headers that say how an answer goes over the wire: what they mean is uvicorn's to know.
_UNCOMMON = frozenset({b"connection", b"transfer-encoding"})
# No value may have them; ends of lines are counted.
_CONTROL = bytes({*range(32), 127} - set(b"\t\r\n"))


class Cycle(RequestResponseCycle):
    """A request and its answer, which is written at once where it has a length and comes in one piece, as ours do.

    uvicorn looks at each name and each value with a regular expression; here all of them are looked at as one.
    """

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


class HeadersTooLargeError(Exception):
    """Raised for the parser, which turns it into an error of its own."""


class Connection(HttpToolsProtocol):
    """`most` bytes may a request's line and headers have; more is 431."""

    most: int

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Whether the request that began last is here, and its headers are; how many have begun.
        self._whole = self._headed = True
        self._begun = 0
        # Bytes: of the newest piece; of the piece in which the request began, and of all since, that one included.
        self._piece = self._first = self._fed = 0
        self._status = 400
        # What an earlier look has seen: the request that wasn't whole, the bytes that weren't taken, and when.
        self._late: tuple[int, float] | None = None
        self._untaken: tuple[int, float] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Also before the first request: uvicorn would wait for it for ever.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        # Line ends between requests begin none, and aren't nothing either: until a request is whole, its time runs.
        self._whole = False
        self._piece = len(data)
        self._fed += self._piece
        super().data_received(data)
        if not self._headed and self._fed - self._first > self.most and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun += 1
        self._headed = False
        self._first = self._fed = self._piece

    def on_headers_complete(self) -> None:
        # A piece may hold more than one request: only then is it worth counting.
        if self._fed > self.most and self._size_of_head() > self.most:
            self._status = 431
            raise HeadersTooLargeError
        self._headed = True
        super().on_headers_complete()
        # Its task hasn't begun yet; uvicorn has no setting for its class.
        if self.cycle is not None:
            self.cycle.__class__ = Cycle

    def on_message_complete(self) -> None:
        self._whole = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, with another status where there is a better one."""
        text = _REFUSALS.get(self._status, msg).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[self._status] + head + b"\r\n" + text)
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
        elif self._untaken is None or abs(self._untaken[0] - untaken) >= LEAST_TAKEN:
            self._untaken = (untaken, now)
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


def bounded(*, most: int) -> type[Connection]:
    """uvicorn wants a class, and makes its objects itself."""

    class Bounded(Connection):
        pass

    Bounded.most = most
    return Bounded
