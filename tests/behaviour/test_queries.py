"""Whatever is wrong with a path, a method, a query or a header, the answer is a documented problem."""

import json

import pytest

from tests.support import raw
from tests.support.board import EVENT, Board, Member, Organization
from tests.support.bodies import BODIES, ID, NOWHERE, post
from tests.support.problems import assert_problem


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
        ("search=%20", ["/search"]),
        ("search=%00", ["/search"]),
        ("search=a%00b", ["/search"]),
        (f"search={'x' * 201}", ["/search"]),
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
    """The detail says what is wrong: the number, not that a query is text."""
    problem = member.http.get("/events", params={"page": number}).json()
    assert "text" not in problem["errors"][0]["detail"]
    assert "str" not in problem["errors"][0]["detail"]
    assert problem["errors"][0]["detail"] in ("It must be 1 or more.", "It must be 10000 or less.")


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
def test_malformed_precondition(shared_organization: Organization, header: str, value: str) -> None:
    """A precondition that can't be read isn't taken for one that holds, nor for none."""
    event = shared_organization.user.create()
    method = "GET" if header == "if-none-match" else "DELETE"
    answer = raw.request(
        str(shared_organization.user.http.base_url),
        method,
        f"/events/{event['id']}",
        token=shared_organization.user.token,
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
