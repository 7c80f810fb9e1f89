"""`eventboard trace`: the tree as it is printed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from eventboard.commands.trace import Span, SpanContext, draw
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, Process, address_of, admin_of, serving, spawned

BEGAN = datetime(2027, 1, 15, 8, 0, 0, 500_000, UTC)


def span(
    number: int, parent: int, step: str, began: float, took: float, name: str = "", **attributes: str | int
) -> Span:
    """Times are in milliseconds from the request's beginning."""
    return Span(
        name=name or step,
        context=SpanContext("0x" + "a" * 32, f"0x{number:016x}"),
        parent_id=f"0x{parent:016x}" if parent else None,
        start_time=BEGAN + timedelta(milliseconds=began),
        end_time=BEGAN + timedelta(milliseconds=began + took),
        attributes={"eventboard.step": step, **{name.replace("__", "."): value for name, value in attributes.items()}},
    )


# A create of which two attempts were lost; the spans are those of two processes, in no order.
SERVED: dict[str, str | int] = {
    "eventboard__correlation_id": "abc-123",
    "http__request__method": "POST",
    "http__response__status_code": 201,
}
CREATE = [
    span(9, 7, "Events Service", 618.0, 28.0, "events.create", **SERVED, http__route="/rpc/events.create"),
    span(10, 9, "Idempotency check", 619.0, 2.0),
    span(11, 10, "Database query", 619.1, 1.9, "SELECT events.idempotency_keys"),
    span(12, 9, "Response serialization", 645.0, 0.2),
    span(1, 0, "Gateway", 0.0, 650.0, "POST /events", **SERVED, http__route="/events"),
    span(2, 1, "JWT validation", 0.1, 5.04),
    span(3, 1, "Route to service", 5.3, 644.2, "events.create"),
    span(4, 3, "Attempt", 5.4, 12.0, "events.create", eventboard__attempt=1, error__type="LostError"),
    span(5, 3, "Wait", 17.4, 196.0),
    span(6, 3, "Attempt", 213.4, 3.0, "events.create", eventboard__attempt=2, error__type="LostError"),
    span(13, 3, "Wait", 216.4, 400.0),
    span(7, 3, "Attempt", 616.4, 30.0, "events.create", eventboard__attempt=3),
    span(8, 1, "Response serialization", 649.0, 0.1),
]

DRAWN = f"""\
Request: abc-123  POST /events 201, 2027-01-15T08:00:00.500Z, trace {"a" * 32}
├─ Gateway: 650ms
│  ├─ JWT validation: 5.0ms
│  ├─ Route to service: 644ms  events.create
│  │  ├─ Attempt 1: 12.0ms  LostError
│  │  ├─ Wait: 196ms
│  │  ├─ Attempt 2: 3.0ms  LostError
│  │  ├─ Wait: 400ms
│  │  └─ Attempt 3: 30.0ms
│  └─ Response serialization: 0.1ms
└─ Events Service: 28.0ms  events.create, attempt 3
   ├─ Idempotency check: 2.0ms
   │  └─ Database query: 1.9ms  SELECT events.idempotency_keys
   └─ Response serialization: 0.2ms"""


def test_drawn() -> None:
    """What took the time, in which process, and which attempts were lost."""
    assert draw(CREATE, "abc-123", colour=False) == DRAWN


def test_drawn_in_colour() -> None:
    """The same text, with what a terminal makes colours of."""
    coloured = draw(CREATE, "abc-123", colour=True)
    assert "\x1b[31mLostError\x1b[0m" in coloured
    for code in ("\x1b[2m", "\x1b[31m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == DRAWN


def traced(correlation_id: str, **settings: str) -> tuple[int, str]:
    with spawned("trace", correlation_id, **settings) as process:
        return process.popen.wait(PATIENCE), process.output


@pytest.fixture(scope="module")
def process(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Requests of these tests need no database."""
    settings = {
        "DATABASE_URL": cluster_url,
        "SERVER_PORT": "0",
        "TOKENS_KEY_FILE": str(tmp_path_factory.mktemp("keys") / "signing-key.pem"),
    }
    with spawned("serve", **settings) as process:
        process.url = address_of(process)
        yield process


def test_request_of_a_process(process: Process) -> None:
    """The command asks the process for it; nothing but text goes into a pipe."""
    correlation_id = str(uuid4())
    assert httpx.get(f"{process.url}/nowhere", headers={"X-Correlation-ID": correlation_id}).status_code == 404
    code, output = traced(correlation_id, SERVER_ADMIN_PORT=str(urlsplit(admin_of(process)).port))
    assert code == 0, output
    request, gateway = output.splitlines()
    assert request.startswith(f"Request: {correlation_id}  GET - 404, ")
    assert gateway.startswith("└─ Gateway: ")
    assert "\x1b" not in output


def test_unknown_id(process: Process) -> None:
    """One line that says why it may be missing, and no success."""
    port = str(urlsplit(admin_of(process)).port)
    code, output = traced("nobody-had-this", SERVER_ADMIN_PORT=port)
    assert code == 1
    assert output.startswith("eventboard: no request with the correlation id nobody-had-this was recorded")
    assert output.count("\n") == 1


def test_sdk_disabled(database_url: str, tmp_path: Path) -> None:
    """OpenTelemetry's own switch counts: nothing is recorded, and requests are served."""
    with serving(database_url, tmp_path, OTEL_SDK_DISABLED="true") as process:
        answer = httpx.get(f"{process.url}/problems", headers={"X-Correlation-ID": "any"})
        assert answer.status_code == 200
        assert traced("any", SERVER_ADMIN_PORT=str(urlsplit(admin_of(process)).port))[0] == 1


def test_nobody_to_ask() -> None:
    """One line, with where it looked."""
    port = str(free_port())
    assert traced("any", SERVER_ADMIN_PORT=port) == (1, f"eventboard: nothing listens on 127.0.0.1, port {port}\n")


def test_invalid_correlation_id() -> None:
    """What can't be one isn't looked up."""
    assert traced("a b") == (1, "eventboard: 'a b' is not a correlation id\n")
