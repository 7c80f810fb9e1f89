"""Times that clients write in their own ways."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.board import EVENT, Organization
from tests.support.problems import assert_problem


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2027-12-31T23:59:59.9999999Z", "2027-12-31T23:59:59.999999Z"),  # .NET's ticks
        ("2027-12-31T23:59:59.999999999Z", "2027-12-31T23:59:59.999999Z"),  # Java's and Go's nanoseconds
        ("2027-12-31T22:59:59.99999999999999999999-01:00", "2027-12-31T23:59:59.999999Z"),
        ("2027-12-31T23:59:59.0000009Z", "2027-12-31T23:59:59Z"),
        ("2027-12-31T23:59:59.1234567+00:00", "2027-12-31T23:59:59.123456Z"),
        ("2027-12-31t23:59:59.5z", "2027-12-31T23:59:59.500000Z"),
        ("2027-12-31T23:59:59-00:00", "2027-12-31T23:59:59Z"),
    ],
)
def test_written(organization: Organization, sent: str, shown: str) -> None:
    """Digits beyond microseconds are cut off: a moment of one day is never one of the next."""
    http = organization.user.http
    event = organization.user.create(startDate=sent, endDate="2028-01-01T03:00:00Z")
    assert event["startDate"] == shown
    patched = http.patch(f"/events/{event['id']}", json={"startDate": sent}).json()
    assert (patched["startDate"], patched["version"]) == (shown, 1)
    for query in (f"startDateFrom={quote(sent)}", f"startDateTo={quote(sent)}"):
        assert [found["id"] for found in http.get(f"/events?{query}").json()["data"]] == [event["id"]]


@pytest.mark.parametrize("digits", ["9" * 7, "9" * 9, "9" * 30])
def test_end_of_a_day(organization: Organization, digits: str) -> None:
    """A filter to the last tick of a year leaves out what starts in the next."""
    organization.user.create(startDate="2028-01-01T00:00:00Z", endDate="2028-01-01T03:00:00Z")
    for query, found in (("startDateTo", 0), ("startDateFrom", 1)):
        answer = organization.user.http.get("/events", params={query: f"2027-12-31T23:59:59.{digits}Z"})
        assert len(answer.json()["data"]) == found


def test_ends_of_time(organization: Organization) -> None:
    """A filter may begin and end where other systems' time does; an event can't."""
    organization.user.create()
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"
    for query, found in (
        ({"startDateFrom": first, "startDateTo": last}, 1),
        ({"startDateFrom": last}, 0),
        ({"startDateTo": first}, 0),
    ):
        answer = organization.user.http.get("/events", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json()["meta"]["total"] == found
    answer = organization.user.http.post("/events", json={**EVENT, "startDate": first, "endDate": last})
    assert_problem(answer, "invalid-request", "/startDate", "/endDate")


@pytest.mark.parametrize(
    "moment",
    [
        "2027-12-31T23:59:60Z",
        "2027-12-31T24:00:00Z",
        "2027-12-31T23:59:59.Z",
        "2027-12-31T23:59:59,5Z",
        "2027-12-31T23:59:59+01:00:30",
        "2027-12-31T23:59:59+24:00",
        "2027-02-29T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999999-01:00",
        "0001-01-01T00:00:00.0000001+00:01",
        "2027-12-31T23:59:59.٩٩٩٩٩٩٩Z",
        1_800_000_000,
    ],
)
def test_no_time(shared_organization: Organization, moment: Any) -> None:
    """What isn't RFC 3339 or lies outside of the years 1 to 9999 is a 400, here as there."""
    http = shared_organization.user.http
    body = {**EVENT, "startDate": moment, "endDate": "9999-12-31T00:00:00Z"}
    pointers = [
        error["pointer"] for error in assert_problem(http.post("/events", json=body), "invalid-request")["errors"]
    ]
    assert "/startDate" in pointers
    assert_problem(http.get("/events", params={"startDateTo": moment}), "invalid-request", "/startDateTo")
