"""Whatever is wrong with a body, its size or its type, the answer is a documented problem."""

import json
from typing import Any

import pytest

from tests.support.board import EVENT, Member
from tests.support.bodies import BODIES, NOWHERE, SIGNUP, each_body, post
from tests.support.problems import assert_problem


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@each_body
def test_too_large(member: Member, method: str, path: str, chunked: bool) -> None:
    """A body over 1 MiB, announced or not."""
    body = b'{"title": "' + b"x" * (2 << 20) + b'"}'
    parts = (body[at : at + 65536] for at in range(0, len(body), 65536))
    assert_problem(post(member, method, path, parts if chunked else body), "too-large")


def test_largest_body(member: Member) -> None:
    """1 MiB is not too large, one byte more is."""
    body = json.dumps(EVENT).encode()
    assert post(member, "POST", "/events", body.ljust(1 << 20)).status_code == 201
    assert_problem(post(member, "POST", "/events", body.ljust((1 << 20) + 1)), "too-large")


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/msgpack",
        "application/problem+json",
        "application/json, text/plain",
        "",
    ],
)
@each_body
def test_media_type(member: Member, method: str, path: str, media_type: str) -> None:
    """Bodies are JSON."""
    answer = post(member, method, path, json.dumps(BODIES[method, path] or {}).encode(), content_type=media_type)
    assert_problem(answer, "unsupported-media-type")


@each_body
def test_no_media_type(member: Member, method: str, path: str) -> None:
    """A body that doesn't say what it is isn't guessed at."""
    answer = member.http.request(method, path, content=json.dumps(BODIES[method, path] or {}).encode())
    assert_problem(answer, "unsupported-media-type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
@each_body
def test_content_encoding(member: Member, method: str, path: str, encoding: str) -> None:
    """Nothing is unpacked here."""
    answer = post(member, method, path, json.dumps(BODIES[method, path] or {}).encode(), content_encoding=encoding)
    assert_problem(answer, "unsupported-media-type")


def test_merge_patch_is_for_patch(member: Member) -> None:
    """Its media type is refused elsewhere."""
    answer = post(member, "POST", "/events", json.dumps(EVENT).encode(), content_type="application/merge-patch+json")
    assert_problem(answer, "unsupported-media-type")


NO_JSON = {
    "half": b'{"title":',
    "two values": b"{} {}",
    "a single quote": b"{'title': 1}",
    "NaN": b'{"title": NaN}',
    "beyond a double": b'{"title": 1e999}',
    "nothing but white space": b"  ",
    "10,000 arrays": b"[" * 10_000 + b"]" * 10_000,
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "10,000 arrays in a field": b'{"title":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 open arrays": b"[" * 10_000,
    "a lone surrogate": b'{"title": "abc\\ud800"}',
    "a lone surrogate inside": b'{"reason": "abc\\ud800 and the rest"}',
    "a lone low surrogate": b'{"reason": "abc\\udc00 and the rest"}',
    "a lone surrogate in a name": b'{"\\ud800": 1}',
    "a surrogate in UTF-8": b'{"title": "\xed\xa0\x80abc"}',
    "invalid UTF-8": b'{"title": "\xff\xfe"}',
    "Latin-1": '{"title": "Schöner Abend"}'.encode("latin-1"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "a raw NUL": b'{"title": "a\x00b"}',
    "a raw line end": b'{"title": "a\nb"}',
    "only NULs": b"\x00" * 100,
    "a form": b"title=Chess+night",
}

NO_OBJECT = {
    "array": b"[]",
    "array of objects": b"[{}]",
    "text": b'"text"',
    "number": b"5",
    "true": b"true",
    "null": b"null",
}


@each_body
def test_no_json(member: Member, method: str, path: str) -> None:
    """What isn't JSON is refused, whatever else is right about it."""
    for what, body in NO_JSON.items():
        assert post(member, method, path, body).status_code == 400, what
        assert_problem(post(member, method, path, body), "invalid-request")


@each_body
def test_no_object(member: Member, method: str, path: str) -> None:
    """A body is an object."""
    for body in NO_OBJECT.values():
        assert_problem(post(member, method, path, body), "invalid-request", "")


@each_body
def test_empty_body(member: Member, method: str, path: str) -> None:
    """Commands that need no body take none; every other operation says that it is missing."""
    answer = post(member, method, path, b"")
    assert_problem(answer, "invalid-request" if BODIES[method, path] else "not-found")


@each_body
def test_unknown_fields(member: Member, method: str, path: str) -> None:
    """Each is named, escaped as RFC 6901 says, beside a body that is right."""
    body = {**(BODIES[method, path] or {}), "extra": 1, "a/b~c": None, "~1": {}, "": [], "\x00": "", "é": 1}
    answer = post(member, method, path, json.dumps(body).encode())
    assert_problem(answer, "invalid-request", "/extra", "/a~1b~0c", "/~01", "/", "/\x00", "/é")


@each_body
def test_more_wrong_than_anybody_reads(member: Member, method: str, path: str) -> None:
    """A small request isn't turned into a huge answer."""
    body = json.dumps({f"field{number}": number for number in range(20_000)}).encode()
    answer = post(member, method, path, body)
    assert_problem(answer, "invalid-request")
    assert len(answer.content) < 20_000
    answer = post(member, method, path, json.dumps({"x" * 500_000: 1}).encode())
    assert_problem(answer, "invalid-request")
    assert len(answer.content) < 20_000


def test_every_field_at_once(member: Member) -> None:
    """All that is missing, wrong or unknown is named in one answer."""
    created = post(member, "POST", "/events", b'{"title": "ab", "endDate": "tomorrow", "location": 5, "x": 1}')
    assert_problem(created, "invalid-request", "/title", "/description", "/startDate", "/endDate", "/location", "/x")
    patched = post(member, "PATCH", NOWHERE, b'{"title": null, "startDate": null, "timeZone": "", "location": " "}')
    assert_problem(patched, "invalid-request", "/title", "/startDate", "/timeZone", "/location")
    signed_up = post(member, "POST", "/auth/signup", b'{"email": "nobody", "password": "short", "lastName": " "}')
    assert_problem(signed_up, "invalid-request", "/email", "/password", "/firstName", "/lastName")
    logged_in = post(member, "POST", "/auth/login", b'{"organizationId": 7}')
    assert_problem(logged_in, "invalid-request", "/email", "/password", "/organizationId")


def test_rules_of_the_service_at_once(member: Member) -> None:
    """What no type can say is named together, too."""
    body = {
        **EVENT,
        "startDate": "0001-01-01T00:00:00+01:00",
        "endDate": "9999-12-31T23:59:59-01:00",
        "timeZone": "Mars",
    }
    assert_problem(member.http.post("/events", json=body), "invalid-request", "/startDate", "/endDate", "/timeZone")
    body = {**EVENT, "startDate": EVENT["endDate"], "timeZone": "Mars/Phobos"}
    assert_problem(member.http.post("/events", json=body), "invalid-request", "/endDate", "/timeZone")
    body = {**SIGNUP, "password": SIGNUP["email"], "organizationName": "!!!"}
    assert_problem(member.http.post("/auth/signup", json=body), "invalid-request", "/password", "/organizationName")


# No text of one line may have them.
BAD = "\x7f\x85\x9b\u2028\u2029"

WRONG_VALUES: list[tuple[str, str, dict[str, Any], str, list[Any]]] = [
    (
        "POST",
        "/events",
        EVENT,
        "title",
        [
            5,
            True,
            None,
            [],
            {},
            "ab",
            "x" * 201,
            "   ",
            "a\x00bc",
            "a\x1fbc",
            "abc\n",
            "a\nb",
            "abc\x7f",
            "\u2003" * 3,
            "a\x85bc",
            "abc\x9b",
            "a\u2028bc",
            "a\u2029bc",
        ],
    ),
    (
        "POST",
        "/events",
        EVENT,
        "description",
        [5, None, "too short", "x" * 5001, " " * 20, "long enough\x00", "long enough\x9b", "\n" * 10],
    ),
    ("POST", "/events", EVENT, "location", [5, " ", "x" * 201, ["Room 1"], "Room\x001", "Room\n1", False]),
    (
        "POST",
        "/events",
        EVENT,
        "startDate",
        [
            1804000000,
            1804000000.5,
            "1804000000",
            "2027-03-01",
            "2027-03-01 18:00",
            "2027-02-30T18:00:00Z",
            "2027-03-01T25:00:00Z",
            "tomorrow",
            "",
            None,
            True,
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2027-03-01T18:00:00Z\x00",
            "2027-03-01T18:00:00+99:00",
        ],
    ),
    (
        "POST",
        "/events",
        EVENT,
        "timeZone",
        [
            5,
            "",
            "Mars/Phobos",
            "utc\n",
            "../../etc/passwd",
            "europe/berlin",
            "x" * 65,
            True,
            "Europe",
            "posixrules\x00",
            "posixrules",
            "localtime",
            "Factory",
        ],
    ),
    ("POST", f"{NOWHERE}/reject", {}, "reason", [None, 5, "short", "x" * 501, " " * 10, "long enough\x00", True]),
    ("POST", f"{NOWHERE}/cancel", {}, "reason", [5, "short", "x" * 501, " " * 10, "long enough\x00", {}]),
    (
        "POST",
        "/auth/signup",
        SIGNUP,
        "email",
        [
            5,
            None,
            "",
            "nobody",
            "a@b@c",
            "a b@example.com",
            "@example.com",
            "a@",
            "a@b\x00",
            f"{'a' * 250}@x.com",
            f"{'İ' * 249}@x.or",
            "a\x9bb@example.com",
            "a@b\nc",
        ],
    ),
    ("POST", "/auth/signup", SIGNUP, "password", [12345678, None, "1234567", "x" * 129, True, ["correct horse"]]),
    ("POST", "/auth/signup", SIGNUP, "firstName", [5, None, "", "  ", "x" * 101, "N\x00ia", "N\nia"]),
    ("POST", "/auth/signup", SIGNUP, "organizationName", [5, "", " ", "!?", "x" * 101, "N\x00w", "—", []]),
    ("POST", "/auth/login", BODIES["POST", "/auth/login"] or {}, "password", [5, None, True, "x" * 1025]),
    ("POST", "/auth/login", BODIES["POST", "/auth/login"] or {}, "organizationId", [5, "", "1", "x" * 36, "{}", True]),
]


@pytest.mark.parametrize(
    ("method", "path", "right", "field", "values"),
    WRONG_VALUES,
    ids=[f"{path.rpartition('/')[2]} {field}" for _, path, _, field, _ in WRONG_VALUES],
)
def test_wrong_value(
    member: Member, method: str, path: str, right: dict[str, Any], field: str, values: list[Any]
) -> None:
    """Nothing is converted, cut or guessed: a text isn't a number, nor a number a date."""
    for value in values:
        answer = post(member, method, path, json.dumps({**right, field: value}).encode())
        assert answer.status_code == 400, (value, answer.text)
        assert_problem(answer, "invalid-request", f"/{field}")


def test_field_given_twice(member: Member) -> None:
    """It is refused, whichever value is right."""
    answer = post(member, "POST", "/events", json.dumps(EVENT).encode().replace(b"{", b'{"title": 5, ', 1))
    problem = assert_problem(answer, "invalid-request", "/title")
    assert problem["errors"][0]["detail"] == "This name is given twice. Give it once."
