"""Where the time of a request goes: its spans, in the trace of W3C Trace Context that it belongs to.

Every request is recorded, so this is on everybody's way and does little: a span is one tuple in a list, and a request
that has ended some hundred bytes. What shows or exports them reads those, later
(docs/decisions/0012-spans-as-tuples.md).
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from eventboard.platform.context import Ids
from eventboard.platform.errors import ServiceError

# What a span is called, in the tree and in exports.
GATEWAY = "Gateway"
JWT = "JWT validation"
STANDING = "Wait for auth's word"
CALL = "Route to service"
ATTEMPT = "Attempt"
WAIT = "Wait"
CONNECTION = "Database connection"
BEGIN = "Database begin"
QUERY = "Database query"
COMMIT = "Database commit"
IDEMPOTENCY = "Idempotency check"
RECORD = "Idempotency record"
FIRST = "Wait for the first request"
PASSWORD = "Password hash"  # noqa: S105 - the name of a span
SERIALIZATION = "Response serialization"
# What the name of a module's work ends with.
SERVICE = " Service"


# What Server-Timing calls them. A service is called by its name: "Events Service" is events.
_TIMINGS = {
    JWT: "jwt",
    CALL: "call",
    WAIT: "wait",
    CONNECTION: "db",
    BEGIN: "db",
    QUERY: "db",
    COMMIT: "db",
    IDEMPOTENCY: "idempotency",
    RECORD: "idempotency",
    FIRST: "idempotency",
    PASSWORD: "hash",
    SERIALIZATION: "serialize",
}

# A later version may say more after the flags (W3C Trace Context, section 4.3); ids of zeros alone are invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
SAMPLED = 1
# The last seven bytes of a trace id, which are random throughout (W3C Trace Context, level 2).
_CHANCE = (1 << 56) - 1

now = time.perf_counter

# Spans of one request; a request that waits and looks for its whole budget has some two hundred. Of a reply's, which
# cross in a header, fewer.
MOST = 256
MOST_IN_REPLY = 64
# Seconds: less is told as 0.0 milliseconds, or not at all.
LEAST_TOLD = 0.00005

# Number, its parent's number, name, begin and end on time.perf_counter()'s clock, detail, and what it failed with.
# Tuples of such values are of no concern to the garbage collector.
Recorded = tuple[int, int, str, float, float, str, str]
# The same on the wire: the times are microseconds from the begin of number 0, which is the reply's whole.
_Crossing = tuple[int, int, str, int, int, str, str]
_read_reply = msgspec.json.Decoder(list[_Crossing]).decode
_write_reply = msgspec.json.Encoder().encode

_current: ContextVar["Trace | None"] = ContextVar("eventboard_trace", default=None)


class Parent(Struct, frozen=True, gc=False):
    """The span, in another process, that a request comes from."""

    trace_id: str
    span_id: int
    flags: int


class Trace(Struct, array_like=True, gc=False):
    """What one process knows of one request. `spans` are those that have ended; `remote` came back with replies.

    `trace_id` is in hexadecimal. `parent` is the id of the span that it comes from, 0 is none. `at` is in Unix seconds,
    `begun` the same moment on now()'s clock. `name`, `detail` and `failure` are of the whole, which is span number 0;
    `inside` is the number of the span that is under way. A request does one thing after another: what it did side by
    side would be told as one inside of the other.
    """

    correlation_id: str
    trace_id: str
    parent: int
    flags: int
    first_id: int
    name: str
    at: float
    begun: float
    spans: list[Recorded]
    remote: list[Recorded]
    count: int = 0
    inside: int = 0
    detail: str = ""
    failure: str = ""
    method: str = ""
    route: str = ""
    status: int = 0

    def id_of(self, number: int) -> int:
        """The id of a span that this process recorded."""
        return self.first_id + number


# A kept trace as objects would be some fifty of them, cold when their memory is used again: that alone takes as long
# as recording them.
packed = msgspec.msgpack.Encoder().encode
unpacked = msgspec.msgpack.Decoder(Trace).decode


class Span(Struct):
    """A stretch of a request; what begins inside is its child. Outside any request it does nothing.

    `detail` and names are ASCII, and hold nothing of what was sent or stored.
    """

    name: str
    detail: str = ""
    trace: Trace | None = None
    number: int = 0
    parent: int = 0
    begun: float = 0.0

    def __enter__(self) -> Self:
        trace = _current.get()
        if trace is not None and trace.count < MOST:
            self.trace = trace
            self.parent = trace.inside
            trace.inside = trace.count = self.number = trace.count + 1
            self.begun = now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        trace = self.trace
        if trace is not None:
            ended = now()
            trace.inside = self.parent
            failure = "" if kind is None else _failure(kind, error)
            trace.spans.append((self.number, self.parent, self.name, self.begun, ended, self.detail, failure))

    def traceparent(self) -> str:
        """What a call that leaves from here says; "" outside a request."""
        trace = self.trace
        return "" if trace is None else f"00-{trace.trace_id}-{trace.id_of(self.number):016x}-{trace.flags:02x}"

    def adopt(self, reply: str | None) -> None:
        """Takes in the spans that came back with a reply to this one; what can't be read is left alone."""
        trace = self.trace
        if not reply or trace is None or trace.count + MOST_IN_REPLY > MOST:
            return
        try:
            spans = _read_reply(reply)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        whole = max((ended for _, _, _, _, ended, _, _ in spans), default=0) / 1e6
        # Two machines' clocks need not agree: what was not there was spent in equal parts on the way there and back.
        begun = self.begun + max(0.0, now() - self.begun - whole) / 2
        first = trace.count + 1
        trace.count += MOST_IN_REPLY
        for number, parent, name, start, end, detail, failure in spans[:MOST_IN_REPLY]:
            inside = first + parent if number else self.number
            times = begun + start / 1e6, begun + end / 1e6
            trace.remote.append((first + number, inside, name, *times, detail, failure))


class Leaf(Struct):
    """A span with nothing inside: it takes half as long."""

    name: str
    detail: str = ""
    begun: float = 0.0

    def __enter__(self) -> None:
        self.begun = now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        since(self.begun, self.name, self.detail, error)


def since(begun: float, name: str, detail: str = "", error: BaseException | None = None, *, least: float = 0.0) -> None:
    """A span with nothing inside that ends now and began at `begun`, on now()'s clock; a Leaf takes twice as long.

    Less than `least` seconds aren't recorded.
    """
    ended = now()
    if ended - begun < least:
        return
    trace = _current.get()
    if trace is None or trace.count >= MOST:
        return
    trace.count = number = trace.count + 1
    failure = "" if error is None else _failure(type(error), error)
    trace.spans.append((number, trace.inside, name, begun, ended, detail, failure))


def _failure(kind: type[BaseException], error: BaseException | None) -> str:
    return error.code.value if isinstance(error, ServiceError) else kind.__name__


class Recorder:
    """Begins and ends the traces of a process, and keeps the last `keep` of them.

    `name` is that of the whole request here. `ratio` of the traces that begin here are sampled; `export` is given each
    sampled one, packed, when it has ended.
    """

    def __init__(
        self, name: str, *, keep: int, ratio: float = 0.0, export: Callable[[bytes], None] | None = None
    ) -> None:
        self._name = name
        self._kept: deque[bytes] = deque(maxlen=keep)
        # Of the traces that begin here, those whose id's last digits are below it are sampled.
        self._bound = int(ratio * (_CHANCE + 1)) if export else 0
        self._export = export

    def begin(self, correlation_id: str, traceparent: str, ids: Ids, begun: float) -> Trace:
        """Of a request that `end` ends. `ids` are its alone; `begun` is on now()'s clock."""
        number = ids.number
        parent = parsed(traceparent) if traceparent else None
        if parent is None:
            trace_id, above, flags = ids.trace_id, 0, SAMPLED if number & _CHANCE < self._bound else 0
        else:
            trace_id, above, flags = parent.trace_id, parent.span_id, parent.flags
        # Room above for the numbers of its spans; and it isn't zero, as a version is in it.
        first_id = number >> 65
        trace = Trace(correlation_id, trace_id, above, flags, first_id, self._name, time.time(), begun, [], [])
        _current.set(trace)
        return trace

    def end(self, trace: Trace, method: str, route: str, status: int, ended: float, *, keep: bool) -> None:
        """`route` is the template of the path, and no path; `keep` is for requests that somebody may ask about."""
        _current.set(None)
        if not keep:
            return
        trace.method, trace.route, trace.status = method, route, status
        trace.spans.append((0, -1, trace.name, trace.begun, ended, trace.detail, trace.failure))
        told = packed(trace)
        self._kept.append(told)
        if self._export is not None and trace.flags & SAMPLED:
            self._export(told)

    def find(self, correlation_id: str) -> list[Trace]:
        """Those that are kept, the oldest first: a client may use one correlation id for many requests."""
        wanted = correlation_id.encode()
        found = [unpacked(told) for told in self._kept if wanted in told]
        return [trace for trace in found if trace.correlation_id == correlation_id]


@lru_cache(maxsize=1)  # it is checked where it comes in, and read where the trace begins
def parsed(traceparent: str) -> Parent | None:
    """None for what isn't a valid `traceparent`, of this version or a later one."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    return Parent(match["trace"], int(match["span"], 16), int(match["flags"], 16) & SAMPLED)


def trace_id() -> str:
    """Of the request that is under way, in hexadecimal; "" outside one."""
    trace = _current.get()
    return "" if trace is None else trace.trace_id


@contextmanager
def apart() -> Iterator[None]:
    """What runs inside is no part of the request."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def be(name: str, detail: str) -> None:
    """Says what the whole of this request is, where that isn't known when it begins."""
    trace = _current.get()
    if trace is not None:
        trace.name, trace.detail = name, detail


def failed(code: str) -> None:
    """Says what the whole of this request came to, where no exception does."""
    trace = _current.get()
    if trace is not None:
        trace.failure = code


@cache
def service(module: str) -> str:
    """What the span of a module's work is called."""
    return module.title() + SERVICE


def reply() -> bytes:
    """The spans so far, to go back with the reply; b"" outside a request."""
    trace = _current.get()
    if trace is None:
        return b""
    origin = trace.begun
    spans = [(0, -1, trace.name, 0, int((now() - origin) * 1e6), trace.detail, trace.failure)]
    for number, parent, name, begun, ended, detail, failure in trace.spans[: MOST_IN_REPLY - 1]:
        spans.append((number, parent, name, int((begun - origin) * 1e6), int((ended - origin) * 1e6), detail, failure))
    return _write_reply(spans)


def server_timing(trace: Trace, *, parts: bool) -> bytes:
    """The value of Server-Timing: what of the request was spent on what, in milliseconds. `parts`: not the whole alone.

    A name has the sum of its spans; one is inside another, so they don't add up to the whole.
    """
    tenths = int((now() - trace.begun) * 10_000 + 0.5)
    told = _GATEWAY[tenths] if tenths < _MOST_TENTHS else _long("gateway", tenths)
    if not parts:
        return told
    sums: dict[str, float] = {}
    for span in trace.spans + trace.remote if trace.remote else trace.spans:
        took = span[4] - span[3]
        if took >= LEAST_TOLD:
            name = span[2]
            label = _LABELS[name] if name in _LABELS else _label(name)
            sums[label] = sums[label] + took if label in sums else took
    for label, seconds in sums.items():
        if label:
            tenths = int(seconds * 10_000 + 0.5)
            told += _PARTS[label][tenths] if tenths < _MOST_TENTHS else b", " + _long(label, tenths)
    return told


# Tenths of milliseconds that are told of in texts made before: formatting a number takes as long as all the rest.
_MOST_TENTHS = 500


def _long(label: str, tenths: int) -> bytes:
    return b"%s;dur=%d.%d" % (label.encode(), *divmod(tenths, 10))


def _short(label: str) -> list[bytes]:
    return [_long(label, tenths) for tenths in range(_MOST_TENTHS)]


_GATEWAY = _short("gateway")
_PARTS = {label: [b", " + told for told in _short(label)] for label in _TIMINGS.values()}
# By the span's name. A name that isn't here came back with the reply of a service.
_LABELS = dict(_TIMINGS)
_MOST_LABELS = 64


def _label(name: str) -> str:
    """The empty text where the name is told of nothing; so are all, once there are more than any code has."""
    label = name.removesuffix(SERVICE).lower() if name.endswith(SERVICE) else ""
    if len(_LABELS) >= _MOST_LABELS:
        return ""
    if label not in _PARTS and label:
        _PARTS[label] = [b", " + told for told in _short(label)]
    _LABELS[name] = label
    return label
