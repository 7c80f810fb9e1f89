"""Errors as HTTP sees them."""

import json

import pytest

from eventboard.core.errors import HTTP, Code, FieldError, ServiceError
from eventboard.core.problems import is_safe, problem
from tests.support.problems import STATUS

# What a later repetition of the same request may not meet again.
PASSING = {Code.INTERNAL, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.REQUEST_IN_PROGRESS}


def test_documented() -> None:
    """The one table to HTTP is the documents'."""
    assert {code.value: status for code, (status, _) in HTTP.items()} == STATUS
    assert set(HTTP) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_retryable(code: Code) -> None:
    """Only where it is safe: a read that may succeed, or what is known not to have run."""

    def retryable(error: ServiceError, *, safe: bool) -> bool:
        return bool(json.loads(problem(error, safe=safe)[2])["retryable"])

    assert retryable(ServiceError(code, "x"), safe=True) == (code in PASSING)
    assert not retryable(ServiceError(code, "x"), safe=False)
    assert retryable(ServiceError(Code.UNAVAILABLE, "x", shed=True), safe=False)


def test_retry_after() -> None:
    """Seconds, in a header, where there is something to say."""
    assert problem(ServiceError(Code.UNAVAILABLE, "x", retry_after=3), safe=True)[1] == {"retry-after": "3"}
    assert problem(ServiceError(Code.UNAVAILABLE, "x"), safe=True)[1] == {}


def test_errors() -> None:
    """Only where there are any."""
    status, _, body = problem(ServiceError(Code.INVALID_REQUEST, "x", (FieldError("/a", "b"),)), safe=True)
    assert status == 400
    assert json.loads(body)["errors"] == [{"pointer": "/a", "detail": "b"}]
    assert "errors" not in json.loads(problem(ServiceError(Code.NOT_FOUND, "x"), safe=True)[2])


@pytest.mark.parametrize(("method", "safe"), [("GET", True), ("HEAD", True), ("OPTIONS", True), ("POST", False)])
def test_safe_methods(method: str, safe: bool) -> None:
    """As RFC 9110 has them."""
    assert is_safe(method) == safe
