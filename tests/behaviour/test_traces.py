"""The tree of a request, in every shape: where its time went, and which trace it belongs to."""

from typing import Any
from uuid import uuid4

import httpx

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.traces import Tree, found, told, tree

QUERY: Tree = {"Database query": {}}


def traced(board: Board, method: str, path: str, http: httpx.Client, **more: Any) -> tuple[httpx.Response, Tree]:
    """The answer to a request, and its tree, without the hop to a service that runs in another process."""
    correlation_id = str(uuid4())
    headers = {"X-Correlation-ID": correlation_id, **more.pop("headers", {})}
    answer = http.request(method, path, headers=headers, **more)
    [trace] = told(board.url, correlation_id)
    assert (trace["correlationId"], trace["method"], trace["status"]) == (correlation_id, method, answer.status_code)
    return answer, without_hop(tree(trace))


def names(board: Board, method: str, path: str, http: httpx.Client) -> list[str]:
    """Of the spans of a request, in their order."""
    correlation_id = str(uuid4())
    assert http.request(method, path, headers={"X-Correlation-ID": correlation_id}).status_code == 200
    [trace] = told(board.url, correlation_id)
    return [span["name"] for span in trace["spans"]]


def without_hop(whole: Tree) -> Tree:
    """As in one process: without the call and its only attempt; and without what is told now and then."""
    short: Tree = {}
    for name, inside in whole.items():
        if name.startswith(("Route to service", "Attempt 1")):
            short |= without_hop(inside)
        elif name not in NOW_AND_THEN:
            short[name] = without_hop(inside)
    return short


# Whether the caller still stands is asked, a connection is made, its limit is set; a short answer takes long enough to
# be told.
NOW_AND_THEN = (
    "JWT validation",
    "Wait for auth's word",
    "Database connection",
    "Database begin",
    "Response serialization",
)


def test_read(organization: Organization, board: Board) -> None:
    """The database has one query; there is no more to tell of it."""
    event = organization.user.create()
    answer, whole = traced(board, "GET", f"/events/{event['id']}", organization.user.http)
    assert answer.json() == event
    assert whole == {"Gateway": {"Events Service": QUERY}}


def test_token_that_is_new(organization: Organization, board: Board) -> None:
    """It is validated before all else; the next request finds it known."""
    body = {"email": organization.user.email, "password": PASSWORD}
    token = board.client().post("/auth/login", json=body).json()["accessToken"]
    first, second = (names(board, "GET", "/events", board.client(token)) for _ in range(2))
    assert first[:2] == ["Gateway", "JWT validation"]
    assert "JWT validation" not in second


def test_long_answer(organization: Organization, board: Board) -> None:
    """To write it takes long enough to be told."""
    board.put([{"author": organization.user, "status": "APPROVED", "description": '"' * 5000}] * 100)
    assert "Response serialization" in names(board, "GET", "/events?limit=100", organization.user.http)


def test_create_with_a_key_and_replay(organization: Organization, board: Board) -> None:
    """The key is looked for first, and its outcome kept last; a replay does nothing else."""
    key = {"Idempotency-Key": "traced"}
    _, first = traced(board, "POST", "/events", organization.user.http, json=EVENT, headers=key)
    again, second = traced(board, "POST", "/events", organization.user.http, json=EVENT, headers=key)
    assert again.headers["idempotency-status"] == "replayed"
    assert found(first, "Events Service") == {
        "Idempotency check": {},
        **QUERY,
        "Idempotency record": {},
    }
    assert found(second, "Events Service") == {
        "Idempotency check": {},
        **QUERY,
        "Database commit": {},
    }


def test_log_in(organization: Organization, board: Board) -> None:
    """Auth's work is told as events' is; the hash of the password has a span."""
    body = {"email": organization.user.email, "password": "correct horse battery"}
    answer, whole = traced(board, "POST", "/auth/login", board.client(), json=body)
    assert answer.status_code == 200
    assert {"Database query", "Password hash"} <= found(whole, "Auth Service").keys()


def test_no_token(board: Board) -> None:
    """Refused at the gateway: nothing else was asked."""
    answer, whole = traced(board, "GET", "/events", board.client())
    assert (answer.status_code, whole) == (401, {"Gateway": {}})
    answer, whole = traced(board, "GET", "/events", board.client("x.y.z"))
    assert (answer.status_code, whole) == (401, {"Gateway": {"JWT validation (invalid-token)": {}}})


def test_error_of_a_module(organization: Organization, board: Board) -> None:
    """The span that failed says with which code, and so do those that it is inside of."""
    _, whole = traced(board, "GET", f"/events/{uuid4()}", organization.user.http)
    assert whole == {"Gateway": {"Events Service (not-found)": QUERY}}


def test_no_such_route(board: Board) -> None:
    """The path itself isn't kept: it may hold anything."""
    correlation_id = str(uuid4())
    board.client().get("/nowhere/secret", headers={"X-Correlation-ID": correlation_id})
    [trace] = told(board.url, correlation_id)
    assert (trace["route"], trace["status"]) == ("", 404)


def test_route(organization: Organization, board: Board) -> None:
    """The template of the path, and no id."""
    correlation_id = str(uuid4())
    organization.user.http.get(f"/events/{uuid4()}", headers={"X-Correlation-ID": correlation_id})
    [trace] = told(board.url, correlation_id)
    assert trace["route"] == "/events/{id}"


def test_trace_context(board: Board) -> None:
    """A client's trace is continued; what isn't one, or is two, is not, and begins another."""
    parent = f"00-{'c' * 32}-{'b' * 16}-01"
    for given, continued in (([parent], True), ([], False), (["00-xyz"], False), ([parent, parent], False)):
        correlation_id = str(uuid4())
        headers = [("X-Correlation-ID", correlation_id), *(("traceparent", value) for value in given)]
        board.client().get("/", headers=headers)
        [trace] = told(board.url, correlation_id)
        assert (trace["traceId"] == "c" * 32) is continued


def test_one_id_for_several_requests(board: Board) -> None:
    """All of them are told, in their order."""
    correlation_id = str(uuid4())
    for path in ("/", "/problems", "/nowhere"):
        board.client().get(path, headers={"X-Correlation-ID": correlation_id})
    traces = told(board.url, correlation_id)
    assert [trace["status"] for trace in traces] == [307, 200, 404]
    assert len({trace["traceId"] for trace in traces}) == 3


def test_health_is_not_kept(board: Board) -> None:
    """Probes come all the time, and would push out everything else."""
    correlation_id = str(uuid4())
    board.client().get("/health/live", headers={"X-Correlation-ID": correlation_id})
    assert told(board.url, correlation_id) == []
