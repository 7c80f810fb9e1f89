"""Logs, by loguru: JSON lines in production, text in development, through a sink on a bounded queue.

A reader of standard error that is slow, or stopped, costs lines and never a request; loguru's own `enqueue` would wait
for it. No line has the value of a header, a body or, in production, the message of an exception.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC
from queue import SimpleQueue
from typing import Any, cast

import msgspec
from loguru import logger

from eventboard.core import request_context

STANDARD_ERROR = 2
# Lines that may wait: a few MiB, and seconds of a busy process.
QUEUE_SIZE = 10_000
# Seconds between two writes. On one core, a write for each line would cost a tenth of the requests per second.
INTERVAL = 0.05
# Seconds that a process waits at its end for the lines to be written.
CLOSE_TIMEOUT = 1.0
# Logged of an exception: its innermost frames, and its causes.
FRAMES, CAUSES = 30, 5

# Fields that a line of text shows in another place, or not at all.
_NOT_DETAILS = frozenset(
    {"service", "correlation_id", "trace_id", "method", "path", "status", "user_id", "organization_id", "duration_ms"}
)


class QueuedSink:
    """A loguru sink that never blocks: a thread writes the lines to a file descriptor, in their order.

    `on_drop` is called for each line that is dropped because the queue is full or the descriptor is closed.
    """

    def __init__(self, descriptor: int = STANDARD_ERROR, size: int = QUEUE_SIZE) -> None:
        self._descriptor = descriptor
        self._size = size
        # A bounded Queue is written in Python, and costs as much as the rest of a line.
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._reported = 0
        self.dropped = 0
        self.on_drop: Callable[[], None] = lambda: None
        self._thread.start()

    def write(self, message: str) -> None:
        if self._lines.qsize() < self._size:
            self._lines.put(message)
        else:
            self._drop()

    def stop(self) -> None:
        """Writes the lines that wait, for up to CLOSE_TIMEOUT."""
        self._lines.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _drop(self) -> None:
        self.dropped += 1
        self.on_drop()

    def _run(self) -> None:
        last = False
        while not last:
            batch = [self._lines.get()]
            if batch[0] is not None:
                time.sleep(INTERVAL)
            batch += [self._lines.get_nowait() for _ in range(self._lines.qsize())]
            last = None in batch
            self._write([line for line in batch if line is not None])

    def _write(self, lines: list[str]) -> None:
        unwritten = memoryview("".join(lines).encode(errors="backslashreplace"))
        try:
            while unwritten:
                try:
                    unwritten = unwritten[os.write(self._descriptor, unwritten) :]
                except BlockingIOError:
                    # A terminal is shared, and another program has made it non-blocking.
                    select.select([], [self._descriptor], [])
        except OSError:
            # The reader has ended.
            for _ in lines:
                self._drop()
            self._reported = self.dropped
        if dropped := self.dropped - self._reported:
            self._reported += dropped
            logger.warning(
                "{} lines of this log were dropped because they were not read in time: read standard error faster, or"
                " log less with EVENTBOARD_LOGS_LEVEL",
                dropped,
            )


def configure(*, level: str, json: bool, service: str, values: bool) -> QueuedSink:
    """Sends all logs, those of libraries and warnings included, to standard error.

    `service` is the process's name in each line. `values`: exceptions are logged with their messages, for development.
    """
    sink = QueuedSink()
    wanted = bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()
    colour = not json and wanted and not os.environ.get("NO_COLOR")
    add_sink(sink, level=level, json=json, values=values, colour=colour)
    logger.configure(extra={"service": service}, patcher=add_request_context)
    logging.basicConfig(handlers=[InterceptHandler()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    atexit.register(sink.stop)
    return sink


def add_sink(sink: QueuedSink, *, level: str, json: bool, values: bool, colour: bool = False) -> None:
    """Replaces all other sinks."""
    logger.remove()
    format_ = json_format if json else text_format if values else text_format_without_values
    # As a function: loguru stops a sink object when it removes it.
    logger.add(sink.write, level=level, format=format_, colorize=colour, backtrace=False, diagnose=False)


def add_request_context(record: Any) -> None:
    """A loguru patcher: adds the correlation id and the trace id of the current request, unless they are bound."""
    extra, request = record["extra"], request_context.current_or_none()
    if request is not None:
        extra.setdefault("correlation_id", request.correlation_id)
        if request.trace_id:
            extra.setdefault("trace_id", request.trace_id)


def json_format(record: Any) -> str:
    """One JSON object a line, with all bound fields that have a value."""
    extra, error = record["extra"], _exception(record)
    line = {
        "timestamp": record["time"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": record["level"].name,
        "service": extra.get("service", ""),
        "message": record["message"],
        **{name: value for name, value in extra.items() if value is not None and (value or not isinstance(value, str))},
    }
    if error is not None:
        line["error"] = describe(error)
    try:
        encoded = _encode(line)
    except UnicodeEncodeError:
        # The message has a lone surrogate.
        encoded = _encode({**line, "message": _printable(record["message"])})
    # A format function returns a template. The line is a value in it, because it has braces.
    extra["_line"] = encoded.decode()
    return "{extra[_line]}\n"


def text_format(record: Any) -> str:
    """Time, level, correlation id, message, duration and other bound fields."""
    extra = record["extra"]
    request = f"[{extra['correlation_id']}] " if extra.get("correlation_id") else ""
    took = f" {extra['duration_ms']:.1f} ms" if "duration_ms" in extra else ""
    details = "".join(
        f" {value}" if name in ("operation", "code", "cause") else f" {name}={value}"
        for name, value in extra.items()
        if name not in _NOT_DETAILS and value not in ("", None)
    )
    # As values: loguru parses each template, and caches it.
    extra["_request"], extra["_details"] = request, took + details
    return _TEXT + "{exception}"


def text_format_without_values(record: Any) -> str:
    """With `describe` in place of an exception's message."""
    text_format(record)
    error = _exception(record)
    record["extra"]["_error"] = "" if error is None else "\n".join([*_lines(describe(error)), ""])
    return _TEXT + "{extra[_error]}"


def describe(error: BaseException, depth: int = CAUSES) -> dict[str, Any]:
    """An exception's type, frames (the innermost last) and cause, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if isinstance(error, BaseExceptionGroup):
        cause = error.exceptions[0]
    return {
        "type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **({} if cause is None or not depth else {"cause": describe(cause, depth - 1)}),
    }


def printable_path(raw: bytes) -> str:
    """The path as it was sent: a decoded one may have line breaks."""
    return raw.decode("ascii", "backslashreplace")


class InterceptHandler(logging.Handler):
    """Forwards the standard library's records to loguru, as its documentation shows."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A malformed log call of a library must not raise. Its arguments may be secret.
            message = f"malformed log call: {record.msg!r}"
        if record.name == "asyncio":
            # asyncio adds the repr of a future, with the message of its exception, in further lines.
            message = message.partition("\n")[0]
        level = record.levelname if record.levelname in _LEVELS else "ERROR"
        logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, message)


_TEXT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> <dim>{extra[_request]}</dim>{message}{extra[_details]}\n"
)
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR"})
_encode = msgspec.json.Encoder(enc_hook=str).encode


def _exception(record: Any) -> BaseException | None:
    logged = record["exception"]
    return None if logged is None else cast("BaseException | None", logged.value)


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _lines(error: Mapping[str, Any]) -> list[str]:
    cause = error.get("cause")
    return [
        str(error["type"]),
        *(f"  {frame}" for frame in error["stack"]),
        *([] if cause is None else ["caused by", *_lines(cause)]),
    ]
