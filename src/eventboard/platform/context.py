"""What watches or bounds a call without changing its outcome: correlation id and deadline."""

import os
import random
import re
import time
from contextvars import ContextVar
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

# What is passed on and not looked into; longer ones may be dropped (W3C Trace Context, section 3.3.1.5).
TRACESTATE = re.compile(r"[\t\x20-\x7e]{0,512}")
# The bits of a random UUID, and those that say that it is one (RFC 9562, section 5.4).
_RANDOM = ~(0xF << 76 | 0x3 << 62)
_VERSION_4 = 0x4 << 76 | 0x2 << 62
# The last of them, seven bytes.
CHANCE = (1 << 56) - 1
CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Notes(Struct):
    """What the log's line of a request tells beside it, noted by whoever knows it. `caller` is a verified Principal."""

    operation: str = ""
    caller: Any = None
    code: str = ""
    cause: str = ""

    def failed(self, error: Exception, code: str) -> None:
        self.code = code
        # What it came of, by its type alone: what it says may hold values.
        self.cause = "" if error.__cause__ is None else type(error.__cause__).__name__


class Context(Struct, frozen=True):
    """`deadline` is on `time.monotonic()`'s clock; None is without one.

    `traceparent` and `tracestate` are W3C's, as they came, "" is none. `trace` is what is recorded of the request
    (platform/tracing.py), None where nothing is.
    """

    correlation_id: str
    traceparent: str = ""
    deadline: float | None = None
    tracestate: str = ""
    notes: Notes = field(default_factory=Notes)
    trace: Any = None


_current: ContextVar[Context | None] = ContextVar("eventboard_context", default=None)
# The call's context; outside any call there is none.
known = _current.get


class Ids(Struct, frozen=True, gc=False):
    """Of one random number: as a UUID, and in 32 hexadecimal digits, with what its trace is made of.

    `chance` are its last 56 bits, which are random throughout, as those of a trace id are (W3C Trace Context, level 2).
    `first_id` is of the trace's first span: its first 63 bits. It isn't zero, for a version is in it.
    """

    correlation_id: str
    trace_id: str
    chance: int
    first_id: int


# Made many at once: a request that makes its own, between other work, takes three times as long for it.
_stock: list[Ids] = []
_AT_ONCE = 64
# Two processes must not have the same ones.
os.register_at_fork(after_in_child=_stock.clear)


def new_ids() -> Ids:
    """Unlike all others, and not secret: uuid4() takes five times as long."""
    if not _stock:
        _stock.extend(_ids(random.getrandbits(128) & _RANDOM | _VERSION_4) for _ in range(_AT_ONCE))
    return _stock.pop()


def _ids(number: int) -> Ids:
    digits = f"{number:032x}"
    uuid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return Ids(uuid, digits, number & CHANCE, number >> 65)


def current() -> Context:
    """The call's context; outside any call, one with a new correlation id."""
    return known() or Context(new_ids().correlation_id)


class use:  # noqa: N801 - a verb where it is used: `with context.use(…):`
    """A class, as `contextmanager` would cost every request some microseconds more."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current.set(self._context)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


class budget:  # noqa: N801 - as `use`
    """Bounds what runs inside to `seconds`, or to what an outer budget leaves; yields the deadline."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> float:
        outer = current()
        deadline = time.monotonic() + self._seconds
        if outer.deadline is not None and outer.deadline < deadline:
            deadline = outer.deadline
        self._token = _current.set(replace(outer, deadline=deadline))
        return deadline

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def remaining() -> float | None:
    """Seconds left of the budget, 0 or more; None where there is no budget."""
    context = known()
    if context is None or context.deadline is None:
        return None
    return max(0.0, context.deadline - time.monotonic())
