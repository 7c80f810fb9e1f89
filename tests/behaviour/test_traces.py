"""The tree of a request, in every shape: where its time went, and which trace it belongs to."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.shapes import Deployment
from tests.support.traces import Traced, Tree, found, traced, tree

QUERY: Tree = {"Database query": {}}


@pytest.fixture
def urls(deployment: Deployment) -> list[str]:
    """Of all processes, the one that clients reach first."""
    return [process.url for process in reversed(deployment.processes.values())]


Get = Callable[..., tuple[httpx.Response, Tree]]


@pytest.fixture
def asked(urls: list[str]) -> Get:
    """Sends a request; the answer, and its tree without the hop to a service that runs in another process."""

    def ask(method: str, path: str, http: httpx.Client, **more: Any) -> tuple[httpx.Response, Tree]:
        answer, trace = sent(urls, method, path, http, **more)
        return answer, without_hop(tree(trace))

    return ask


def sent(urls: list[str], method: str, path: str, http: httpx.Client, **more: Any) -> tuple[httpx.Response, Traced]:
    correlation_id = str(uuid4())
    headers = {"X-Correlation-ID": correlation_id, **more.pop("headers", {})}
    answer = http.request(method, path, headers=headers, **more)
    [trace] = traced(correlation_id, *urls)
    assert (trace.whole.attributes["http.request.method"], trace.status) == (method, answer.status_code)
    return answer, trace


def steps(urls: list[str], method: str, path: str, http: httpx.Client) -> list[str]:
    """Of a request, in the order in which they began."""
    answer, trace = sent(urls, method, path, http)
    assert answer.status_code == 200
    return [span.step for span in trace.spans]


def without_hop(whole: Tree) -> Tree:
    """As in one process: without the call and its only attempt; and without what comes up only now and then."""
    short: Tree = {}
    for name, inside in whole.items():
        if name.startswith(("Route to service", "Attempt 1")):
            short |= without_hop(inside)
        elif name not in NOW_AND_THEN:
            short[name] = without_hop(inside)
    return short


# The caller's session is checked, a connection is made, its limit is set.
NOW_AND_THEN = (
    "JWT validation",
    "Session check",
    "Database connection",
    "Database begin",
    "Response serialization",
)


def test_read(organization: Organization, asked: Get) -> None:
    """The database has one query; there is no more to tell of it."""
    event = organization.user.create()
    answer, whole = asked("GET", f"/events/{event['id']}", organization.user.http)
    assert answer.json() == event
    assert whole == {"Gateway": {"Events Service": QUERY}}


def test_token_that_is_new(organization: Organization, board: Board, urls: list[str]) -> None:
    """It is validated before all else; the next request finds it known."""
    body = {"email": organization.user.email, "password": PASSWORD}
    token = board.client().post("/auth/login", json=body).json()["accessToken"]
    http = board.client(token)
    assert steps(urls, "GET", "/events", http)[:2] == ["Gateway", "JWT validation"]
    # Its session is checked again after 2 s, which a busy machine may need for one request and its trace.
    ids = [str(uuid4()) for _ in range(20)]
    for id_ in ids:
        assert http.get("/events", headers={"X-Correlation-ID": id_}).status_code == 200
    spans = ([span.step for span in trace.spans] for id_ in ids for trace in traced(id_, *urls))
    assert any("JWT validation" not in known for known in spans)


def test_long_answer(organization: Organization, board: Board, urls: list[str]) -> None:
    """To write it takes long enough to be told."""
    board.put([{"author": organization.user, "status": "APPROVED", "description": '"' * 5000}] * 100)
    assert "Response serialization" in steps(urls, "GET", "/events?limit=100", organization.user.http)


def test_create_with_a_key_and_replay(organization: Organization, asked: Get) -> None:
    """The key is looked up first, and its outcome stored last; a replay does nothing else."""
    # What a user and an organization have stored is read now, and known afterwards.
    organization.user.http.post("/events", json=EVENT, headers={"Idempotency-Key": "before"})
    key = {"Idempotency-Key": "traced"}
    _, first = asked("POST", "/events", organization.user.http, json=EVENT, headers=key)
    again, second = asked("POST", "/events", organization.user.http, json=EVENT, headers=key)
    assert again.headers["idempotency-status"] == "replayed"
    assert found(first, "Events Service") == {
        "Idempotency check": QUERY,
        **QUERY,
        "Idempotency record": QUERY,
        "Database commit": {},
    }
    assert found(second, "Events Service") == {"Idempotency check": QUERY, "Database commit": {}}


def test_log_in(organization: Organization, board: Board, asked: Get) -> None:
    """Auth's work is told as events' is; the hash of the password has a span."""
    body = {"email": organization.user.email, "password": "correct horse battery"}
    answer, whole = asked("POST", "/auth/login", board.client(), json=body)
    assert answer.status_code == 200
    assert {"Database query", "Password hash"} <= found(whole, "Auth Service").keys()


def test_no_token(board: Board, asked: Get) -> None:
    """Refused at the gateway: nothing else was asked."""
    answer, whole = asked("GET", "/events", board.client())
    assert (answer.status_code, whole) == (401, {"Gateway": {}})
    answer, whole = asked("GET", "/events", board.client("x.y.z"))
    assert (answer.status_code, whole) == (401, {"Gateway": {"JWT validation (invalid-token)": {}}})


def test_error_of_a_module(organization: Organization, asked: Get) -> None:
    """The span that failed says with which code, and so do those that it is inside of."""
    _, whole = asked("GET", f"/events/{uuid4()}", organization.user.http)
    assert whole == {"Gateway": {"Events Service (not-found)": QUERY}}


def test_no_such_route(board: Board, urls: list[str]) -> None:
    """The path itself isn't kept: it may hold anything."""
    correlation_id = str(uuid4())
    board.client().get("/nowhere/secret", headers={"X-Correlation-ID": correlation_id})
    [trace] = traced(correlation_id, *urls)
    assert (trace.route, trace.status) == ("", 404)


def test_route(organization: Organization, urls: list[str]) -> None:
    """The template of the path, and no id."""
    correlation_id = str(uuid4())
    organization.user.http.get(f"/events/{uuid4()}", headers={"X-Correlation-ID": correlation_id})
    [trace] = traced(correlation_id, *urls)
    assert trace.route == "/events/{id}"


def test_trace_context(board: Board, urls: list[str]) -> None:
    """A client's trace is continued; what isn't one, or is two, is not, and begins another."""
    parent = f"00-{'c' * 32}-{'b' * 16}-01"
    for given, continued in (([parent], True), ([], False), (["00-xyz"], False), ([parent, parent], False)):
        correlation_id = str(uuid4())
        headers = [("X-Correlation-ID", correlation_id), *(("traceparent", value) for value in given)]
        board.client().get("/", headers=headers)
        [trace] = traced(correlation_id, *urls)
        assert (trace.trace_id == "c" * 32) is continued


def test_one_id_for_several_requests(board: Board, urls: list[str]) -> None:
    """All of them are told, in their order."""
    correlation_id = str(uuid4())
    for path in ("/", "/problems", "/nowhere"):
        board.client().get(path, headers={"X-Correlation-ID": correlation_id})
    traces = traced(correlation_id, *urls)
    assert [trace.status for trace in traces] == [307, 200, 404]
    assert len({trace.trace_id for trace in traces}) == 3


def test_health_is_not_kept(board: Board, urls: list[str]) -> None:
    """Probes come all the time, and would push out everything else."""
    correlation_id = str(uuid4())
    board.client().get("/health/live", headers={"X-Correlation-ID": correlation_id})
    assert traced(correlation_id, *urls) == []
