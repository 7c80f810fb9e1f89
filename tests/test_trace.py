"""`eventboard trace`: the tree as it is printed."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from eventboard.platform.traces import ToldSpan, ToldTrace
from eventboard.trace import drawn
from tests.support.processes import PATIENCE, Process, address_of, admin_of, serving, spawned
from tests.support.services import free_port

# A create of which two attempts were lost.
CREATE = ToldTrace(
    "abc-123",
    "a" * 32,
    1_800_000_000.5,
    "POST",
    "/events",
    201,
    [
        ToldSpan(0, -1, "Gateway", 0.0, 650.0, "", ""),
        ToldSpan(1, 0, "JWT validation", 0.1, 5.04, "", ""),
        ToldSpan(2, 0, "Route to service", 5.3, 644.2, "events.create", ""),
        ToldSpan(3, 2, "Attempt", 5.4, 12.0, "1", "LostError"),
        ToldSpan(4, 2, "Wait", 17.4, 196.0, "", ""),
        ToldSpan(5, 2, "Attempt", 213.4, 3.0, "2", "LostError"),
        ToldSpan(6, 2, "Wait", 216.4, 400.0, "", ""),
        ToldSpan(7, 2, "Attempt", 616.4, 30.0, "3", ""),
        ToldSpan(9, 7, "Events Service", 618.0, 28.0, "events.create", ""),
        ToldSpan(10, 9, "Idempotency check", 619.0, 2.0, "", ""),
        ToldSpan(11, 10, "Database query", 619.1, 1.9, "SELECT events.idempotency_keys", ""),
        ToldSpan(12, 9, "Response serialization", 645.0, 0.2, "", ""),
        ToldSpan(8, 0, "Response serialization", 649.0, 0.1, "", ""),
    ],
)

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
    assert drawn(CREATE, colour=False) == DRAWN


def test_drawn_in_colour() -> None:
    """The same text, with what a terminal makes colours of."""
    coloured = drawn(CREATE, colour=True)
    assert "\x1b[31mLostError\x1b[0m" in coloured
    for code in ("\x1b[2m", "\x1b[31m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == DRAWN


def traced(correlation_id: str, **settings: str) -> tuple[int, str]:
    with spawned("trace", correlation_id, **settings) as process:
        return process.popen.wait(PATIENCE), process.output


@pytest.fixture(scope="module")
def workers(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Two workers behind one port; requests of these tests need no database."""
    settings = {
        "DATABASE_URL": cluster_url,
        "SERVER_PORT": "0",
        "TOKENS_KEY_FILE": str(tmp_path_factory.mktemp("workers") / "signing-key.pem"),
    }
    with spawned("serve", "--workers", "2", **settings) as process:
        process.url = address_of(process)
        yield process


def test_any_worker_tells_of_all(workers: Process) -> None:
    """Whichever worker had the request, and whichever is asked; nothing but text goes into a pipe."""
    port = str(urlsplit(admin_of(workers)).port)
    for _ in range(6):
        correlation_id = str(uuid4())
        # A connection of its own each time: the kernel gives it to either worker.
        assert httpx.get(f"{workers.url}/nowhere", headers={"X-Correlation-ID": correlation_id}).status_code == 404
        code, output = traced(correlation_id, SERVER_ADMIN_PORT=port)
        assert code == 0, output
        request, gateway = output.splitlines()
        assert request.startswith(f"Request: {correlation_id}  GET - 404, ")
        assert gateway.startswith("└─ Gateway: ")
        assert "\x1b" not in output


def test_unknown_id(workers: Process) -> None:
    """One line, and no success."""
    port = str(urlsplit(admin_of(workers)).port)
    assert traced("nobody-had-this", SERVER_ADMIN_PORT=port) == (
        1,
        "eventboard: no request with the correlation id nobody-had-this is among the last that are kept\n",
    )


def test_nothing_recorded(database_url: str, tmp_path: Path) -> None:
    """One line, which says why."""
    with serving(database_url, tmp_path, TRACING_RECORD="off") as process:
        port = str(urlsplit(admin_of(process)).port)
        assert traced("any", SERVER_ADMIN_PORT=port) == (
            1,
            f"eventboard: 127.0.0.1:{port} records nothing: its EVENTBOARD_TRACING_RECORD is off\n",
        )


def test_nobody_to_ask() -> None:
    """One line, with where it looked."""
    port = str(free_port())
    assert traced("any", SERVER_ADMIN_PORT=port) == (1, f"eventboard: nothing listens on 127.0.0.1, port {port}\n")


def test_no_correlation_id() -> None:
    """What can't be one isn't asked for."""
    assert traced("a b") == (1, "eventboard: 'a b' is no correlation id\n")
