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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.platform import context, tracing
from eventboard.platform.metrics import Metrics

STANDARD_ERROR = 2
# Lines that may wait to be written: some MiB, and seconds of a busy process.
MOST = 10_000
# Seconds between two writes, in which lines gather: on one core a write for each line takes a tenth of the reads.
GATHER = 0.01
# Seconds that a process waits at its end for whoever reads the log.
PATIENCE = 1.0
# Frames of an exception that are told, the innermost; and how many others it may come of.
FRAMES, CAUSES = 30, 5

_COLOURS = {"DEBUG": "34", "INFO": "1", "WARNING": "33", "ERROR": "31"}
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
# The level of a request's line, by its status.
_OTHERWISE, _SERVER_ERROR = _LEVELS["INFO"], _LEVELS["WARNING"]


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As JSON; fields without a value are left out."""

    timestamp: datetime
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


class Served(Struct, frozen=True, gc=False):
    """A request that has ended, for its line. `seconds` are what it took, `at` is in Unix seconds."""

    method: str
    path: bytes
    status: int
    seconds: float
    of: context.Context
    trace_id: str
    at: float


class Writer:
    """Writes lines to a file descriptor, in their order, by a thread of its own. `dropped` are lost for good."""

    def __init__(self, descriptor: int = STANDARD_ERROR, most: int = MOST) -> None:
        self._descriptor = descriptor
        self._most = most
        self._lines: SimpleQueue[bytes | Served | None] = SimpleQueue()
        self._told = 0
        self.dropped = 0
        # The line of a request. Many at once take half as long as each at its time, between other work.
        self.line: Callable[[Served], bytes] = lambda _: b""
        # The line that says how many lines were dropped.
        self.say: Callable[[int], bytes] = lambda dropped: b"%d lines were dropped\n" % dropped
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes | Served) -> None:
        """Never waits."""
        if self._lines.qsize() < self._most:
            self._lines.put(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """What waits is written, if somebody reads it in time."""
        self._lines.put(None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        more = True
        while more:
            batch = [self._lines.get(), *self._waiting()]
            more = batch[-1] is not None
            self._write([self.line(each) if isinstance(each, Served) else each for each in batch if each is not None])
            if dropped := self.dropped - self._told:
                self._told += dropped
                self._write([self.say(dropped)])
            if more:
                time.sleep(GATHER)

    def _waiting(self) -> Iterator[bytes | Served | None]:
        """What waits now, up to the end."""
        for _ in range(self._lines.qsize()):
            try:
                line = self._lines.get_nowait()
            except Empty:
                return
            yield line
            if line is None:
                return

    def _write(self, lines: list[bytes]) -> None:
        left = memoryview(b"".join(lines))
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
        self._least = _LEVELS[level]
        self._json = json
        self._service = service
        self._values = values
        self._writer = writer
        self._colour = colour
        writer.line = self._line
        writer.say = self._dropped
        self._encode = msgspec.json.Encoder().encode

    def request(self, served: Served) -> None:
        """The one line of a request; loguru would take as long for it as all the rest of it takes."""
        if (_SERVER_ERROR if served.status >= 500 else _OTHERWISE) >= self._least:
            self._writer.put(served)

    def _line(self, served: Served) -> bytes:
        status, notes = served.status, served.of.notes
        level = "WARNING" if status >= 500 else "INFO"
        milliseconds = served.seconds * 1000
        at = datetime.fromtimestamp(served.at, UTC)
        path = told_path(served.path)
        message = f"{served.method} {path} {status or '-'}"
        if not self._json:
            told = (message, f"{milliseconds:.1f} ms", notes.operation, notes.code, notes.cause)
            said = " ".join(filter(None, told))
            return self._text(at, level, said, served.of.correlation_id)
        caller = notes.caller
        return self._encoded(
            Line(
                timestamp=at,
                level=level,
                service=self._service,
                message=message,
                correlation_id=served.of.correlation_id,
                trace_id=served.trace_id,
                operation=notes.operation,
                organization_id="" if caller is None else caller.organization_id,
                user_id="" if caller is None else caller.user_id,
                method=served.method,
                path=path,
                status=status,
                duration_ms=round(milliseconds, 2),
                code=notes.code,
                cause=notes.cause,
            )
        )

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
                timestamp=_now(),
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
        self._writer.put(self._text(_now(), level, said, correlation_id))

    def _dropped(self, count: int) -> bytes:
        said = f"{count} lines of this log were dropped: they were read too slowly"
        if not self._json:
            return self._text(_now(), "WARNING", said, "")
        return self._encoded(Line(timestamp=_now(), level="WARNING", service=self._service, message=said))

    def _encoded(self, line: Line) -> bytes:
        try:
            return self._encode(line) + b"\n"
        except UnicodeEncodeError:
            # Half a surrogate pair, from somewhere: told, as far as it can be.
            return self._encode(replace(line, message=ascii(line.message))) + b"\n"

    def _text(self, at: datetime, level: str, said: str, correlation_id: str) -> bytes:
        when = at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        if self._colour:
            when, correlation_id = f"\033[2m{when}\033[0m", f"\033[2m{correlation_id}\033[0m"
            label = f"\033[{_COLOURS.get(level, '1')}m{level:<7}\033[0m"
        else:
            label = f"{level:<7}"
        return f"{when} {label} {said} {correlation_id}".rstrip().encode(errors="backslashreplace") + b"\n"


def configure(*, level: str, json: bool, service: str, values: bool) -> Log:
    """From here on whatever anybody logs, libraries and warnings included, is a line on standard error."""
    writer = Writer()
    colour = not json and sys.stderr.isatty()
    log = Log(level=level, json=json, service=service, values=values, writer=writer, colour=colour)
    logger.remove()
    logger.add(log.sink, level=level, format=lambda _: "", backtrace=False, diagnose=False, catch=False)
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    atexit.register(writer.close)
    return log


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


def _now() -> datetime:
    return datetime.now(UTC)


class _ToLoguru(logging.Handler):
    """The standard library's records."""

    def emit(self, record: logging.LogRecord) -> None:
        # asyncio adds the repr of a future, and with it what its exception says, in further lines.
        said = record.getMessage().partition("\n")[0] if record.name == "asyncio" else record.getMessage()
        level = record.levelname if record.levelname in _LEVELS else "ERROR"
        logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, said)
