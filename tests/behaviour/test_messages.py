"""What people read when they have done something wrong: what it is, and what to do."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import raw
from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.problems import assert_problem

REASON = {"reason": "Please name a room."}


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("PUT", "/events", "This path has no PUT. Its methods are GET, HEAD, OPTIONS, POST."),
        ("GET", "/auth/login", "This path has no GET. Its methods are OPTIONS, POST."),
        (
            "GET",
            "/Events",
            "Nothing is at this path. Check its spelling, upper and lower case too; the gateway lists all its paths",
        ),
    ],
)
def test_methods_and_paths(board: Board, method: str, path: str, detail: str) -> None:
    """The answer names the methods that there are, and where all paths are."""
    assert raw.request(board.url, method, path).json()["detail"].startswith(detail)


def test_unknown_names(member: Member) -> None:
    """The answer calls a parameter a parameter, and names those that there are."""
    unknown = member.http.get("/members?page=2").json()["errors"][0]
    assert unknown["detail"] == "There is no such parameter. This call has limit, cursor."
    assert member.http.get("/auth/me?x=1").json()["errors"][0]["detail"].endswith("This call has no parameters.")
    field = member.http.post("/auth/switch", json={"organization": "x"}).json()["errors"][1]
    assert field["detail"] == "There is no such field. This body has organizationId."


def test_body_too_large(board: Board, member: Member) -> None:
    """The limit is named: with a token it is another one than without."""
    large = member.http.post("/events", json={**EVENT, "description": "x" * 1_100_000})
    assert assert_problem(large, "too-large")["detail"] == "A body may have at most 1048576 bytes."
    large = board.client().post("/auth/login", json={"email": "a@example.com", "password": "x" * 9000})
    expected = "A body may have at most 8192 bytes in a request without an Authorization header."
    assert assert_problem(large, "too-large")["detail"] == expected


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("{token}", "doesn't begin with the word Bearer"),
        ("Bearer: {token}", "doesn't begin with the word Bearer"),
        ("Basic dXNlcjpwYXNz", "doesn't begin with the word Bearer"),
        ("Bearer", "has no access token after Bearer"),
        ("Bearer Bearer {token}", "the word Bearer twice"),
        ('Bearer "{token}"', "quotation marks, brackets"),
        ("Bearer <{token}>", "quotation marks, brackets"),
        ("Bearer undefined", "Send the whole accessToken of a log-in, not the refreshToken"),
    ],
)
def test_authorization(board: Board, member: Member, header: str, detail: str) -> None:
    """The answer says what was sent in place of a token. The challenge can hold it (RFC 6750, section 3)."""
    sent = header.format(token=member.token)
    answer = board.client().get("/auth/me", headers={"authorization": sent})
    assert detail in assert_problem(answer, "invalid-token")["detail"]
    assert answer.headers["www-authenticate"].count('"') in (2, 6)


def test_refresh_token(board: Board) -> None:
    """The title is about the refresh token, and the detail says what is wrong with it."""
    http = board.client()
    member = board.member(board.organization().id, "USER")
    token = http.post("/auth/login", json={"email": member.email, "password": PASSWORD}).json()["refreshToken"]
    assert http.post("/auth/refresh", json={"refreshToken": token}).status_code == 200
    for sent, detail in ((token, "it was used before, and works once"), ("unknown", "it is not known")):
        problem = assert_problem(http.post("/auth/refresh", json={"refreshToken": sent}), "invalid-token")
        assert problem["title"] == "A valid refresh token is needed"
        assert detail in problem["detail"]


@pytest.mark.parametrize(
    ("tag", "detail"),
    [
        (
            'W/"1"',
            "a weak one (W/) never does, nor one that isn't a version. Send the event's ETag as it is: "
            'If-Match: "1".',
        ),
        ('"7"', 'The event is at version 1 now, and If-Match names 7. Read it again, then decide, with If-Match: "1".'),
        (
            ", ".join(f'"{version}"' for version in range(2, 4000)),
            'If-Match names 3998 others. Read it again, then decide, with If-Match: "1".',
        ),
    ],
)
def test_changed(organization: Organization, tag: str, detail: str) -> None:
    """The answer says why the tag doesn't match, and has the one that does, also when it is replayed."""
    event = organization.user.create()
    headers = {"if-match": tag, "idempotency-key": uuid4().hex}
    for _ in range(2):
        answer = organization.user.http.patch(f"/events/{event['id']}", json={"title": "Another"}, headers=headers)
        assert assert_problem(answer, "version-changed")["detail"].endswith(detail)
        assert answer.headers["etag"] == '"1"'
    assert answer.headers["idempotency-status"] == "replayed"


@pytest.mark.parametrize(("tag", "form"), [("1", '"1"'), ("v1", '"v1"'), ("'1'", '"1"'), ('"1', '"1"')])
def test_no_entity_tag(organization: Organization, tag: str, form: str) -> None:
    """The answer shows the right form."""
    event = organization.user.create()
    answer = organization.user.http.patch(f"/events/{event['id']}", json={}, headers={"if-match": tag})
    assert assert_problem(answer, "invalid-request")["detail"].endswith(f"such as If-Match: {form}.")


@pytest.mark.parametrize(
    ("status", "who", "send", "detail"),
    [
        ("SUBMITTED", "user", "edit", "You may not edit this event while it is SUBMITTED: withdraw it first."),
        ("SUBMITTED", "user", "delete", "You may not delete this event while it is SUBMITTED: withdraw it first."),
        ("APPROVED", "user", "edit", "You may not edit this event while it is APPROVED: a MODERATOR or an ADMIN may."),
        ("APPROVED", "user", "delete", "You may not delete this event while it is APPROVED: an ADMIN may."),
        ("DRAFT", "moderator", "edit", "You may not edit this event while it is DRAFT: its author or an ADMIN may."),
        ("SUBMITTED", "user", "approve", "You may not approve this event: a MODERATOR or an ADMIN may."),
        ("DRAFT", "moderator", "submit", "You may not submit this event: its author may."),
        (
            "DRAFT",
            "moderator",
            "approve",
            "You can't approve this event: it is DRAFT. Before that, its author has to submit it.",
        ),
        ("DRAFT", "user", "withdraw", "You can't withdraw this event: it is DRAFT already."),
        (
            "DRAFT",
            "user",
            "cancel",
            "You can't cancel this event: it is DRAFT, and has to be APPROVED. You can submit, edit or delete it.",
        ),
        (
            "SUBMITTED",
            "user",
            "cancel",
            "You can't cancel this event: it is SUBMITTED, and has to be APPROVED. You can withdraw it.",
        ),
        (
            "REJECTED",
            "user",
            "withdraw",
            "You can't withdraw this event: it is REJECTED, and has to be SUBMITTED. You can submit or edit it.",
        ),
        (
            "APPROVED",
            "user",
            "withdraw",
            "You can't withdraw this event: it is APPROVED, and has to be SUBMITTED. You can cancel it.",
        ),
        (
            "CANCELLED",
            "admin",
            "cancel",
            "You can't cancel this event: it is CANCELLED already.",
        ),
        (
            "CANCELLED",
            "admin",
            "approve",
            "You can't approve this event: it is CANCELLED, and has to be SUBMITTED. You can edit or delete it.",
        ),
        ("APPROVED", "moderator", "approve", "You can't approve this event: it is APPROVED already."),
        (
            "CANCELLED",
            "moderator",
            "approve",
            "You can't approve this event: it is CANCELLED, and has to be SUBMITTED.",
        ),
    ],
)
def test_lifecycle(organization: Organization, status: str, who: str, send: str, detail: str) -> None:
    """The answer says what has to be done first, and by whom."""
    event, member = organization.event_in(status), getattr(organization, who)
    path = f"/events/{event['id']}"
    if send == "edit":
        answer = member.http.patch(path, json={"title": "Another title"})
    elif send == "delete":
        answer = member.http.delete(path)
    else:
        answer = member.command(event, send)
    assert answer.status_code in (403, 409)
    assert answer.json()["detail"] == detail


def test_own_event_of_a_moderator(organization: Organization) -> None:
    """Moderators can't edit what they have approved of their own: another one can."""
    event = organization.event_in("APPROVED", author=organization.moderator)
    answer = organization.moderator.http.patch(f"/events/{event['id']}", json={"title": "Another title"})
    assert assert_problem(answer, "forbidden")["detail"].endswith(": another MODERATOR or an ADMIN may.")


def test_inviting_members(organization: Organization) -> None:
    """An ADMIN is told how to reactivate a member."""
    admin, user = organization.admin.http, organization.user
    invited = {"email": user.email, "role": "USER"}
    active = assert_problem(admin.post("/invitations", json=invited), "already-exists", "/email")
    assert active["detail"] == "This person is a member of the organization already."
    assert admin.patch(f"/members/{user.id}", json={"active": False}).status_code == 200
    detail = assert_problem(admin.post("/invitations", json=invited), "already-exists", "/email")["detail"]
    assert f'PATCH /members/{user.id} with {{"active": true}}' in detail
    assert admin.patch(f"/members/{user.id}", json={"active": True}).status_code == 200


def test_same_password(board: Board) -> None:
    """A new password isn't the current one, however its letters are encoded."""
    http = board.client()
    person = {
        "email": f"{uuid4().hex}@example.com",
        "firstName": "Zoé",
        "lastName": "Z",
        "password": "caf\u00e9 au lait",
    }
    session = http.post("/auth/signup", json={**person, "organizationName": uuid4().hex}).json()
    for new in ("caf\u00e9 au lait", "cafe\u0301 au lait"):
        answer = board.client(session["accessToken"]).post(
            "/auth/password", json={"currentPassword": person["password"], "newPassword": new}
        )
        assert_problem(answer, "invalid-request", "/newPassword")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"email":"a@example.com","email":"b@example.com","password":"x"}', ["/email"]),
        (b'{"email":"a@example.com","em\\u0061il":"a@example.com","password":"x"}', ["/email"]),
        (b'{"email":5,"email":"b@example.com","password":"x"}', ["/email"]),
        (b'{"email":"a@example.com","password":{"a":1,"a":1}}', ["", "/password"]),
        (
            b'{"email":"a@example.com","password":[{"b":[{"~/":1,"~/":2,"c":3}]}]}',
            ["", "/password"],
        ),
        (b'{"email":"a@example.com","password":"caf\xc3\xa9","password":"x"}', ["/password"]),
    ],
)
def test_name_twice(board: Board, body: bytes, pointers: list[str]) -> None:
    """Whichever value was meant, it isn't guessed, at any depth."""
    answer = board.client().post("/auth/login", content=body, headers={"content-type": "application/json"})
    first = assert_problem(answer, "invalid-request", *pointers)["errors"][0]
    inside = 'An object in it has the name "{}" twice. Give it once.'
    details = {"/": "This name is given twice. Give it once.", "": inside.format("~/" if b"~" in body else "a")}
    assert first["detail"] == details[first["pointer"][:1]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
        (b'{"email": "a', "it ends too early"),
        (b'{"email": "\\ud800"}', "half of a surrogate pair is escaped"),
        (b'{"email": 1,}', "trailing comma in object (byte 12)"),
        (b"email=a", "invalid character (byte 0)"),
    ],
)
def test_no_json(board: Board, body: bytes, reason: str) -> None:
    """The answer says what isn't JSON."""
    answer = board.client().post("/auth/login", content=body, headers={"content-type": "application/json"})
    assert assert_problem(answer, "invalid-request")["detail"] == f"The body is not JSON: {reason}."


def test_name_twice_in_a_long_body(member: Member) -> None:
    """A wrong value is rejected where a right one follows it, however long the body is."""
    body = (
        b'{"organizationId":['
        + b"{}," * 60_000
        + b'{}],"organizationId":"'
        + str(member.organization_id).encode()
        + b'"}'
    )
    answer = member.http.post("/auth/switch", content=body, headers={"content-type": "application/json"})
    problem = assert_problem(answer, "invalid-request", "")
    assert problem["errors"][0]["detail"] == "A name in it is given twice. Give it once."


def test_long_numbers(board: Board) -> None:
    """Numbers of any length are a client's error, and no bug of ours."""
    for number in ("9" * 6000, "1" * 300, "1e999", "-1.5"):
        body = f'{{"email":"a@example.com","password":{number},"password":1}}'
        answer = board.client().post("/auth/login", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400


def _listed(http: httpx.Client, query: str) -> list[str]:
    answer = http.get(f"/events?{query}")
    assert answer.status_code == 200, answer.text
    return [event["title"] for event in answer.json()["data"]]


def test_dates_alone(organization: Organization) -> None:
    """A date alone is the start, or the end, of that day in UTC; a time without an offset is in UTC."""
    user = organization.user
    for day, time in ((1, "00:00:00"), (1, "23:59:59.999999"), (2, "00:00:00")):
        user.create(title=f"{day} {time}", startDate=f"2027-03-0{day}T{time}Z", endDate="2027-03-05T00:00:00Z")
    first, last, second = "1 00:00:00", "1 23:59:59.999999", "2 00:00:00"
    assert _listed(user.http, "startDateFrom=2027-03-01&startDateTo=2027-03-01") == [first, last]
    assert _listed(user.http, "startDateFrom=2027-03-02") == [second]
    assert _listed(user.http, "startDateTo=2027-02-28") == []
    assert _listed(user.http, "startDateFrom=2027-03-01T23:00:00&startDateTo=2027-03-02T00:00:00") == [last, second]
    assert _listed(user.http, "search=&startDateTo=2027-03-01T00:00:00") == [first]
    # It is the same list, so its cursor fits.
    meta = user.http.get("/events?startDateFrom=2027-03-01&limit=1").json()["meta"]
    same = f"startDateFrom=2027-03-01T00:00:00Z&limit=1&search=&cursor={meta['nextCursor']}"
    assert _listed(user.http, same) == [last]


@pytest.mark.parametrize(
    "query",
    [
        "startDateFrom=2027-03-02&startDateTo=2027-03-01",
        "startDateFrom=2027-03-01T00:00:01Z&startDateTo=2027-03-01T00:00:00Z",
    ],
)
def test_from_after_to(member: Member, query: str) -> None:
    """No event can be in such a list."""
    problem = assert_problem(member.http.get(f"/events?{query}"), "invalid-request", "/startDateTo")
    assert problem["errors"][0]["detail"] == "It must not be before startDateFrom."


@pytest.mark.parametrize("query", ["startDateFrom=2027-02-30", "startDateTo=2027-3-1", "startDateFrom=2027-03-01Z"])
def test_no_dates(member: Member, query: str) -> None:
    """What is no day is none at either end."""
    assert_problem(member.http.get(f"/events?{query}"), "invalid-request", f"/{query.partition('=')[0]}")


@pytest.mark.parametrize(
    ("zone", "local", "shown"),
    [
        ({}, "2027-07-01T18:00:00", "2027-07-01T18:00:00Z"),
        ({"timeZone": "Europe/Berlin"}, "2027-07-01T18:00:00", "2027-07-01T16:00:00Z"),
        ({"timeZone": "Europe/Berlin"}, "2027-01-01T18:00:00.1234567", "2027-01-01T17:00:00.123456Z"),
        ({"timeZone": "Europe/Berlin"}, "2027-01-01T18:00:00Z", "2027-01-01T18:00:00Z"),
        ({"timeZone": "Asia/Kathmandu"}, "2027-01-01 18:00:00", "2027-01-01T12:15:00Z"),
        # Clocks are set forward from 02:00 to 03:00, and back from 03:00 to 02:00.
        ({"timeZone": "Europe/Berlin"}, "2027-03-28T02:30:00", "2027-03-28T01:30:00Z"),
        ({"timeZone": "Europe/Berlin"}, "2027-10-31T02:30:00", "2027-10-31T00:30:00Z"),
    ],
)
def test_local_times(organization: Organization, zone: dict[str, str], local: str, shown: str) -> None:
    """A time without an offset is in the event's time zone, when it is created and when it is changed."""
    user = organization.user
    end = "2028-01-01T00:00:00"
    event = user.create(**zone, startDate=local, endDate=end)
    assert event["startDate"] == shown
    for sent in ({"startDate": local}, {**zone, "startDate": local, "endDate": end}):
        patched = user.http.patch(f"/events/{event['id']}", json=sent)
        assert (patched.json()["startDate"], patched.json()["version"]) == (shown, 1), patched.text
    other = user.create(startDate="2026-01-01T00:00:00Z", endDate="2028-01-01T00:00:00Z")
    assert user.http.patch(f"/events/{other['id']}", json={**zone, "startDate": local}).json()["startDate"] == shown


def test_local_times_in_order(organization: Organization) -> None:
    """The end is after the start in UTC, whatever local clocks show."""
    user = organization.user
    berlin: dict[str, Any] = {"timeZone": "Europe/Berlin", "startDate": "2027-03-28T02:30:00"}
    answer = user.http.post("/events", json={**EVENT, **berlin, "endDate": "2027-03-28T03:15:00"})
    assert_problem(answer, "invalid-request", "/endDate")
    event = user.create(**berlin, endDate="2027-03-28T04:00:00")
    for patch in (
        {"endDate": "2027-03-28T03:15:00"},
        {"endDate": "2027-03-28T01:15:00Z"},
        {"startDate": "2027-03-28T05:00:00"},
        {"startDate": "2027-03-28T03:00:00", "endDate": "2027-03-28T01:00:00Z"},
    ):
        answer = user.http.patch(f"/events/{event['id']}", json=patch)
        assert_problem(answer, "invalid-request", "/endDate")
    # The same local time in another zone, in one request.
    moved = {"timeZone": "UTC", "startDate": "2027-03-28T02:30:00", "endDate": "2027-03-28T04:00:00"}
    assert user.http.patch(f"/events/{event['id']}", json=moved).json()["startDate"] == "2027-03-28T02:30:00Z"
    bad = {**EVENT, "timeZone": "Europe/Bern", "startDate": "2027-03-28T02:30:00"}
    assert_problem(user.http.post("/events", json=bad), "invalid-request", "/timeZone")


def test_empty_location(organization: Organization) -> None:
    """An empty text is none, as for clients of the original."""
    user = organization.user
    event = user.create(location="")
    assert event["location"] is None
    assert user.http.patch(f"/events/{event['id']}", json={"location": "Room 4"}).json()["location"] == "Room 4"
    assert user.http.patch(f"/events/{event['id']}", json={"location": ""}).json()["location"] is None
    key = {"idempotency-key": uuid4().hex}
    first = user.http.post("/events", json={**EVENT, "location": ""}, headers=key)
    assert user.http.post("/events", json=EVENT, headers=key).json() == first.json()


def test_address_of_the_document(board: Board) -> None:
    """Clients of the original find the OpenAPI document at NestJS' address."""
    answer = board.client().get("/api-json", follow_redirects=True)
    assert answer.json()["openapi"].startswith("3.")


def test_no_such_event(member: Member) -> None:
    """An id that is none is as unknown as any other; the answer says what it can be."""
    for path in ("/events/undefined", f"/events/{uuid4()}"):
        problem = assert_problem(member.http.get(path), "not-found")
        assert problem["detail"] == "There is no such event, or you may not see it. Check the id, which is a UUID."
