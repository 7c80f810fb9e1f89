"""Spans at a collector, by OTLP; and collectors that are away, or take and never answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from eventboard.app import build
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.otlp import FAREWELL, OtlpExport
from eventboard.platform.tracing import Recorder, Span
from eventboard.settings import SettingsError, load
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.collector import Collector, Sent, collecting
from tests.support.processes import serving
from tests.support.services import free_port
from tests.support.shapes import ALL, CREDENTIAL, deployed
from tests.support.traces import request

SERVER, CLIENT, INTERNAL = 2, 3, 1
UNAVAILABLE, NOT_FOUND = ServiceError(Code.UNAVAILABLE, "secret"), ServiceError(Code.NOT_FOUND, "secret")
TRACE, CALLER = "c" * 32, "d" * 16


def asked(sent: Collector, trace: str) -> dict[str, Sent]:
    """The spans of a trace by service and name; those that come several times are told apart by nothing."""
    return {f"{span.service}: {span.name}": span for span in sent.spans if span.trace == trace}


@pytest.mark.parametrize("shape", [ALL, "gateway+auth+events"])
def test_create(database_url: str, tmp_path: Path, shape: str) -> None:
    """One trace from the client's span to the statement, whichever processes it went through; nothing secret in it."""
    correlation_id = str(uuid4())
    with collecting() as collector:
        settings = {"TRACING_ENDPOINT": collector.url, "TRACING_SAMPLE_RATIO": "0"}
        with deployed(shape, database_url, tmp_path, **settings) as deployment:
            board = Board(deployment.public.url, database_url)
            user = board.organization().user
            context = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Correlation-ID": correlation_id}
            answer = user.http.post("/events", json=EVENT, headers={**context, "Idempotency-Key": "exported"})
            assert answer.status_code == 201
            login = {"email": user.email, "password": "wrong horse battery"}
            board.client().post("/auth/login", json=login, headers={"traceparent": f"00-{'e' * 32}-{CALLER}-01"})
            board.close()
    assert collector.paths == {"/v1/traces"}
    # What wasn't asked for is not there: none of it was sampled.
    assert {span.trace for span in collector.spans} == {TRACE, "e" * 32}
    spans = asked(collector, TRACE)
    events = "eventboard" if shape == ALL else "eventboard-events"
    gateway = "eventboard" if shape == ALL else "eventboard-gateway"

    whole = spans[f"{gateway}: POST /events"]
    assert (whole.parent, whole.kind, whole.failed) == (CALLER, SERVER, False)
    # Sampled; and its parent is known to be in another process.
    assert whole.flags == 0x301
    assert whole.attributes == {
        "http.request.method": "POST",
        "http.route": "/events",
        "http.response.status_code": 201,
        "eventboard.correlation_id": correlation_id,
    }
    by_id = {span.id: span for span in collector.spans}
    insert = spans[f"{events}: INSERT events.events"]
    assert (insert.kind, insert.attributes["db.system.name"]) == (CLIENT, "postgresql")
    assert insert.flags == 0x101
    assert insert.attributes["db.collection.name"] == "events.events"
    way, span = [], insert
    while span.parent != CALLER:
        span = by_id[span.parent]
        way.append(f"{span.service}: {span.name}")
    hop = [f"{events}: events.create", f"{gateway}: events.create", f"{gateway}: Route to service events.create"]
    service = [f"{events}: Events Service events.create"] if shape == ALL else hop
    assert way == [*service, f"{gateway}: POST /events"]
    # One whole only has a parent that nobody here has.
    assert [span.name for span in spans.values() if span.parent not in by_id] == ["POST /events"]

    refused = asked(collector, "e" * 32)[f"{gateway}: POST /auth/login"]
    assert refused.attributes["http.response.status_code"] == 401
    assert not refused.failed
    everything = b"".join(collector.raw)
    for secret in (PASSWORD, "wrong horse", user.email, user.token, "exported", EVENT["title"], CREDENTIAL):
        assert secret.encode() not in everything


def test_share_of_the_traces(database_url: str, tmp_path: Path) -> None:
    """All of those that begin here, with a ratio of 1; none whose client has decided otherwise."""
    with collecting() as collector:
        settings = {"TRACING_ENDPOINT": f"{collector.url}/some/where", "TRACING_SAMPLE_RATIO": "1"}
        with serving(database_url, tmp_path, **settings) as process, httpx.Client(base_url=process.url) as http:
            for _ in range(5):
                http.get("/problems")
            http.get("/nowhere", headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
            http.get("/health/live")
    assert collector.paths == {"/some/where"}
    assert [span.name for span in collector.spans] == ["GET /problems"] * 5


@pytest.mark.parametrize("endpoint", ["collector:4318", "https://", "grpc://me:sesame@collector:4317", "http://a b/"])
def test_endpoint_that_is_none(database_url: str, tmp_path: Path, endpoint: str) -> None:
    """It isn't found out when the first batch is to leave; the line doesn't show it, for it may hold a password."""
    given = {"DATABASE_URL": database_url, "TOKENS_KEY_FILE": str(tmp_path / "key.pem"), "TRACING_ENDPOINT": endpoint}
    with pytest.raises(SettingsError) as refusal:
        build(load({f"EVENTBOARD_{name}": value for name, value in given.items()}))
    assert str(refusal.value).startswith("EVENTBOARD_TRACING_ENDPOINT: ")
    assert "sesame" not in str(refusal.value)


@asynccontextmanager
async def exporting(endpoint: str, *, queue: int = 1000) -> AsyncIterator[Recorder]:
    export = OtlpExport(endpoint, service="test", version="1", queue=queue, patience=lambda: 10.0)
    await export.open()
    try:
        yield Recorder("Gateway", keep=1, ratio=1.0, export=export)
    finally:
        await export.close()


def record(recorder: Recorder, count: int, status: int = 200) -> None:
    for _ in range(count):
        with request(recorder, status=status), Span("Database query", "SELECT events.events"):
            pass


async def test_collector_that_never_answers() -> None:
    """It costs a request nothing; what waits is bounded, the newest stay; the end doesn't wait for it for long."""
    with collecting() as collector:
        collector.open.clear()
        async with exporting(collector.url, queue=10) as recorder:
            record(recorder, 10)
            assert await asyncio.to_thread(collector.arrived.wait, 10)
            begun = time.monotonic()
            record(recorder, 500)
            assert time.monotonic() - begun < 1
            begun = time.monotonic()
        assert time.monotonic() - begun < FAREWELL + 1
        collector.open.set()
    # The batch that was on its way, at most twice, and the ten that waited: of each the whole and a query.
    assert len(collector.spans) <= 2 * (10 + 10 + 10)


async def test_collector_that_is_away() -> None:
    """The end doesn't wait for it for long, either."""
    async with exporting(f"http://127.0.0.1:{free_port()}") as recorder:
        record(recorder, 300)
        begun = time.monotonic()
    assert time.monotonic() - begun < FAREWELL + 1


async def test_errors() -> None:
    """A 5xx and its cause are errors; what a caller did wrong is none."""
    with collecting() as collector:
        async with exporting(collector.url) as recorder:
            for error, status in ((UNAVAILABLE, 503), (NOT_FOUND, 404), (ValueError("secret"), 500)):
                with request(recorder, status=status), pytest.raises(type(error)), Span("JWT validation"):
                    raise error
    told = [(span.attributes.get("error.type"), span.failed) for span in collector.spans if span.kind == INTERNAL]
    assert sorted(told) == [("ValueError", True), ("not-found", False), ("unavailable", True)]
    wholes = {
        span.attributes["http.response.status_code"]: span.failed for span in collector.spans if span.kind == SERVER
    }
    assert wholes == {503: True, 404: False, 500: True}
    assert b"secret" not in b"".join(collector.raw)
