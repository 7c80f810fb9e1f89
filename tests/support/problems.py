"""What every error answer is held to."""

from typing import Any

import httpx

# docs/api.md's table, written out.
STATUS = {
    "invalid-request": 400,
    "invalid-cursor": 400,
    "invalid-token": 401,
    "invalid-credentials": 401,
    "forbidden": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "too-large": 413,
    "unsupported-media-type": 415,
    "invalid-idempotency-key": 400,
    "wrong-state": 409,
    "already-exists": 409,
    "last-admin": 409,
    "request-in-progress": 409,
    "version-changed": 412,
    "idempotency-key-reused": 422,
    "search-too-broad": 422,
    "quota-exceeded": 403,
    "too-many-requests": 429,
    "internal": 500,
    "answer-too-large": 500,
    "not-implemented": 501,
    "unavailable": 503,
    "deadline-exceeded": 504,
}


def assert_problem(answer: httpx.Response, code: str, *pointers: str) -> dict[str, Any]:
    """The answer is this documented problem, whole; `pointers` are the fields it names, no more and no fewer."""
    assert answer.status_code == STATUS[code], f"{answer.request.method} {answer.request.url}: {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    optional = {"errors"} & problem.keys()
    assert problem.keys() - optional == {"type", "title", "status", "detail", "code", "correlationId", "retryable"}
    assert problem["type"] == f"/problems/{code}"
    assert (problem["status"], problem["code"]) == (STATUS[code], code)
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers.get_list("x-correlation-id") == [problem["correlationId"]]
    assert isinstance(problem["retryable"], bool)
    if code == "request-in-progress":
        assert problem["retryable"], "only a request with a key of its own meets it, and may meet its outcome next"
    elif code == "too-many-requests":
        assert problem["retryable"], "nothing was done"
        assert int(answer.headers["retry-after"]) >= 1
    elif code == "request-timeout":
        assert problem["retryable"], "it wasn't even here"
    elif answer.status_code < 500:
        assert not problem["retryable"], "the same request would meet the same refusal"
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith('Bearer realm="eventboard"')
    for error in problem.get("errors", []):
        assert error.keys() == {"pointer", "detail"}
        assert error["detail"]
        assert "`" not in error["detail"], "in words of Python"
    if pointers:
        assert sorted(error["pointer"] for error in problem["errors"]) == sorted(pointers)
    return problem
