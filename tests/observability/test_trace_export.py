"""Spans at a collector, by OTLP; and collectors that are away, or take and never answer."""

import time
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from eventboard.modules.auth.keys import KeyRing
from eventboard.observability.trace_provider import FLUSH
from tests.support.board import EVENT, PASSWORD, Board
from tests.support.collector import Collector, Sent, collecting
from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, serving
from tests.support.shapes import ALL, CREDENTIAL, deployed
from tests.support.stopwatch import Stopwatch

SERVER, CLIENT = 2, 3
# Seconds that a process goes on accepting after SIGTERM (server.drain in config/base.toml).
DRAIN = 1.0
TRACE, CALLER = "c" * 32, "d" * 16
# Milliseconds between two exports.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


def asked(sent: Collector, trace: str) -> dict[str, Sent]:
    """The spans of a trace by service and name; those that come several times are told apart by nothing."""
    return {f"{span.service}: {span.name}": span for span in sent.spans if span.trace == trace}


def complete(spans: list[Sent]) -> bool:
    """Both requests are there, and whatever is above a span."""
    known = {CALLER, *(span.id for span in spans)}
    return {"POST /events", "POST /auth/login"} <= {span.name for span in spans} and all(
        span.parent in known for span in spans
    )


@pytest.mark.parametrize("shape", [ALL, "gateway+auth+events"])
def test_create(database_url: str, tmp_path: Path, shape: str) -> None:
    """One trace from the client's span to the statement, whichever processes it went through; nothing secret in it."""
    correlation_id = str(uuid4())
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            **SOON,
        }
        with deployed(shape, database_url, tmp_path, **settings) as deployment:
            board = Board(deployment.public.url, database_url)
            user = board.organization().user
            context = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Correlation-ID": correlation_id}
            answer = user.http.post("/events", json=EVENT, headers={**context, "Idempotency-Key": "exported"})
            assert answer.status_code == 201
            login = {"email": user.email, "password": "wrong horse battery"}
            board.client().post("/auth/login", json=login, headers={"traceparent": f"00-{'e' * 32}-{CALLER}-01"})
            board.close()
            collector.until(complete)
    assert collector.paths == {"/v1/traces"}
    # Nothing else was sampled.
    assert {span.trace for span in collector.spans} == {TRACE, "e" * 32}
    spans = asked(collector, TRACE)
    events = "eventboard" if shape == ALL else "eventboard-events"
    gateway = "eventboard" if shape == ALL else "eventboard-gateway"

    whole = spans[f"{gateway}: POST /events"]
    assert (whole.parent, whole.kind, whole.failed) == (CALLER, SERVER, False)
    assert {name: value for name, value in whole.attributes.items() if not name.startswith("eventboard.step")} == {
        "http.request.method": "POST",
        "http.route": "/events",
        "http.response.status_code": 201,
        "rpc.method": "events.create",
        "eventboard.correlation_id": correlation_id,
    }
    by_id = {span.id: span for span in collector.spans}
    insert = spans[f"{events}: INSERT events.events"]
    assert (insert.kind, insert.attributes["db.system.name"]) == (CLIENT, "postgresql")
    assert insert.attributes["db.query.summary"] == "INSERT events.events"
    way, span = [], insert
    while span.parent != CALLER:
        span = by_id[span.parent]
        way.append((span.service, span.attributes["eventboard.step"]))
    hop = [(events, "Events Service"), (gateway, "Attempt"), (gateway, "Route to service")]
    assert way == [*([(events, "Events Service")] if shape == ALL else hop), (gateway, "Gateway")]
    # Only the whole has a parent that nobody here has.
    assert [span.name for span in spans.values() if span.parent not in by_id] == ["POST /events"]

    rejected = asked(collector, "e" * 32)[f"{gateway}: POST /auth/login"]
    assert rejected.attributes["http.response.status_code"] == 401
    assert not rejected.failed
    everything = b"".join(collector.raw)
    for secret in (PASSWORD, "wrong horse", user.email, user.token, "exported", EVENT["title"], CREDENTIAL):
        assert secret.encode() not in everything


def test_variables_of_the_sdk(database_url: str, tmp_path: Path) -> None:
    """The sampler, the service's name and the traces' own endpoint are OpenTelemetry's to set."""
    with collecting() as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/some/where",
            "OTEL_SERVICE_NAME": "board",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            **SOON,
        }
        with (
            serving(database_url, tmp_path, **settings) as process,
            httpx.Client(base_url=process.url, verify=NO_TLS, timeout=PATIENCE) as http,
        ):
            for _ in range(5):
                http.get("/problems")
            http.get("/nowhere", headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
            http.get("/health/live")
            collector.until(lambda spans: len(spans) >= 5)
    assert collector.paths == {"/some/where"}
    # Development records every request, but not where the client decided otherwise.
    assert [(span.service, span.name) for span in collector.spans] == [("board", "GET /problems")] * 5


def test_production_records_a_share(database_url: str, tmp_path: Path) -> None:
    """One in a hundred, unless the sampler's variables or the client say otherwise."""
    KeyRing(tmp_path / "signing-key.pem", create=True)
    strong = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    with collecting() as collector:
        settings = {
            "ENVIRONMENT": "production",
            "SERVER_HOST": "127.0.0.1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            **SOON,
        }
        with (
            serving(database_url, tmp_path, **settings, **strong) as process,
            httpx.Client(base_url=process.url, verify=NO_TLS, timeout=PATIENCE) as http,
        ):
            for _ in range(1000):
                http.get("/nowhere")
            http.get("/problems", headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
            collector.until(lambda spans: "GET /problems" in {span.name for span in spans})
    names = [span.name for span in collector.spans]
    assert names.count("GET /problems") == 1
    # Of a thousand, with one in a hundred: none, or more than forty, would be one case in twenty thousand.
    assert 0 < len(names) - 1 < 40


@pytest.mark.parametrize("answers", [True, False])
def test_collector_that_takes_nothing(database_url: str, tmp_path: Path, answers: bool) -> None:
    """A collector that is away, or never answers, costs no request anything, and the end hardly waits for it."""
    with collecting() as collector:
        collector.open.clear()
        url = collector.url if not answers else f"http://127.0.0.1:{free_port()}"
        with serving(database_url, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url) as process:
            with httpx.Client(base_url=process.url, verify=NO_TLS, timeout=PATIENCE) as http, Stopwatch() as watch:
                for _ in range(300):
                    begun = time.monotonic()
                    http.get("/problems")
                    assert watch.since(begun) < 1
            with Stopwatch() as watch:
                assert process.stop() == 0
            assert watch.seconds < DRAIN + FLUSH + 2
        collector.open.set()
