"""Where the time of a request goes: its spans, in the trace of W3C Trace Context that it belongs to.

Every request is recorded, so this is on everybody's way and does little: a span is one tuple in a list, and a request
that has ended some hundred bytes. What shows or exports them reads those, later
(docs/decisions/0012-spans-as-tuples.md).
"""

import re
import time
from collections import deque
from collections.abc import Callable
from functools import cache, lru_cache
from types import TracebackType
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from eventboard.platform.context import CHANCE, Ids, known
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

now = time.perf_counter

# Spans of one request; a request that waits and looks for its whole budget has some two hundred. Of a reply's, which
# cross in a header, fewer.
MOST = 256
MOST_IN_REPLY = 64
# Seconds: less is told as 0.0 milliseconds, or not at all.
LEAST_TOLD = 0.00005
# Seconds: who took so long is asked about.
SLOW = 0.1
# Seconds for which the trace of an ordinary request stays, once it is kept.
STAYS = 10.0
# Begins of paths that nobody asks about afterwards: there are many requests to them, and they would push out others.
_UNASKED = ("/health", "/metrics", "/debug")

# Name, begin and end on now()'s clock, detail, and what it failed with. Tuples of such values are of no concern to the
# garbage collector.
Recorded = tuple[str, float, float, str, str]
# The same on the wire: the times are microseconds from the begin of the last one, which is the reply's whole.
_Microseconds = Annotated[int, Meta(ge=0, le=1 << 53)]
_Crossing = tuple[str, _Microseconds, _Microseconds, str, str]
_read_reply = msgspec.json.Decoder(list[_Crossing]).decode
_write_reply = msgspec.json.Encoder().encode


class Parent(Struct, frozen=True, gc=False):
    """The span, in another process, that a request comes from."""

    trace_id: str
    span_id: int
    flags: int


class Trace(Struct, array_like=True, gc=False):
    """What one process knows of one request. `spans` are those that have ended, in that order; the last is the whole.

    `trace_id` is in hexadecimal. `parent` is the id of the span that it comes from, 0 is none. `at` is in Unix seconds,
    `begun` the same moment on now()'s clock. `name`, `detail` and `failure` are of the whole. `remote` are spans that
    came back with replies: their places in `spans`, from one to before another. `attempts` are calls that left.
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
    remote: tuple[tuple[int, int], ...] = ()
    attempts: int = 0
    detail: str = ""
    failure: str = ""
    method: str = ""
    route: str = ""
    status: int = 0

    def record(self, name: str, begun: float, ended: float, detail: str, error: BaseException | None = None) -> None:
        """A span that has ended, where there is room for it."""
        if len(self.spans) < MOST:
            failure = "" if error is None else _failure(error)
            self.spans.append((name, begun, ended, detail, failure))

    def tree(self) -> list[int]:
        """Of each span, once all have ended, the place of the one that it is inside of; of the whole it is -1.

        By their times: a request does one thing after another. What it did side by side may be told as one inside of
        the other.
        """
        spans, around = self.spans, [len(self.spans) - 1]
        parents = [-1] * len(spans)
        # From the last one, each comes before what is inside of it.
        for place in range(len(spans) - 2, -1, -1):
            _, begun, ended, _, _ = spans[place]
            while len(around) > 1 and not spans[around[-1]][1] <= begun <= ended <= spans[around[-1]][2]:
                around.pop()
            parents[place] = around[-1]
            around.append(place)
        return parents

    def ids(self) -> dict[int, int]:
        """The id of each span that this process recorded, by its place."""
        remote = {place for begin, end in self.remote for place in range(begin, end)}
        own = [place for place in range(len(self.spans)) if place not in remote]
        ids = {place: self.first_id + place for place in own}
        attempts = (place for place in own if self.spans[place][0] == ATTEMPT)
        return ids | {place: self.attempt_id(number + 1) for number, place in enumerate(attempts)}

    def attempt_id(self, number: int) -> int:
        """An attempt's id, which the service is told before its place is known."""
        return self.first_id + MOST + number


# A kept trace as objects would be some fifty of them, cold when their memory is used again: that alone takes as long
# as recording them.
packed = msgspec.msgpack.Encoder().encode
unpacked = msgspec.msgpack.Decoder(Trace).decode


class Span(Struct):
    """A stretch of a request. Outside any request it does nothing.

    `detail` and names are ASCII, and hold nothing of what was sent or stored.
    """

    name: str
    detail: str = ""
    trace: Trace | None = None
    begun: float = 0.0

    def __enter__(self) -> Self:
        self.trace = under_way()
        self.begun = now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.trace is not None:
            self.trace.record(self.name, self.begun, now(), self.detail, error)


class Attempt(Span):
    """A call that leaves this process."""

    def traceparent(self) -> str:
        """What it says of itself, once; "" outside a request."""
        trace = self.trace
        if trace is None:
            return ""
        trace.attempts += 1
        return f"00-{trace.trace_id}-{trace.attempt_id(trace.attempts):016x}-{trace.flags:02x}"

    def adopt(self, reply: str | None) -> None:
        """Takes in the spans that came back with a reply to this one; what can't be read is left alone."""
        trace = self.trace
        if not reply or trace is None or len(trace.spans) + MOST_IN_REPLY > MOST:
            return
        try:
            spans = _read_reply(reply)[-MOST_IN_REPLY:]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        arrived = now()
        whole = max((ended for _, _, ended, _, _ in spans), default=0) / 1e6
        # Two machines' clocks need not agree: what was not there was spent in equal parts on the way there and back.
        origin = self.begun + max(0.0, arrived - self.begun - whole) / 2
        first = len(trace.spans)
        for name, begun, ended, detail, failure in spans:
            begun_at = min(arrived, origin + begun / 1e6)
            ended_at = min(arrived, origin + max(begun, ended) / 1e6)
            trace.spans.append((name, begun_at, ended_at, detail, failure))
        trace.remote = (*trace.remote, (first, len(trace.spans)))


def since(begun: float, name: str, detail: str = "", error: BaseException | None = None, *, least: float = 0.0) -> None:
    """A span that ends now and began at `begun`, on now()'s clock; `with Span` takes twice as long.

    Less than `least` seconds aren't recorded.
    """
    ended = now()
    if ended - begun < least:
        return
    about = known()
    if about is None or about.trace is None:
        return
    # What `record` does: a call less for each query.
    spans = about.trace.spans
    if len(spans) < MOST:
        spans.append((name, begun, ended, detail, "" if error is None else _failure(error)))


def _failure(error: BaseException) -> str:
    """A code, or a class, and never what the error says."""
    return error.code.value if isinstance(error, ServiceError) else type(error).__name__


class Recorder:
    """Begins and ends the traces of a process, and keeps the last `keep` of them.

    Those that failed by our fault or took SLOW are kept by themselves, so many again: others don't push them out. Of
    others no more than `keep` are kept in STAYS, in which they would push each other out.

    `name` is that of the whole request here. `ratio` of the traces that begin here are sampled; `export` is given each
    sampled one, packed, when it has ended.
    """

    def __init__(
        self, name: str, *, keep: int, ratio: float = 0.0, export: Callable[[bytes], None] | None = None
    ) -> None:
        self._name = name
        self._keep = keep
        self._kept: deque[bytes] = deque(maxlen=keep)
        self._remarkable: deque[bytes] = deque(maxlen=keep)
        # How many more are kept until then, on now()'s clock.
        self._left, self._until = 0, 0.0
        # Of the traces that begin here, those whose id's last digits are below it are sampled.
        self._bound = int(ratio * (CHANCE + 1)) if export else 0
        self._export = export

    def begin(self, correlation_id: str, traceparent: str, ids: Ids, at: float, begun: float) -> Trace:
        """Of a request that `end` ends. `ids` are its alone; `at` is in Unix seconds, `begun` on now()'s clock."""
        parent = parsed(traceparent) if traceparent else None
        if parent is None:
            flags = SAMPLED if ids.chance < self._bound else 0
            return Trace(correlation_id, ids.trace_id, 0, flags, ids.first_id, self._name, at, begun, [])
        of = parent.trace_id, parent.span_id, parent.flags
        return Trace(correlation_id, *of, ids.first_id, self._name, at, begun, [])

    def end(self, trace: Trace, method: str, route: str, status: int, ended: float, path: str) -> None:
        """`route` is the path's template; the path itself isn't kept."""
        remarkable = status >= 500 or ended - trace.begun >= SLOW
        # First what most of many are.
        if not remarkable and not trace.flags and not self._left and ended < self._until:
            return
        if path.startswith(_UNASKED):
            return
        kept, export = self._kept, self._export if trace.flags & SAMPLED else None
        if remarkable:
            kept = self._remarkable
        elif ended >= self._until:
            self._left, self._until = self._keep - 1, ended + STAYS
        elif self._left > 0:
            self._left -= 1
        elif export is None:
            return
        trace.method, trace.route, trace.status = method, route, status
        trace.spans.append((trace.name, trace.begun, ended, trace.detail, trace.failure))
        told = packed(trace)
        kept.append(told)
        if export is not None:
            export(told)

    def find(self, correlation_id: str) -> list[Trace]:
        """Those that are kept, the oldest first: a client may use one correlation id for many requests."""
        wanted = correlation_id.encode()
        found = [unpacked(told) for told in (*self._kept, *self._remarkable) if wanted in told]
        return sorted((trace for trace in found if trace.correlation_id == correlation_id), key=lambda trace: trace.at)


@lru_cache(maxsize=1)  # it is checked where it comes in, and read where the trace begins
def parsed(traceparent: str) -> Parent | None:
    """None for what isn't a valid `traceparent`, of this version or a later one."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    return Parent(match["trace"], int(match["span"], 16), int(match["flags"], 16) & SAMPLED)


def under_way() -> Trace | None:
    """Of the request that this is part of; outside one there is none."""
    about = known()
    return None if about is None else about.trace


def trace_id() -> str:
    """Of the request that is under way, in hexadecimal; "" outside one."""
    trace = under_way()
    return "" if trace is None else trace.trace_id


def be(name: str, detail: str) -> None:
    """Says what the whole of this request is, where that isn't known when it begins."""
    trace = under_way()
    if trace is not None:
        trace.name, trace.detail = name, detail


def failed(code: str) -> None:
    """Says what the whole of this request came to, where no exception does."""
    trace = under_way()
    if trace is not None:
        trace.failure = code


@cache
def service(module: str) -> str:
    """What the span of a module's work is called."""
    return module.title() + SERVICE


def reply() -> bytes:
    """The spans so far, to go back with the reply; b"" outside a request."""
    trace = under_way()
    if trace is None:
        return b""
    origin, whole = trace.begun, (trace.name, trace.begun, now(), trace.detail, trace.failure)
    spans = [
        (name, int((begun - origin) * 1e6), int((ended - origin) * 1e6), detail, failure)
        for name, begun, ended, detail, failure in (*trace.spans[: MOST_IN_REPLY - 1], whole)
    ]
    return _write_reply(spans)


def server_timing(trace: Trace, *, parts: bool) -> bytes:
    """The value of Server-Timing: what of the request was spent on what, in milliseconds. `parts`: not the whole alone.

    A name has the sum of its spans; one is inside another, so they don't add up to the whole.
    """
    tenths = int((now() - trace.begun) * 10_000 + 0.5)
    told = whole = _GATEWAY[tenths] if tenths < _MOST_TENTHS else _text("gateway", tenths)
    if not parts:
        return told
    seen = 0
    for name, begun, ended, _, _ in trace.spans:
        label = _LABELS[name]
        tenths = int((ended - begun) * 10_000 + 0.5)
        if seen & label.bit or tenths >= _MOST_TENTHS:
            return whole + _sums(trace)
        seen |= label.bit
        told += label.texts[tenths]
    return told


def _sums(trace: Trace) -> bytes:
    """Where a name has several spans, or what took longer than a text was made for."""
    sums: dict[str, float] = {}
    for name, begun, ended, _, _ in trace.spans:
        label = _LABELS[name].name
        sums[label] = sums.get(label, 0.0) + ended - begun
    return b"".join(_part(label, int(seconds * 10_000 + 0.5)) for label, seconds in sums.items())


# Tenths of milliseconds that are told of in texts made before: formatting a number takes as long as all the rest.
_MOST_TENTHS = 500


def _text(label: str, tenths: int) -> bytes:
    return b"%s;dur=%d.%d" % (label.encode(), *divmod(tenths, 10))


def _part(label: str, tenths: int) -> bytes:
    """With what is before it; nothing for 0.0."""
    return b", " + _text(label, tenths) if label and tenths else b""


class _Label(Struct, frozen=True):
    """What a span is called in Server-Timing, with the bit that stands for it; "" is told of nothing."""

    name: str
    bit: int
    texts: list[bytes]


class _Labels(dict[str, _Label]):
    """By the span's name. One that isn't here is a service's, or came back with the reply of one."""

    MOST = 64

    def __missing__(self, name: str) -> _Label:
        """That of nothing, once there are more than any code has."""
        if len(self) >= self.MOST:
            return _NOTHING
        told = _TIMINGS.get(name, name.removesuffix(SERVICE).lower() if name.endswith(SERVICE) else "")
        same = [label for label in self.values() if label.name == told]
        label = self[name] = same[0] if same else _label(told, 1 << len(self))
        return label


def _label(name: str, bit: int) -> _Label:
    return _Label(name, bit, [_part(name, tenths) for tenths in range(_MOST_TENTHS)])


_GATEWAY = [_text("gateway", tenths) for tenths in range(_MOST_TENTHS)]
# Any number of spans may be told of nothing.
_NOTHING = _label("", 0)
_LABELS = _Labels({"": _NOTHING})
for _name in _TIMINGS:
    _LABELS[_name]
