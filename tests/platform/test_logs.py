"""Lines of the log: what they hold and never hold, and that nobody waits for whoever reads them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx
import pytest
from loguru import logger

from eventboard.platform import context
from eventboard.platform.identity import Principal, Role
from eventboard.platform.logs import Log, Writer
from eventboard.platform.metrics import Metrics
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.metrics import parsed, scraped
from tests.support.processes import PATIENCE, PROGRAM, Process, environment, patiently
from tests.support.shapes import deployed

# Bytes that a pipe holds when nobody reads it, with Linux.
PIPE = 65_536
SECRET = "sesame"


def lines_of(process: Process, correlation_id: str, count: int) -> list[dict[str, Any]]:
    """The lines with that id, once there are so many."""
    for _ in patiently(process):
        found = [line for line in process.output.splitlines() if correlation_id in line]
        if len(found) >= count:
            return [json.loads(line) for line in found]
    raise AssertionError(process.output)


# Of real processes


def test_one_id_in_three_processes(database_url: str, tmp_path: Path) -> None:
    """One line for each hop, found by the correlation id: who, what, how it ended, how long it took."""
    with deployed("gateway+auth+events", database_url, tmp_path, LOGS_FORMAT="json") as deployment:
        with closing(Board(deployment.public.url, database_url)) as board:
            user = board.organization().user
            correlation_id, trace_id = str(uuid4()), uuid4().hex
            headers = {"x-correlation-id": correlation_id, "traceparent": f"00-{trace_id}-{'1' * 16}-01"}
            answer = user.http.post("/events", json=EVENT, headers=headers)
            assert answer.status_code == 201
            assert answer.headers["x-correlation-id"] == correlation_id
            history = user.http.get(f"{answer.headers['location']}/history").json()
            assert history["data"][0]["correlationId"] == correlation_id
            refused = user.http.get(f"/events/{uuid4()}", headers={"x-correlation-id": f"{correlation_id}:2"})
            assert refused.json()["correlationId"] == f"{correlation_id}:2"
            (public,) = lines_of(deployment.public, f'"{correlation_id}"', 1)
            (inside,) = lines_of(deployment.processes["events"], f'"{correlation_id}"', 1)
            (unseen,) = lines_of(deployment.public, f"{correlation_id}:2", 1)
            assert lines_of(deployment.processes["events"], f"{correlation_id}:2", 1)[0]["code"] == "not-found"
        assert public["path"] == "/events"
        assert inside["path"] == "/rpc/events.create"
        for line, service in ((public, "gateway"), (inside, "events")):
            assert line["level"] == "INFO"
            assert line["service"] == service
            assert line["operation"] == "events.create"
            assert line["trace_id"] == trace_id
            assert line["user_id"] == str(user.id)
            assert line["organization_id"] == str(user.organization_id)
            assert line["method"] == "POST"
            assert 0 < line["duration_ms"] < 30_000
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
        assert (public["status"], inside["status"]) == (201, 200)
        assert public["duration_ms"] > inside["duration_ms"]
        assert (unseen["status"], unseen["code"], unseen["operation"]) == (404, "not-found", "events.findOne")


def test_nothing_secret(database_url: str, tmp_path: Path) -> None:
    """No password, token, key or body is in any line of any process."""
    with deployed("gateway+auth+events", database_url, tmp_path, LOGS_FORMAT="json", LOGS_LEVEL="DEBUG") as deployment:
        with closing(Board(deployment.public.url, database_url)) as board:
            admin = board.organization().admin
            account = {"email": admin.email, "password": PASSWORD}
            session = board.client().post("/auth/login", json=account).json()
            tokens = [session["accessToken"], session["refreshToken"]]
            board.client().post("/auth/login", json={**account, "password": SECRET})
            board.client().post("/auth/login", content=f'{{"password": "{SECRET}", nonsense')
            board.client().post("/auth/refresh", json={"refreshToken": SECRET})
            board.client(SECRET).get("/auth/me")
            invited = admin.http.post("/invitations", json={"email": "sesame@example.com", "role": "USER"})
            admin.http.post("/events", json={**EVENT, "description": f"About {SECRET}."})
            admin.http.get("/events", params={"search": SECRET})
            admin.http.get("/events", headers={"cookie": SECRET, "idempotency-key": SECRET})
            last = admin.http.get("/auth/me").headers["x-correlation-id"]
            lines_of(deployment.public, last, 1)
        output = "".join(process.output for process in deployment.processes.values())
        # In development an invitation's mail is printed, as there is nobody who would send it.
        output = "\n".join(line for line in output.splitlines() if '"message":"mail to ' not in line)
        for secret in (SECRET, PASSWORD, admin.token, invited.json()["token"], *tokens):
            assert secret not in output


@contextmanager
def unread(database_url: str, folder: Path, **settings: str) -> Iterator[tuple[Process, IO[bytes]]]:
    """A process whose standard error is a pipe that is read until it listens, and then no more."""
    values = {
        "DATABASE_URL": database_url,
        "SERVER_PORT": "0",
        "TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
        "LOGS_FORMAT": "json",
        **settings,
    }
    with subprocess.Popen(
        [sys.executable, *PROGRAM, "serve"],
        env=environment({f"EVENTBOARD_{name}": value for name, value in values.items()}),
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as popen:
        assert popen.stderr
        said = b""
        while b"for operators" not in said:
            line = popen.stderr.readline()
            assert line, said
            said += line
        with (folder / "said").open("w+b") as output:
            output.write(said)
            output.flush()
            public = re.search(rb"listening on (http://[\d.:]+)", said)
            assert public
            try:
                yield Process(popen, public[1].decode(), output), popen.stderr
            finally:
                popen.kill()


def test_pipe_that_nobody_reads(database_url: str, tmp_path: Path) -> None:
    """Requests go on as if nothing were; and the process ends when it is told to, within its time, with exit code 0."""
    with unread(database_url, tmp_path) as (process, pipe), httpx.Client(base_url=process.url) as http:
        # Some 60 kB of lines more than the pipe holds.
        path = f"/nothing/{'x' * 2000}"
        for _ in range(2 * PIPE // 2000):
            assert http.get(path).status_code == 404
        assert http.get("/health/live").status_code == 200
        assert scraped(process)["eventboard_log_lines_dropped_total"] == 0
        begun = time.monotonic()
        assert process.stop(signal.SIGINT) == 0
        assert time.monotonic() - begun < PATIENCE / 2
        # What the pipe held is whole lines, but for the last.
        for line in pipe.read().splitlines()[:-1]:
            json.loads(line)


# Of the writer


def test_more_lines_than_wait() -> None:
    """What is too much is dropped at once; what waits is written in its order when somebody reads."""
    reading, writing = os.pipe()
    writer = Writer(writing, most=10)
    writer.text = b"".join
    writer.say = lambda _: b""
    line = b"x" * (PIPE // 4)
    begun = time.monotonic()
    for _ in range(100):
        writer.put(line)
    assert time.monotonic() - begun < 1
    assert 100 - 10 - 5 - 10 <= writer.dropped <= 90
    kept = 100 - writer.dropped
    got = b""
    while len(got) < kept * len(line):
        got += os.read(reading, PIPE)
    assert got == line * kept
    os.close(reading)
    before = writer.dropped
    writer.put(line)
    writer.close()
    assert writer.dropped > before
    os.close(writing)


def test_said_when_it_is_read_again() -> None:
    """The log tells how many lines were dropped, and doesn't tell it again."""
    reading, writing = os.pipe()
    writer = Writer(writing, most=10)
    log = Log(level="INFO", json=True, service="test", values=False, writer=writer, colour=False)
    filling = "x" * (PIPE // 4)

    def say() -> None:
        for _ in range(100):
            logger.info(filling)
        told, said, got = 0, 0, b""
        while told + said < 100:
            got += os.read(reading, PIPE)
            *whole, got = got.split(b"\n")
            for line in map(json.loads, whole):
                if line["message"] == filling:
                    told += 1
                else:
                    said += int(line["message"].split()[0])
        assert said == writer.dropped > 0
        # Nothing waits any more, so this isn't dropped.
        logger.info("last")
        writer.close()
        got += os.read(reading, PIPE)
        assert [json.loads(line)["message"] for line in got.splitlines()] == ["last"]

    sinking(log, say)
    os.close(reading)
    os.close(writing)


def test_pipe_that_does_not_block() -> None:
    """A terminal may have been set so by another program: nothing is lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = Writer(writing)
    lines = [b"%d" % number for number in range(PIPE)]
    for start in range(0, PIPE, 1000):
        writer.put(b"\n".join(lines[start : start + 1000]))
    got = b""
    while got.count(b"\n") < len(lines):
        got += os.read(reading, PIPE)
    assert got.splitlines() == lines
    writer.close()
    os.close(reading)
    os.close(writing)


# Of a line


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Callable[..., tuple[Log, Callable[[], list[str]]]]]:
    """A log that writes to a file, and its lines so far."""
    file = (tmp_path / "log").open("w+b")
    writers: list[Writer] = []

    def make(*, json: bool = True, values: bool = False, level: str = "INFO") -> tuple[Log, Callable[[], list[str]]]:
        writer = Writer(file.fileno())
        writers.append(writer)
        log = Log(level=level, json=json, service="test", values=values, writer=writer, colour=False)

        def lines() -> list[str]:
            writer.close()
            return (tmp_path / "log").read_text().splitlines()

        return log, lines

    yield make
    file.close()


def failing(secret: str) -> Exception:
    try:
        try:
            dict[str, str]()[secret]
        except KeyError as error:
            raise ValueError(f"no {secret} here") from error
    except ValueError as error:
        return error
    raise AssertionError


def sinking(log: Log, say: Callable[[], None]) -> None:
    number = logger.add(log.sink, format=lambda _: "", level="DEBUG", diagnose=False)
    try:
        say()
    finally:
        logger.remove(number)


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_exception(logged: Any, as_json: bool) -> None:
    """Its type, its place and its cause, once; of what it says only a developer's own machine tells."""
    log, lines = logged(json=as_json)
    sinking(log, lambda: logger.opt(exception=failing(SECRET)).error("it failed"))
    told = "\n".join(lines())
    assert SECRET not in told
    for part in ("ValueError", "KeyError", "it failed", f"{Path(__file__).name}"):
        assert part in told
    assert told.count("ValueError") == 1
    if as_json:
        (line,) = told.splitlines()
        error = json.loads(line)["error"]
        assert error["type"] == "ValueError"
        assert error["cause"]["type"] == "KeyError"
        assert "cause" not in error["cause"]


def test_exception_for_a_developer(logged: Any) -> None:
    log, lines = logged(json=False, values=True)
    sinking(log, lambda: logger.opt(exception=failing(SECRET)).error("it failed"))
    assert f"ValueError: no {SECRET} here" in lines()


def test_correlation_id_of_whoever_logs(logged: Any) -> None:
    """It needs no telling: the context has it."""
    log, lines = logged()

    def say() -> None:
        with context.use(context.Context("the-id")):
            logger.info("inside")
        logger.info("outside")

    sinking(log, say)
    inside, outside = map(json.loads, lines())
    assert inside["correlation_id"] == "the-id"
    assert "correlation_id" not in outside


def test_level(logged: Any) -> None:
    """A request's line is INFO, and a WARNING where it was our fault."""
    log, lines = logged(level="WARNING")
    of = context.Context("the-id")
    for path, status in ((b"/fine", 200), (b"/theirs", 404), (b"/ours", 503)):
        log.request({"method": "GET", "raw_path": path}, status, time.time(), 0.001, of)
    (line,) = lines()
    assert (json.loads(line)["path"], json.loads(line)["level"]) == ("/ours", "WARNING")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_order(logged: Any, as_json: bool) -> None:
    """Requests and whatever else there is to say, as they came."""
    log, lines = logged(json=as_json)
    of = context.Context("the-id")

    def say() -> None:
        for number in range(20):
            logger.info("said {}", number)
            log.request({"method": "GET", "raw_path": b"/%d" % number}, 200, time.time(), 0.001, of)

    sinking(log, say)
    said = [json.loads(line)["message"] if as_json else line.split(maxsplit=2)[2] for line in lines()]
    assert [message.partition(" 200")[0] for message in said] == [
        message for number in range(20) for message in (f"said {number}", f"GET /{number}")
    ]


def test_times(logged: Any) -> None:
    """Each is its request's own, to the microsecond, in UTC, whatever was before it."""
    log, lines = logged()
    of = context.Context("the-id")
    times = (1_764_236_488.25, 1_764_236_487.000001, 1_764_236_488.0, 1_764_236_489.999999, 951_782_399.5)
    for at in times:
        log.request({"method": "GET", "raw_path": b"/"}, 200, at, 0.012345, of)
    told = [json.loads(line) for line in lines()]
    assert [line["timestamp"] for line in told] == [
        "2025-11-27T09:41:28.250000Z",
        "2025-11-27T09:41:27.000001Z",
        "2025-11-27T09:41:28.000000Z",
        "2025-11-27T09:41:29.999999Z",
        "2000-02-28T23:59:59.500000Z",
    ]
    assert {line["duration_ms"] for line in told} == {12.35}


def test_half_a_character(logged: Any) -> None:
    """What no encoding can hold is told in another way."""
    log, lines = logged()
    sinking(log, lambda: logger.info("half \udcff"))
    (line,) = lines()
    assert json.loads(line)["message"] == r"'half \udcff'"


def test_text(logged: Any) -> None:
    """A time, a level, what happened, the correlation id: as docs/operations.md shows it."""
    log, lines = logged(json=False)
    of = context.Context("the-id")
    of.notes.operation = "events.create"
    of.notes.caller = Principal(uuid4(), uuid4(), Role.USER, "Ada", uuid4(), 0)
    log.request({"method": "POST", "raw_path": b"/events"}, 201, time.time(), 0.0123, of)
    (line,) = lines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO    POST /events 201 12\.3 ms events\.create the-id", line)


def test_libraries() -> None:
    """Whatever logs by the standard library, or warns, has a line like any other; asyncio's tells no values."""
    program = f"""
import asyncio, logging, warnings
from eventboard.platform.logs import configure
configure(level="INFO", json=True, service="test", values=False)
logging.getLogger("asyncpg").warning("from %s", "asyncpg")
warnings.warn("mind this")
async def fail():
    raise ValueError("{SECRET}")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["message"].partition(":")[0] for line in lines] == ["asyncpg", "py.warnings", "asyncio"]
    assert lines[0]["message"] == "asyncpg: from asyncpg"
    assert "mind this" in lines[1]["message"]
    assert lines[2]["error"]["type"] == "ValueError"
    assert SECRET not in ran.stderr


def test_dropped_is_counted() -> None:
    """As a metric, which never goes back."""
    reading, writing = os.pipe()
    writer = Writer(writing, most=0)
    log = Log(level="INFO", json=True, service="test", values=False, writer=writer, colour=False)
    metrics = Metrics()
    log.counted(metrics)
    for number in (1, 2):
        writer.put(b"x")
        assert parsed(metrics.text().decode())["eventboard_log_lines_dropped_total"] == number
    writer.close()
    os.close(reading)
    os.close(writing)
