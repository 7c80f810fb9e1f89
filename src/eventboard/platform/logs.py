"""Logs: one line for each request and hop, and whatever else there is to say, by loguru; all through one writer.

JSON lines are flat, for machines; text is for a developer. A line is handed over and written by a thread: whoever
reads standard error slowly, or not at all, costs lines and never a request. No line holds a header's value, a body, or
what an exception says of its values: of an exception production tells type and place.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from loguru import logger
from msgspec import Raw, Struct
from msgspec.structs import replace

from eventboard.platform import context, tracing
from eventboard.platform.asgi import Scope
from eventboard.platform.metrics import Metrics

STANDARD_ERROR = 2
# Lines that may wait to be written: some MiB, and seconds of a busy process.
MOST = 10_000
# Seconds between two writes, in which lines gather: on one core a write for each line takes a tenth of the reads, and
# one every 10 ms a hundredth.
GATHER = 0.05
# Seconds that a process waits at its end for whoever reads the log.
PATIENCE = 1.0
# Frames of an exception that are told, the innermost; and how many others it may come of.
FRAMES, CAUSES = 30, 5

_COLOURS = {"DEBUG": "34", "INFO": "1", "WARNING": "33", "ERROR": "31"}
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
# The least status of requests that have a line, by the level of the log: those with 500 and above are warnings.
_LEAST_STATUS = {"DEBUG": 0, "INFO": 0, "WARNING": 500, "ERROR": 1000}


class Line(Struct, frozen=True, omit_defaults=True, gc=False):
    """As JSON; fields without a value are left out."""

    timestamp: str
    level: str
    service: str
    message: str
    correlation_id: str = ""
    trace_id: str = ""
    operation: str = ""
    organization_id: Any = ""
    user_id: Any = ""
    method: str = ""
    path: str = ""
    status: int = 0
    duration_ms: float = -1
    code: str = ""
    cause: str = ""
    error: "Told | None" = None


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An exception: its type, where it was raised (the innermost last), and what it came of."""

    type: str
    stack: list[str]
    cause: "Told | None" = None


# A request that has ended, for its line: method, path as it was sent, status, when it ended in Unix seconds, how many
# seconds it took; its correlation id and trace id; and of its notes operation, caller, code and cause. No more of it is
# held: memory that goes back at once is still in the cache when the next request gets it.
Served = tuple[str, bytes, int, float, float, str, str, str, Any, str, str]


class Writer:
    """Writes lines to a file descriptor, in their order, by a thread of its own. `dropped` are lost for good."""

    def __init__(self, descriptor: int = STANDARD_ERROR, most: int = MOST) -> None:
        self._descriptor = descriptor
        self.most = most
        self.lines: deque[bytes | Served] = deque()
        self._some = threading.Event()
        # Set before the thread looks for lines a last time: whoever puts one later finds it.
        self.waits = False
        self._closed = False
        self._told = 0
        self.dropped = 0
        # What is written of those that gathered: many at once take half as long as each between other work.
        self.text: Callable[[Sequence[Any]], bytes] = _ended
        # The line that says how many lines were dropped.
        self.say: Callable[[int], bytes] = lambda dropped: b"%d lines were dropped" % dropped
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """A line without its end. Never waits."""
        if len(self.lines) >= self.most:
            self.dropped += 1
            return
        self.lines.append(line)
        if self.waits:
            self.wake()

    def wake(self) -> None:
        """The thread, where it waits for a line."""
        self._some.set()

    def close(self) -> None:
        """What waits is written, if somebody reads it in time."""
        self._closed = True
        self._some.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        last = False
        while not last:
            self.waits = True
            if not self.lines and not self._closed:
                self._some.wait()
            self.waits = False
            self._some.clear()
            last = self._closed
            batch = [self.lines.popleft() for _ in range(len(self.lines))]
            self._write(batch)
            if dropped := self.dropped - self._told:
                self._told += dropped
                self._write([self.say(dropped)])
            if not last:
                time.sleep(GATHER)

    def _write(self, lines: Sequence[bytes | Served]) -> None:
        left = memoryview(self.text(lines))
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    # Another program made it so: a terminal is shared.
                    select.select([], [self._descriptor], [])
        except OSError:
            # Nobody reads any more.
            self.dropped += len(lines)
            self._told = self.dropped


class Log:
    """`service` names the process in each line, `level` the least that is told.

    `values`: what exceptions say of themselves is told, too; for a developer's own machine.
    """

    def __init__(self, *, level: str, json: bool, service: str, values: bool, writer: Writer, colour: bool) -> None:
        self._least = _LEAST_STATUS[level]
        self._json = json
        self._service = service
        self._values = values
        self._writer = writer
        self._colour = colour
        writer.text = self._json_lines if json else self._text_lines
        writer.say = self._dropped
        self._encode = msgspec.json.Encoder().encode
        self._encode_lines = msgspec.json.Encoder().encode_lines

    def request(self, scope: Scope, status: int, at: float, seconds: float, of: context.Context) -> None:
        """The one line of a request that has ended at `at`, in Unix seconds, and took `seconds`.

        Loguru would take as long for it as all the rest of it takes.
        """
        if status < self._least:
            return
        trace, notes, writer = of.trace, of.notes, self._writer
        # What `put` does: a call less on the way of each request.
        if len(writer.lines) >= writer.most:
            writer.dropped += 1
            return
        writer.lines.append(
            (
                scope["method"],
                scope["raw_path"],
                status,
                at,
                seconds,
                of.correlation_id,
                "" if trace is None else trace.trace_id,
                notes.operation,
                notes.caller,
                notes.code,
                notes.cause,
            )
        )
        if writer.waits:
            writer.wake()

    def _json_lines(self, batch: Sequence[bytes | Served]) -> bytes:
        lines: list[Line | Raw] = []
        service, second, date = self._service, "", ""
        for each in batch:
            if isinstance(each, bytes):
                lines.append(Raw(each))
                continue
            method, raw_path, status, ended, took, correlation_id, trace_id, operation, caller, code, cause = each
            path = told_path(raw_path)
            organization_id, user_id = ("", "") if caller is None else (caller.organization_id, caller.user_id)
            microseconds = str(int(ended * 1e6))
            if microseconds[:-6] != second:
                second = microseconds[:-6]
                date = _second(int(second))
            lines.append(
                # By their places: by their names it takes twice as long.
                Line(
                    f"{date}.{microseconds[-6:]}Z",
                    "WARNING" if status >= 500 else "INFO",
                    service,
                    f"{method} {path} {status or '-'}",
                    correlation_id,
                    trace_id,
                    operation,
                    organization_id,
                    user_id,
                    method,
                    path,
                    status,
                    int(took * 100_000 + 0.5) / 100,
                    code,
                    cause,
                )
            )
        return self._encode_lines(lines)

    def _text_lines(self, batch: Sequence[bytes | Served]) -> bytes:
        return _ended([each if isinstance(each, bytes) else self._text_line(each) for each in batch])

    def _text_line(self, served: Served) -> bytes:
        method, raw_path, status, ended, took, correlation_id, _, operation, _, code, cause = served
        message = f"{method} {told_path(raw_path)} {status or '-'}"
        said = " ".join(filter(None, (message, f"{took * 1000:.1f} ms", operation, code, cause)))
        return self._text(ended, "WARNING" if status >= 500 else "INFO", said, correlation_id)

    def counted(self, metrics: Metrics) -> None:
        """What is dropped is a metric, too."""
        counter = metrics.counter("eventboard_log_lines_dropped_total", "Lines of the log that nobody read in time.")
        told = 0

        def sample() -> None:
            nonlocal told
            now = self._writer.dropped
            counter.add(by=now - told)
            told = now

        metrics.sampling(sample)

    def sink(self, message: Any) -> None:
        """loguru's records."""
        record = message.record
        level, said = record["level"].name, record["message"]
        error: BaseException | None = record["exception"] and record["exception"].value
        of = context.known()
        correlation_id = record["extra"].get("correlation_id") or (of.correlation_id if of else "")
        if self._json:
            line = Line(
                timestamp=_timestamp(time.time()),
                level=level,
                service=self._service,
                message=said,
                correlation_id=correlation_id,
                trace_id=tracing.trace_id(),
                error=None if error is None else told(error),
            )
            self._writer.put(self._encoded(line))
            return
        if error is not None:
            lines = traceback.format_exception(error) if self._values else _shown(told(error))
            said = "\n".join((said, "".join(lines).rstrip()))
        self._writer.put(self._text(time.time(), level, said, correlation_id))

    def _dropped(self, count: int) -> bytes:
        said = f"{count} lines of this log were dropped: they were read too slowly"
        if not self._json:
            return self._text(time.time(), "WARNING", said, "")
        return self._encoded(
            Line(timestamp=_timestamp(time.time()), level="WARNING", service=self._service, message=said)
        )

    def _encoded(self, line: Line) -> bytes:
        try:
            return self._encode(line)
        except UnicodeEncodeError:
            # Half a surrogate pair, from somewhere: told, as far as it can be.
            return self._encode(replace(line, message=ascii(line.message)))

    def _text(self, at: float, level: str, said: str, correlation_id: str) -> bytes:
        when = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
        if self._colour:
            when, correlation_id = f"\033[2m{when}\033[0m", f"\033[2m{correlation_id}\033[0m"
            label = f"\033[{_COLOURS.get(level, '1')}m{level:<7}\033[0m"
        else:
            label = f"{level:<7}"
        return f"{when} {label} {said} {correlation_id}".rstrip().encode(errors="backslashreplace")


def configure(*, level: str, json: bool, service: str, values: bool) -> Log:
    """From here on whatever anybody logs, libraries and warnings included, is a line on standard error."""
    writer = Writer()
    wanted = bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()
    colour = not json and wanted and not os.environ.get("NO_COLOR")
    log = Log(level=level, json=json, service=service, values=values, writer=writer, colour=colour)
    logger.remove()
    logger.add(log.sink, level=level, format=lambda _: "", backtrace=False, diagnose=False, catch=False)
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    atexit.register(writer.close)
    return log


def _ended(lines: Sequence[bytes]) -> bytes:
    return b"".join([line + b"\n" for line in lines])


def told_path(raw: bytes) -> str:
    """The path as it was sent: unescaped, it could hold a line break, and more lines."""
    return raw.decode("ascii", "backslashreplace")


def told(error: BaseException, depth: int = CAUSES) -> Told:
    """Without a word of what the exception says: it may hold values, and they may be secret."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if isinstance(error, BaseExceptionGroup):
        cause = error.exceptions[0]
    return Told(
        type=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        stack=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        cause=None if cause is None or not depth else told(cause, depth - 1),
    )


def _shown(error: Told) -> Iterator[str]:
    yield f"{error.type}\n"
    yield from (f"  {frame}\n" for frame in error.stack)
    if error.cause is not None:
        yield "of "
        yield from _shown(error.cause)


def _timestamp(at: float) -> str:
    """Of Unix seconds, by RFC 3339; made from a datetime it takes twice as long."""
    seconds = int(at)
    return f"{_second(seconds)}.{int((at - seconds) * 1e6):06d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _ToLoguru(logging.Handler):
    """The standard library's records."""

    def emit(self, record: logging.LogRecord) -> None:
        # asyncio adds the repr of a future, and with it what its exception says, in further lines.
        said = record.getMessage().partition("\n")[0] if record.name == "asyncio" else record.getMessage()
        level = record.levelname if record.levelname in _LEVELS else "ERROR"
        logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, said)
