"""Anything at all may be sent: it is never our fault."""

import json
from typing import Any
from urllib.parse import urlencode

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import raw
from tests.support.board import Member
from tests.support.bodies import BODIES, each_body, post
from tests.support.problems import assert_problem

FIELDS = sorted({name for body in BODIES.values() for name in body or {}} | {"organizationId", "timeZone", "location"})

TEXTS = st.text(st.characters(), max_size=300)  # surrogates and NUL among them

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([value for body in BODIES.values() for value in (body or {}).values()])
    | st.uuids().map(str)
    | st.datetimes(timezones=st.timezones()).map(str)
    | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)

CHANGES = st.dictionaries(st.sampled_from(FIELDS) | TEXTS, VALUES, max_size=4)

anything = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # The server is the same for all examples, and what they leave on it disturbs none.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def assert_no_failure(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_problem(answer, answer.json()["code"])


@each_body
def test_any_json(member: Member, method: str, path: str) -> None:
    """No JSON makes an operation fail: bodies of any kind, and right ones with anything changed."""

    @anything
    @given(VALUES | CHANGES.map(lambda changes: {**(BODIES[method, path] or {}), **changes}))
    def holds(body: Any) -> None:
        assert_no_failure(post(member, method, path, json.dumps(body).encode()))

    holds()


@each_body
def test_any_bytes(member: Member, method: str, path: str) -> None:
    """Nor do any bytes."""

    @settings(anything, max_examples=30)
    @given(st.binary(max_size=100))
    def holds(body: bytes) -> None:
        assert_no_failure(post(member, method, path, body))

    holds()


PARAMETERS = ["page", "limit", "sortBy", "sortOrder", "status", "search", "startDateFrom", "startDateTo", "cursor"]

PAIRS = st.tuples(
    st.sampled_from(PARAMETERS) | st.text(max_size=10),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.integers().map(str)
    | st.sampled_from(
        ["DRAFT", "APPROVED", "startDate", "title", "asc", "desc", "2027-01-01T00:00:00Z", "1", "%", "\\_%"]
    )
    | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
)


def test_any_query(member: Member) -> None:
    """No query string makes the list fail, well-formed or not."""

    @settings(anything, max_examples=300)
    @given(
        st.lists(PAIRS, max_size=4).map(lambda pairs: urlencode(pairs).encode())
        | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60).map(
            str.encode
        )
    )
    def holds(query: bytes) -> None:
        target = b"/events?" + query
        assert_no_failure(raw.request(str(member.http.base_url), "GET", target, token=member.token))

    holds()


def test_any_header(member: Member) -> None:
    """Nor does anything in a header that is read."""
    event = member.create()

    @settings(anything, max_examples=200)
    @given(
        st.sampled_from(
            ["If-Match", "If-None-Match", "X-Correlation-ID", "Content-Type", "Authorization", "Content-Encoding"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60),
    )
    def holds(name: str, value: str) -> None:
        headers = (f"{name}: {value}", "Content-Length: 2")
        for method, path in (("GET", f"/events/{event['id']}"), ("PATCH", f"/events/{event['id']}")):
            assert_no_failure(
                raw.request(str(member.http.base_url), method, path, token=member.token, headers=headers, body=b"{}")
            )

    holds()
