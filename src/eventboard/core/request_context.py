"""The context of a request, in a context variable: correlation id, deadline, fields of its log line.

Nothing in it changes the outcome of a call, except that the deadline ends it.
"""

import re
import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Seconds that a timer may fire early: uvloop's count whole milliseconds, of a clock that is rounded down.
TIMER_PRECISION = 0.002


class RequestLogFields(Struct):
    """What the log line of a request and its `Server-Timing` header report, set where it becomes known.

    `caller` is a verified Principal. `waited`: seconds of the request's budget that it waited before its call.
    `timings` are seconds by step.
    """

    operation: str = ""
    caller: Any = None
    code: str = ""
    cause: str = ""
    waited: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)

    def add_timings(self, timings: Mapping[str, float]) -> None:
        for name, seconds in timings.items():
            self.timings[name] = self.timings.get(name, 0.0) + seconds

    def failed(self, error: Exception, code: str) -> None:
        self.code = code
        # The type alone, because the message may hold values.
        self.cause = "" if error.__cause__ is None else type(error.__cause__).__name__


class Context(Struct, frozen=True):
    """`deadline` is a time of `time.monotonic()`, or None.

    `prefix`: the path under which clients see this service, without a slash at its end; links begin with it.
    `trace_id`: hexadecimal, "" without a trace. `recorded`: the request's span is recorded, and its steps are, too.
    `problem_base`: what the types of problems begin with, which is the prefix unless a setting has a URL.
    """

    correlation_id: str
    deadline: float | None = None
    log_fields: RequestLogFields = field(default_factory=RequestLogFields)
    prefix: str = ""
    trace_id: str = ""
    recorded: bool = False
    problem_base: str = ""


_current: ContextVar[Context | None] = ContextVar("eventboard_context", default=None)


def current_or_none() -> Context | None:
    """None outside of a request."""
    return _current.get()


def current() -> Context:
    """Outside of a request, a context with a new correlation id."""
    return _current.get() or Context(str(uuid.uuid4()))


class use:  # noqa: N801 - read as a function, like contextlib.suppress; a generator costs twice as much
    """A context manager: the block has this context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


class budget:  # noqa: N801 - likewise
    """A context manager: limits the block to `seconds` or what is left of the outer budget; returns the deadline."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> float:
        outer = current()
        deadline = time.monotonic() + self._seconds
        if outer.deadline is not None:
            deadline = min(deadline, outer.deadline)
        self._token = _current.set(replace(outer, deadline=deadline))
        return deadline

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def remaining() -> float | None:
    """Seconds left of the budget, never less than 0; None without a budget."""
    context = _current.get()
    if context is None or context.deadline is None:
        return None
    return max(0.0, context.deadline - time.monotonic())


def expired() -> bool:
    """Whether the budget is used up, within the precision of timers."""
    left = remaining()
    return left is not None and left < TIMER_PRECISION
