"""What moves `/metrics`, in every shape: each thing is done, and exactly its numbers move."""

from collections.abc import Callable, Sequence
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.metrics import foreground, moves, scraped, series_of
from tests.support.processes import Process, admin_of
from tests.support.shapes import Deployment

REQUESTS = "http_server_request_duration_seconds_count"
CALLS = "rpc_client_call_duration_seconds_count"
# Methods that the server lets through, and nobody here serves.
STRANGE = ("LINK", "MKCOL", "PROPFIND", "SEARCH")
KEYS = "eventboard_idempotency_total"


@pytest.fixture
def processes(deployments: Callable[[str], Deployment], shape: str) -> Sequence[Process]:
    return list(deployments(shape).processes.values())


def of_route(moved: dict[str, float]) -> dict[str, float]:
    """What a client asked: not what processes ask each other."""
    return {series: by for series, by in moved.items() if "/rpc/" not in series}


def test_requests(processes: Sequence[Process], organization: Organization) -> None:
    """By method, route and status; whichever event it was."""
    user = organization.user
    events = [user.create() for _ in range(3)]
    with moves(processes) as moved:
        for event in events:
            assert user.http.get(f"/events/{event['id']}").status_code == 200
        assert user.http.get(f"/events/{uuid4()}").status_code == 404
        assert user.http.patch(f"/events/{events[0]['id']}", json={"title": ""}).status_code == 400
    assert of_route(moved.of(REQUESTS)) == {
        line("GET", "/events/{id}", 200): 3,
        line("GET", "/events/{id}", 404): 1,
        line("PATCH", "/events/{id}", 400): 1,
    }
    assert moved.of(CALLS) == {
        series_of(CALLS, rpc_method="events.findOne"): 3,
        series_of(CALLS, rpc_method="events.findOne", error_type="not-found"): 1,
    }


def test_how_long_requests_take(processes: Sequence[Process], organization: Organization) -> None:
    """In buckets, from which quantiles are made: each request is in one, and all are in the last."""
    event = organization.user.create()
    family = "http_server_request_duration_seconds"
    with moves(processes) as moved:
        for _ in range(5):
            organization.user.http.get(f"/events/{event['id']}")
    labels = {"http_request_method": "GET", "http_route": "/events/{id}", "http_response_status_code": "200"}
    buckets = [by for series, by in moved.of(f"{family}_bucket").items() if 'http_route="/events/{id}"' in series]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 5
    assert 0 < moved.moved[series_of(f"{family}_sum", **labels)] < 5


def test_unknown_paths_and_methods(processes: Sequence[Process], board: Board) -> None:
    """Whoever tries everything makes a series for each method that there is, and no more."""
    with board.client() as http:
        for method in ("GET", *STRANGE):
            http.request(method, "/nothing")
        http.get("/problems/nothing")
        before = set(foreground(scraped(*processes)))
        with moves(processes) as moved:
            for _ in range(10):
                for method in ("GET", *STRANGE):
                    http.request(method, f"/nothing/{uuid4()}")
                http.get(f"/problems/{uuid4()}")
        assert set(foreground(scraped(*processes))) == before
    assert moved.of(REQUESTS) == {
        series_of(REQUESTS, http_request_method="GET", http_response_status_code="404"): 10,
        series_of(REQUESTS, http_request_method="_OTHER", http_response_status_code="404"): 10 * len(STRANGE),
        line("GET", "/problems/{code}", 404): 10,
    }


def test_idempotency(processes: Sequence[Process], organization: Organization) -> None:
    """Executed, replayed and refused; a write without a key is none of it."""
    user, key = organization.user, {"idempotency-key": uuid4().hex}
    with moves(processes) as moved:
        assert user.http.post("/events", json=EVENT, headers=key).status_code == 201
        assert user.http.post("/events", json=EVENT, headers=key).status_code == 201
        assert user.http.post("/events", json=EVENT, headers=key).status_code == 201
        assert user.http.post("/events", json={**EVENT, "title": "Another"}, headers=key).status_code == 422
        assert user.http.post("/events", json=EVENT).status_code == 201
    assert moved.of(KEYS) == {
        series_of(KEYS, rpc_method="events.create", outcome="executed"): 1,
        series_of(KEYS, rpc_method="events.create", outcome="replayed"): 2,
        series_of(KEYS, rpc_method="events.create", outcome="idempotency-key-reused"): 1,
    }


def test_stored_refusal(processes: Sequence[Process], organization: Organization) -> None:
    """A refusal is an outcome, too: executed once, then replayed."""
    user, key = organization.user, {"idempotency-key": uuid4().hex}
    event = organization.event_in("SUBMITTED")
    with moves(processes) as moved:
        for _ in range(2):
            assert user.http.post(f"/events/{event['id']}/submit", headers=key).status_code == 409
    assert moved.of(KEYS) == {
        series_of(KEYS, rpc_method="events.submit", outcome="executed"): 1,
        series_of(KEYS, rpc_method="events.submit", outcome="replayed"): 1,
    }


def test_logins(processes: Sequence[Process], organization: Organization, board: Board) -> None:
    """Those that succeed, and those that fail by what they fail of."""
    account = {"email": organization.user.email, "password": PASSWORD}
    with board.client() as http, moves(processes) as moved:
        assert http.post("/auth/login", json=account).status_code == 200
        assert http.post("/auth/login", json={**account, "password": "wrong"}).status_code == 401
        assert http.post("/auth/login", json={**account, "organizationId": str(uuid4())}).status_code == 403
    assert moved.of(CALLS) == {
        series_of(CALLS, rpc_method="auth.login"): 1,
        series_of(CALLS, rpc_method="auth.login", error_type="invalid-credentials"): 1,
        series_of(CALLS, rpc_method="auth.login", error_type="forbidden"): 1,
    }


def test_processes(processes: Sequence[Process]) -> None:
    """Version, memory, processor time, the event loop's lag, and when it started."""
    for process in processes:
        told = scraped(process)
        assert told["process_resident_memory_bytes"] > 30e6
        assert told["process_cpu_seconds_total"] > 0.1
        assert 1.7e9 < told["process_start_time_seconds"] < 1e10
        (info,) = [series for series in told if series.startswith("eventboard_info{")]
        assert 'version="' in info
        assert "eventboard_event_loop_lag_seconds_count" in told


def test_main_port(board: Board) -> None:
    """In development it tells the same."""
    answer = httpx.get(f"{board.url}/metrics")
    assert answer.status_code == 200
    assert REQUESTS in answer.text
    assert answer.headers["x-correlation-id"]


def line(method: str, route: str, status: int) -> str:
    return series_of(REQUESTS, http_request_method=method, http_route=route, http_response_status_code=str(status))


def test_exemplars(processes: Sequence[Process], board: Board) -> None:
    """Of a request that is sampled, Prometheus is given the trace id, in the format that has a place for it."""
    trace_id = uuid4().hex
    parent = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    with board.client() as http:
        assert http.get("/problems", headers=parent).status_code == 200
    gateway = next(process for process in processes if process.url == board.url)
    accepted = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{admin_of(gateway)}/metrics", headers=accepted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert f'trace_id="{trace_id}"' in answer.text


def test_counters_begin_at_zero(processes: Sequence[Process]) -> None:
    """Every label set that is known in advance is there from the start, so that the first increase can be seen."""
    shown = scraped(*processes)
    assert series_of(KEYS, rpc_method="events.cancel", outcome="request-in-progress") in shown
    assert series_of("eventboard_rejected_total", limit="requests") in shown
    retries = [each for each in shown if each.startswith("eventboard_rpc_retries_total{")]
    assert bool(retries) == (len(processes) > 1)
