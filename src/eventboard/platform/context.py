"""What watches or bounds a call without changing its outcome: correlation id and deadline."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from msgspec import Struct, field
from msgspec.structs import replace

# What is passed on and not looked into; longer ones may be dropped (W3C Trace Context, section 3.3.1.5).
TRACESTATE = re.compile(r"[\t\x20-\x7e]{0,512}")
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

    `traceparent` and `tracestate` are W3C's, as they came, "" is none. What is recorded: platform/tracing.py.
    """

    correlation_id: str
    traceparent: str = ""
    deadline: float | None = None
    tracestate: str = ""
    notes: Notes = field(default_factory=Notes)


_current: ContextVar[Context] = ContextVar("eventboard_context")


def new_correlation_id() -> str:
    return str(uuid4())


def current() -> Context:
    """The call's context; outside any call, one with a new correlation id."""
    return _current.get(None) or Context(new_correlation_id())


def known() -> Context | None:
    """The call's context; outside any call there is none."""
    return _current.get(None)


@contextmanager
def use(context: Context) -> Iterator[None]:
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def budget(seconds: float) -> Iterator[float]:
    """Bounds what runs inside to `seconds`, or to what an outer budget leaves; yields the deadline."""
    outer = current()
    deadline = time.monotonic() + seconds
    if outer.deadline is not None and outer.deadline < deadline:
        deadline = outer.deadline
    with use(replace(outer, deadline=deadline)):
        yield deadline


def remaining() -> float | None:
    """Seconds left of the budget, 0 or more; None where there is no budget."""
    deadline = current().deadline
    return None if deadline is None else max(0.0, deadline - time.monotonic())
