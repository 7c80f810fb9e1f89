"""Lines of the log: what they hold and never hold, and that nobody waits for whoever reads them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx
import pytest
from loguru import logger

from eventboard.core import request_context
from eventboard.observability.logging import QueuedSink, add_request_context, add_sink
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.metrics import scraped
from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import (
    PATIENCE,
    PROGRAM,
    Process,
    environment,
    patiently,
    serving,
    spawned,
    until_ready,
    until_said,
)
from tests.support.sessions import locked, waiting
from tests.support.shapes import deployed
from tests.support.stopwatch import Stopwatch

# Bytes that a pipe holds when nobody reads it, with Linux.
PIPE = 65_536
# Seconds: the grace time, and some.
IN_TIME = 15.0
SECRET = "sesame"


def lines_of(process: Process, correlation_id: str, count: int) -> list[dict[str, Any]]:
    """The lines with that id, once there are so many."""
    for _ in patiently(process):
        found = [line for line in process.output.splitlines() if correlation_id in line]
        if len(found) >= count:
            return [json.loads(line) for line in found]
    raise AssertionError


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
        for process in deployment.processes.values():
            process.stop()  # then all that it logs is there
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
    with (
        unread(database_url, tmp_path) as (process, pipe),
        httpx.Client(base_url=process.url, verify=NO_TLS, timeout=PATIENCE) as http,
    ):
        # Some 60 kB of lines more than the pipe holds.
        path = f"/nothing/{'x' * 2000}"
        for _ in range(2 * PIPE // 2000):
            assert http.get(path).status_code == 404
        assert http.get("/health/live").status_code == 200
        assert scraped(process)["eventboard_log_lines_dropped_total"] == 0
        begun = time.monotonic()
        assert process.stop(signal.SIGINT) == 0
        assert time.monotonic() - begun < IN_TIME
        # What the pipe held is whole lines, but for the last.
        for line in pipe.read().splitlines()[:-1]:
            json.loads(line)


def test_debug(database_url: str, tmp_path: Path) -> None:
    """Statements' summaries and what the caches decide, with the correlation id of the request; no values."""
    with serving(database_url, tmp_path, LOGS_LEVEL="DEBUG") as process:
        with closing(Board(process.url, database_url)) as board:
            user = board.organization().user
            answer = user.http.post("/events", json=EVENT, headers={"x-correlation-id": "abc-123"})
            assert answer.status_code == 201
            assert user.http.get("/events", headers={"x-correlation-id": "abc-124"}).status_code == 200
        until_said(process, "[abc-124] GET /events 200")
        assert re.search(r"DEBUG +\[abc-123\] INSERT events\.events\n", process.output)
        assert "[abc-123] access token: verified, and cached until it expires\n" in process.output
        assert "[abc-123] session check: not cached; auth is asked\n" in process.output
        assert re.search(r"\[abc-124\] session check: from the cache, \d\.\d s old", process.output)
        assert EVENT["title"] not in process.output


# Of the sink


def test_full_queue() -> None:
    """What is too much is dropped at once; what waits is written in its order when somebody reads; the log says so."""
    reading, writing = os.pipe()
    sink = QueuedSink(writing, size=10)
    counted: list[None] = []
    sink.on_drop = lambda: counted.append(None)
    line = "x" * (PIPE // 4 - 1) + "\n"
    with sinking(sink, json=True):
        with Stopwatch() as watch:
            for _ in range(100):
                sink.write(line)
        assert watch.seconds < 1
        got = b""
        while b"were dropped because they were not read in time" not in got:
            got += os.read(reading, PIPE)
        *whole, said = got.splitlines()
        assert sink.dropped == len(counted) == 100 - len(whole) > 0
        assert set(whole) == {line.strip().encode()}
        assert json.loads(said)["message"].startswith(f"{sink.dropped} lines of this log")
    os.close(reading)
    before = sink.dropped
    sink.write(line)
    sink.stop()
    assert sink.dropped > before
    os.close(writing)


def test_pipe_that_does_not_block() -> None:
    """A terminal may have been set so by another program: nothing is lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sink = QueuedSink(writing)
    lines = [f"{number}" for number in range(PIPE)]
    for start in range(0, PIPE, 1000):
        sink.write("".join(f"{line}\n" for line in lines[start : start + 1000]))
    got = b""
    while got.count(b"\n") < len(lines):
        got += os.read(reading, PIPE)
    assert got.decode().splitlines() == lines
    sink.stop()
    os.close(reading)
    os.close(writing)


# Of a line


@contextmanager
def sinking(sink: QueuedSink, **shape: Any) -> Iterator[None]:
    add_sink(sink, **{"level": "DEBUG", "json": True, "values": False, **shape})
    logger.configure(extra={"service": "test"}, patcher=add_request_context)
    try:
        yield
    finally:
        logger.remove()
        logger.configure(extra={}, patcher=None)


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """The lines that something logs, in a shape."""
    with (tmp_path / "log").open("w+b") as file:

        def lines(say: Callable[[], object], **shape: Any) -> list[str]:
            sink = QueuedSink(file.fileno())
            with sinking(sink, **shape):
                say()
                sink.stop()
            return (tmp_path / "log").read_text().splitlines()

        yield lines


def failing(secret: str) -> Exception:
    try:
        try:
            dict[str, str]()[secret]
        except KeyError as error:
            raise ValueError(f"no {secret} here") from error
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_exception(logged: Any, as_json: bool) -> None:
    """Its type, its place and its cause, once; its words are for a developer's own machine only."""
    lines = logged(lambda: logger.opt(exception=failing(SECRET)).error("it failed"), json=as_json)
    shown = "\n".join(lines)
    assert SECRET not in shown
    for part in ("ValueError", "KeyError", "it failed", f"{Path(__file__).name}"):
        assert part in shown
    assert shown.count("ValueError") == 1
    if as_json:
        error = json.loads(shown)["error"]
        assert error["type"] == "ValueError"
        assert error["cause"]["type"] == "KeyError"
        assert "cause" not in error["cause"]


def test_exception_for_a_developer(logged: Any) -> None:
    lines = logged(lambda: logger.opt(exception=failing(SECRET)).error("it failed"), json=False, values=True)
    assert f"ValueError: no {SECRET} here" in lines


def test_correlation_id_of_whoever_logs(logged: Any) -> None:
    """It is taken from the request's context, unless it is bound."""

    def say() -> None:
        with request_context.use(request_context.Context("the-id")):
            logger.info("inside")
            logger.bind(correlation_id="another").info("bound")
        logger.info("outside")

    inside, bound, outside = map(json.loads, logged(say))
    assert inside["correlation_id"] == "the-id"
    assert bound["correlation_id"] == "another"
    assert "correlation_id" not in outside


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_bound_values(logged: Any, as_json: bool) -> None:
    """What is bound or put into the context shows, whatever it is and whatever is in it."""

    def say() -> None:
        with logger.contextualize(batch=7):
            logger.bind(where=Path("/x"), shape="{braces} <red>", nothing=None).info("said {}", "{so} <b>")

    (line,) = logged(say, json=as_json)
    if as_json:
        found = json.loads(line)
        assert (found["message"], found["batch"], found["where"]) == ("said {so} <b>", 7, "/x")
        assert found["shape"] == "{braces} <red>"
        assert "nothing" not in found
    else:
        assert line.endswith("said {so} <b> batch=7 where=/x shape={braces} <red>")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_order(logged: Any, as_json: bool) -> None:
    """As they came."""

    def say() -> None:
        for number in range(200):
            logger.info("said {}", number)

    lines = logged(say, json=as_json)
    said = [json.loads(line)["message"] if as_json else line.split(maxsplit=2)[2] for line in lines]
    assert said == [f"said {number}" for number in range(200)]


def test_time(logged: Any) -> None:
    """In UTC, to the microsecond."""
    before = datetime.now(UTC)
    (line,) = logged(lambda: logger.info("now"))
    timestamp = json.loads(line)["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)
    assert before <= datetime.fromisoformat(timestamp) <= datetime.now(UTC)


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_half_a_character(logged: Any, as_json: bool) -> None:
    """What no encoding can hold is shown by its number."""
    (line,) = logged(lambda: logger.info("half \udcff"), json=as_json)
    assert (json.loads(line)["message"] if as_json else line.split(maxsplit=2)[2]) == r"half \udcff"


def test_text(database_url: str, tmp_path: Path) -> None:
    """A time, a level, the correlation id, what happened: as docs/operations/watch.md shows it."""
    with serving(database_url, tmp_path) as process:
        httpx.get(f"{process.url}/problems", headers={"x-correlation-id": "the-id"}, verify=NO_TLS)
        until_said(process, "[the-id]")
        (line,) = [line for line in process.output.splitlines() if "[the-id]" in line]
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO    \[the-id\] GET /problems 200 \d+\.\d ms", line)


def test_level(database_url: str, tmp_path: Path) -> None:
    """Without a line for each request where the level is WARNING; what failed by our fault has one still."""
    port = free_port()
    settings = {
        "DATABASE_URL": database_url,
        "TOKENS_KEY_FILE": str(tmp_path / "signing-key.pem"),
        "SERVER_PORT": str(port),
        "SERVER_MAX_REQUESTS": "1",
        "BUDGETS_READ": f"{PATIENCE:g}",
        "LOGS_LEVEL": "WARNING",
        "LOGS_FORMAT": "json",
    }
    url = f"http://127.0.0.1:{port}"
    with spawned("serve", **settings) as process, closing(Board(url, database_url)) as board:
        process.url = url
        until_ready(process)
        user = board.organization().user
        event = user.create()
        with ThreadPoolExecutor(1) as threads, locked(database_url):
            held = threads.submit(user.http.get, f"/events/{event['id']}")
            while waiting(board) < 1:
                assert not held.done()
            assert httpx.get(f"{process.url}/problems", verify=NO_TLS).status_code == 503
        assert held.result().status_code == 200
        until_said(process, "/problems")
        lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    assert [(line["path"], line["status"], line["level"]) for line in lines] == [("/problems", 503, "WARNING")]


def test_libraries() -> None:
    """Whatever logs by the standard library, or warns, has a line like any other; asyncio's has no values.

    A malformed call never raises into the library.
    """
    program = f"""
import asyncio, logging, warnings
from eventboard.observability.logging import configure
configure(level="INFO", json=True, service="test", values=False)
logging.getLogger("asyncpg").warning("from %s", "asyncpg")
logging.getLogger("x").warning("%d", "{SECRET}")
logging.getLogger("x").warning("%s %s", "{SECRET}")
logging.getLogger("x").warning("%(name)s", {{"other": "{SECRET}"}})
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
    assert [line["message"].partition(":")[0] for line in lines] == ["asyncpg", *["x"] * 3, "py.warnings", "asyncio"]
    assert [line["message"] for line in lines[:4]] == [
        "asyncpg: from asyncpg",
        "x: malformed log call: '%d'",
        "x: malformed log call: '%s %s'",
        "x: malformed log call: '%(name)s'",
    ]
    assert "mind this" in lines[4]["message"]
    assert lines[5]["error"]["type"] == "ValueError"
    assert SECRET not in ran.stderr
