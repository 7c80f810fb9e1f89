"""Whatever is wrong with a request, the answer is a documented problem, and never our fault."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import raw
from tests.support.board import EVENT, Board, Member, Organization
from tests.support.problems import STATUS, assert_problem

SIGNUP = {
    "email": "new@example.com",
    "password": "correct horse battery",
    "firstName": "Nia",
    "lastName": "New",
    "organizationName": "New Ideas",
}
REASON = {"reason": "Please name a room."}
# Bodies are judged before the event is looked for: none has to be there.
ID = "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"
NOWHERE = f"/events/{ID}"

# Every operation that reads a body, with one that is right; None where an empty one is.
BODIES: dict[tuple[str, str], dict[str, Any] | None] = {
    ("POST", "/auth/signup"): SIGNUP,
    ("POST", "/auth/login"): {"email": "nobody@example.com", "password": "correct horse battery"},
    ("POST", "/events"): EVENT,
    ("PATCH", NOWHERE): {"title": "Another title"},
    ("POST", f"{NOWHERE}/reject"): REASON,
    ("POST", f"{NOWHERE}/submit"): None,
    ("POST", f"{NOWHERE}/approve"): None,
    ("POST", f"{NOWHERE}/withdraw"): None,
    ("POST", f"{NOWHERE}/cancel"): None,
}
each_body = pytest.mark.parametrize(
    ("method", "path"), BODIES, ids=[f"{method} {path.replace(NOWHERE, 'event')}" for method, path in BODIES]
)


@pytest.fixture(scope="module")
def members() -> dict[str, Member]:
    return {}


@pytest.fixture
def member(board: Board, members: dict[str, Member]) -> Member:
    """One for all tests here, which leave nothing behind that another would see."""
    if board.url not in members:
        members[board.url] = board.member(board.organization().id, "ADMIN")
    member = members[board.url]
    return replace(member, http=board.client(member.token))


def post(member: Member, method: str, path: str, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    given = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return member.http.request(method, path, content=body, headers=given)


# ---------------------------------------------------------------------------------------------------------------------
# The framework's own


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/events/1/2/3",
        "/Events",
        "/schema/nope",
        "/schema/nope.json",
        "/problems/a/b",
        "/auth",
        "/health/nope",
    ],
)
def test_no_such_path(board: Board, path: str) -> None:
    """A path that leads nowhere is a problem, for people's pages too."""
    assert_problem(board.client().get(path), "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/events", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/events", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", NOWHERE, {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
        ("GET", f"{NOWHERE}/submit", {"POST", "OPTIONS"}),
        ("GET", "/auth/login", {"POST", "OPTIONS"}),
        ("POST", "/auth/me", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/schema/openapi.json", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/events", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("PROPFIND", "/events", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("CONNECT", "/events", {"GET", "HEAD", "POST", "OPTIONS"}),
    ],
)
def test_other_method(board: Board, method: str, path: str, allowed: set[str]) -> None:
    """The refusal says which methods the path has."""
    answer = raw.request(board.url, method, path)
    assert_problem(answer, "method-not-allowed")
    assert answer.headers["allow"] == ", ".join(sorted(allowed))


def test_options(board: Board) -> None:
    """A path says what it allows, as its refusals do."""
    for path in ("/events", NOWHERE, f"{NOWHERE}/submit", "/auth/login", "/health", "/problems"):
        asked = board.client().options(path)
        assert asked.status_code == 204
        refused = board.client().request("TRACE", path)
        assert_problem(refused, "method-not-allowed")
        assert asked.headers["allow"] == refused.headers["allow"]


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


# ---------------------------------------------------------------------------------------------------------------------
# Bodies

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
    patched = post(member, "PATCH", NOWHERE, b'{"title": null, "startDate": null, "timeZone": "", "location": ""}')
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
    ("POST", "/events", EVENT, "location", [5, "", " ", "x" * 201, ["Room 1"], "Room\x001", "Room\n1", False]),
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
            "2027-03-01T18:00:00",
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
    """A wrong value is refused even where a right one follows it."""
    answer = post(member, "POST", "/events", json.dumps(EVENT).encode().replace(b"{", b'{"title": 5, ', 1))
    problem = assert_problem(answer, "invalid-request")
    assert "title" in problem["errors"][0]["detail"]


# ---------------------------------------------------------------------------------------------------------------------
# Queries and paths


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("page=0", ["/page"]),
        ("page=10001", ["/page"]),
        ("page=-1", ["/page"]),
        ("page=1.0", ["/page"]),
        ("page=1e3", ["/page"]),
        ("page=%2B1", ["/page"]),
        ("page=%201", ["/page"]),
        ("page=", ["/page"]),
        ("page=true", ["/page"]),
        ("page=null", ["/page"]),
        ("page=%D9%A3", ["/page"]),
        ("page=99999999999999999999", ["/page"]),
        ("limit=0&limit=1", ["/limit"]),
        ("limit=101", ["/limit"]),
        ("limit=ten&page=one", ["/limit", "/page"]),
        ("page=1&page=1", ["/page"]),
        ("status=draft", ["/status"]),
        ("status=", ["/status"]),
        ("status=DRAFT,SUBMITTED", ["/status"]),
        ("sortBy=id&sortOrder=ASC", ["/sortBy", "/sortOrder"]),
        ("search=", ["/search"]),
        ("search=%20", ["/search"]),
        ("search=%00", ["/search"]),
        ("search=a%00b", ["/search"]),
        (f"search={'x' * 201}", ["/search"]),
        ("startDateFrom=2027-01-01", ["/startDateFrom"]),
        ("startDateFrom=1804000000&startDateTo=tomorrow", ["/startDateFrom", "/startDateTo"]),
        ("startDateFrom=2027-01-01T00:00:00%2099:00", ["/startDateFrom"]),
        (
            "startDateFrom=0001-01-01T00:00:00%2B01:00&startDateTo=9999-12-31T23:59:59-01:00",
            ["/startDateFrom", "/startDateTo"],
        ),
        ("cursor=", ["/cursor"]),
        ("cursor=%00", ["/cursor"]),
        ("nope=1&Page=1&a%2Fb~c=1", ["/nope", "/Page", "/a~1b~0c"]),
        ("x", ["/x"]),
        ("=", ["/"]),
        ("data[]=1", ["/data[]"]),
        ("search=%ff", []),
        ("search=%ED%A0%80", []),
        ("search=%zz", []),
        ("search=%", []),
        ("search=%4", []),
        ("%=1", []),
        ("&".join(f"p{number}=1" for number in range(200)), []),
    ],
)
def test_wrong_query(member: Member, query: str, pointers: list[str]) -> None:
    """Every query parameter is known, given once, and of its type."""
    assert_problem(
        raw.request(str(member.http.base_url), "GET", f"/events?{query}", token=member.token),
        "invalid-request",
        *pointers,
    )


@pytest.mark.parametrize("number", ["-1", "0", "10001", "999999999999999999"])
def test_number_out_of_range(member: Member, number: str) -> None:
    """It is told what is wrong: the number, not that a query is text."""
    problem = member.http.get("/events", params={"page": number}).json()
    assert "text" not in problem["errors"][0]["detail"]
    assert "str" not in problem["errors"][0]["detail"]
    assert re.search("[<>]= 1", problem["errors"][0]["detail"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *BODIES,
        ("GET", "/auth/me"),
        ("GET", NOWHERE),
        ("DELETE", NOWHERE),
        ("GET", f"{NOWHERE}/history"),
    ],
)
def test_query_where_there_is_none(member: Member, method: str, path: str) -> None:
    """A parameter that an operation doesn't know is an error there, too."""
    body = json.dumps(BODIES.get((method, path)) or {}).encode()
    assert_problem(post(member, method, f"{path}?dryRun=true", body), "invalid-request", "/dryRun")


@pytest.mark.parametrize(
    "target",
    [
        "/events/%",
        "/events/%zz",
        "/events/%00",
        "/events/%ff",
        "/events/%ED%A0%80",
        "/events/..%2f..%2fetc",
        "/events/%2e%2e",
        "/events/1",
        f"/events/{ID.replace('-', '')}",
        f"/events/{{{ID}}}",
        f"/events/{ID}%00",
        f"/events/{ID}%0a",
        f"/events/urn:uuid:{ID}",
        "/events/" + "x" * 8000,
        "/problems/%ff",
        "/problems/%00",
        "/problems/../problems/x",
        "/schema/static/x/..%2f..%2fapp.py",
        "/schema/static/x/%00",
        "/schema/static/x/%ff",
        "*",
        "/events;a=b",
    ],
)
def test_path_that_names_nothing(member: Member, target: str) -> None:
    """However it is written, it is not found, and no more."""
    assert_problem(raw.request(str(member.http.base_url), "GET", target, token=member.token), "not-found")


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
@pytest.mark.parametrize("value", ['"1', "1", '"1" "2"', 'w/"1"', '"1", *', '"\t"', '"a" b'])
def test_malformed_precondition(organization: Organization, header: str, value: str) -> None:
    """A precondition that can't be read isn't taken for one that holds, nor for none."""
    event = organization.user.create()
    method = "GET" if header == "if-none-match" else "DELETE"
    answer = raw.request(
        str(organization.user.http.base_url),
        method,
        f"/events/{event['id']}",
        token=organization.user.token,
        headers=(f"{header}: {value}",),
    )
    assert_problem(answer, "invalid-request")


def test_sensible_requests_in_strange_clothes(member: Member) -> None:
    """What HTTP calls the same is the same."""
    body = json.dumps(EVENT).encode()
    length = f"Content-Length: {len(body)}"
    for headers in (
        ("content-type: APPLICATION/JSON; Charset=UTF-8", length),
        ("Content-Type:application/json", "Content-Encoding: identity", length),
        ("CONTENT-TYPE: application/json;", length, "X-Unknown: \xe4\xf6\xfc", f"X-Long: {'x' * 30_000}"),
    ):
        answer = raw.request(
            str(member.http.base_url), "POST", "/events", token=member.token, headers=headers, body=body
        )
        assert answer.status_code == 201, answer.text
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    answer = raw.request(str(member.http.base_url), "POST", "/events", token=member.token, headers=headers, body=chunks)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /events\r\n\r\n", id="no version"),
        pytest.param(b"GET /events HTTP/9.9\r\n\r\n", id="a version to come"),
        pytest.param(b"FOO /events HTTP/1.1\r\nHost: test\r\n\r\n", id="no method of HTTP"),
        pytest.param(b"GET /events HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(b"GET /ev\xc3\xa4nts HTTP/1.1\r\nHost: test\r\n\r\n", id="raw UTF-8 in the path"),
        pytest.param(b"POST /events HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(
            b"POST /events HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            id="two lengths",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"\r\n\r\n\x00\x00", id="noise"),
    ],
)
def test_what_is_no_request(board: Board, data: bytes) -> None:
    """The server's own refusal needs no problem, only not to be a failure of ours."""
    assert 400 <= raw.send(board.url, data).status_code < 500


# ---------------------------------------------------------------------------------------------------------------------
# On every problem, and on every answer


def test_every_type_has_its_page(board: Board) -> None:
    """`type` leads to a page for people, for each documented code; the index lists them all."""
    http = board.client()
    for code, status in STATUS.items():
        page = http.get(f"/problems/{code}")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert f"<h1>{status} " in page.text
        assert code in page.text
    listed = re.findall(r'href="/problems/([a-z-]+)"', http.get("/problems").text)
    assert set(listed) >= STATUS.keys()
    assert all(http.get(f"/problems/{code}").status_code == 200 for code in listed)
    assert_problem(http.get("/problems/no-such-problem"), "not-found")


@pytest.mark.parametrize("given", ["a", "A-Z.a_z:0-9", "x" * 128])
def test_correlation_id_taken(board: Board, given: str) -> None:
    """A well-formed correlation id comes back, on a good answer and in a problem."""
    headers = {"x-correlation-id": given}
    assert board.client().get("/health/live", headers=headers).headers["x-correlation-id"] == given
    assert assert_problem(board.client().get("/nope", headers=headers), "not-found")["correlationId"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "a,b", "a\tb", "\xe4", "a=b", '"a"'])
def test_correlation_id_replaced(board: Board, given: str) -> None:
    """One that isn't is replaced by a new one, each time another."""
    answers = [raw.request(board.url, "GET", "/nope", headers=(f"X-Correlation-ID: {given}",)) for _ in range(2)]
    ids = {assert_problem(answer, "not-found")["correlationId"] for answer in answers}
    assert len(ids) == 2
    assert given not in ids
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", id_) for id_ in ids)


def test_correlation_id_on_every_answer(organization: Organization) -> None:
    """Whatever the answer is, and whoever makes it."""
    user = organization.user.http
    event = organization.user.create()
    path = f"/events/{event['id']}"
    page = user.get("/schema/swagger").text
    static = re.findall(r'"(/schema/static/[^"]+\.js)"', page)[0]
    expected = {
        ("GET", path): 200,
        ("POST", "/auth/signup"): 400,
        ("GET", "/nope"): 404,
        ("PUT", path): 405,
        ("OPTIONS", path): 204,
        ("HEAD", path): 200,
        ("GET", "/"): 307,
        ("GET", "/docs"): 307,
        ("GET", "/schema"): 307,
        ("GET", "/schema/openapi.json"): 200,
        ("GET", "/schema/swagger"): 200,
        ("GET", static): 200,
        ("GET", static.replace(".js", ".css")): 404,
        ("GET", "/problems"): 200,
        ("GET", "/health"): 200,
        ("GET", "/health/ready"): 200,
        ("GET", "/.well-known/jwks.json"): 200,
        ("POST", f"{path}/submit"): 200,
        ("POST", f"{path}/withdraw"): 200,
        ("POST", f"{path}/approve"): 403,
        ("DELETE", path): 204,
    }
    for number, ((method, target), status) in enumerate(expected.items()):
        answer = user.request(method, target, headers={"x-correlation-id": f"answer-{number}"}, json={})
        assert (method, target, answer.status_code) == (method, target, status)
        assert answer.headers.get_list("x-correlation-id") == [f"answer-{number}"]
    unchanged = user.get(f"/events/{organization.user.create()['id']}", headers={"if-none-match": '"1"'})
    assert unchanged.status_code == 304
    assert unchanged.headers["x-correlation-id"]


@pytest.mark.parametrize("authorization", [None, "Basic dXNlcjpwYXNz", "Digest x", "Negotiate"])
def test_challenge_where_no_token_was_sent(board: Board, authorization: str | None) -> None:
    """RFC 6750, section 3.1: a client that doesn't know bearer tokens is told of no error."""
    headers = {} if authorization is None else {"authorization": authorization}
    answer = board.client().get("/auth/me", headers=headers)
    assert_problem(answer, "invalid-token")
    assert answer.headers["www-authenticate"] == 'Bearer realm="eventboard"'


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer x", "bearer a.b.c", "Bearer a b", "BEARER \xe4", "Bearer ,"]
)
def test_challenge_where_the_token_is_wrong(board: Board, authorization: str) -> None:
    """The error is named, in characters that RFC 6750 allows there."""
    answer = raw.request(board.url, "GET", "/auth/me", headers=(f"Authorization: {authorization}",))
    assert_problem(answer, "invalid-token")
    challenge = answer.headers["www-authenticate"]
    assert re.fullmatch(
        r'Bearer realm="eventboard", error="invalid_token", error_description="[\x20\x21\x23-\x5b\x5d-\x7e]+"',
        challenge,
    )


def test_two_tokens(member: Member) -> None:
    """Neither of two Authorization headers is chosen."""
    headers = (f"Authorization: Bearer {member.token}", "Authorization: Bearer x")
    assert_problem(raw.request(str(member.http.base_url), "GET", "/auth/me", headers=headers), "invalid-token")


def test_token_before_everything_else(board: Board) -> None:
    """Who may not call at all is told nothing about the request."""
    http = board.client()
    for method, path in [*BODIES, ("GET", "/events?nope=1"), ("GET", "/auth/me?nope=1"), ("GET", "/events/1/history")]:
        if not path.startswith("/auth/signup") and not path.startswith("/auth/login"):
            assert_problem(http.request(method, path, content=b"\xff"), "invalid-token")


# ---------------------------------------------------------------------------------------------------------------------
# Anything at all

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
