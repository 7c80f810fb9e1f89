"""A write with an idempotency key happens once, however often it is sent; and what becomes of the key."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.holding import holding
from tests.support.problems import assert_problem
from tests.support.proxy import proxied
from tests.support.raw import request
from tests.support.writes import WRITES, essence, happened, statuses

EXECUTED, REPLAYED = (200, "executed"), (200, "replayed")
CREATED, CREATED_BEFORE = (201, "executed"), (201, "replayed")
each_write = pytest.mark.parametrize("name", WRITES)


def key() -> str:
    return uuid4().hex


def post(member: Member, key: str, body: dict[str, Any] | str | bytes = EVENT) -> httpx.Response:
    content = json.dumps(body) if isinstance(body, dict) else body
    headers = {"idempotency-key": key, "content-type": "application/json"}
    return member.http.post("/events", content=content, headers=headers)


def log_in(board: Board, member: Member, organization: Organization) -> Member:
    """The same person with a new token, in that organization."""
    body = {"email": member.email, "password": PASSWORD, "organizationId": str(organization.id)}
    answer = board.client().post("/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    token, role = answer.json()["accessToken"], answer.json()["user"]["role"]
    return Member(member.id, member.email, role, organization.id, board).with_token(token)


def give_role(board: Board, member: Member, organization: Organization, role: str) -> Member:
    """The same person with another role, and a token that says so."""
    board.sql("UPDATE auth.memberships SET role = $2 WHERE user_id = $1", member.id, role)
    return log_in(board, member, organization)


# Replays


@each_write
def test_sent_twice(board: Board, shared_organization: Organization, name: str) -> None:
    """It happens once; the second answer is the first one's status, bytes, ETag and Location."""
    write, http = WRITES[name], shared_organization.admin.http
    event_id = write.event(board, shared_organization.admin)
    before, mine = happened(board, shared_organization), key()
    first, second, third = (write.send(http, event_id, key=mine) for _ in range(3))
    assert essence(first) == essence(second) == essence(third)
    assert statuses(first, second, third) == [
        (write.success, "executed"),
        (write.success, "replayed"),
        (write.success, "replayed"),
    ]
    events = {"create": 1, "delete": -1}.get(name, 0)
    assert happened(board, shared_organization) == (before[0] + events, before[1] + 1)
    assert ("etag" in second.headers, "location" in second.headers) == (name != "delete", name == "create")


@each_write
def test_replay_after_the_event_moved_on(board: Board, shared_organization: Organization, name: str) -> None:
    """The answer tells what the write led to then, whatever has become of the event since."""
    write, admin, mine = WRITES[name], shared_organization.admin, key()
    event_id = write.event(board, admin)
    first = write.send(admin.http, event_id, key=mine)
    event_id = event_id or first.json()["id"]
    if name != "delete":
        assert admin.http.patch(f"/events/{event_id}", json={"title": "Moved on"}).status_code == 200
        assert admin.http.delete(f"/events/{event_id}").status_code == 204
    second = write.send(admin.http, event_id, key=mine)
    assert essence(first) == essence(second)
    assert second.headers["idempotency-status"] == "replayed"


def test_edit_that_changes_nothing(organization: Organization) -> None:
    """It is an outcome too: replayed as it was, though the event has changed since."""
    author, mine = organization.user, key()
    path = f"/events/{author.create()['id']}"
    first = author.http.patch(path, json={}, headers={"idempotency-key": mine})
    author.http.patch(path, json={"title": "Moved on"})
    second = author.http.patch(path, json={}, headers={"idempotency-key": mine})
    assert essence(first) == essence(second)
    assert (statuses(first, second), second.json()["version"]) == ([EXECUTED, REPLAYED], 1)


def test_largest_event(organization: Organization) -> None:
    """An outcome has room for whatever the API takes."""
    # Characters that take the most bytes, in UTF-8 and in JSON.
    body = {**EVENT, "title": "😀" * 200, "description": "😀" * 5000, "location": "😀" * 200}
    mine = key()
    first, second = post(organization.user, mine, body), post(organization.user, mine, body)
    assert statuses(first, second) == [CREATED, CREATED_BEFORE]
    assert essence(first) == essence(second)


def test_without_a_key(board: Board, organization: Organization) -> None:
    """Two requests are two writes, and nothing is said of keys."""
    answers = [organization.user.http.post("/events", json=EVENT) for _ in range(2)]
    assert statuses(*answers) == [(201, None), (201, None)]
    assert happened(board, organization) == (2, 2)


def test_operation_that_takes_no_keys(organization: Organization) -> None:
    """The answer says that the key was ignored, a refusal's too."""
    member, headers = organization.user, {"idempotency-key": "mine"}
    login = {"email": member.email, "password": PASSWORD}
    asked = {
        ("GET", "/events"): (None, 200),
        ("GET", "/auth/me"): (None, 200),
        ("POST", "/auth/login"): (login, 200),
        ("POST", "/auth/signup"): ({}, 400),
        ("GET", f"/events/{uuid4()}"): (None, 404),
        ("GET", "/idempotency-keys/mine"): (None, 200),
        ("GET", "/health/live"): (None, 200),
    }
    for (method, path), (body, status) in asked.items():
        answer = member.http.request(method, path, json=body, headers=headers)
        assert statuses(answer) == [(status, "ignored")], path


def test_answer_lost_after_the_commit(board: Board, organization: Organization) -> None:
    """The next request with the same key is told what the lost answer would have."""
    mine = key()
    url = httpx.URL(board.url)
    with proxied((url.host, url.port or 80)) as way:
        way.cut()
        with httpx.Client(base_url=way.url, headers=organization.user.http.headers) as http:
            with pytest.raises(httpx.TransportError):
                WRITES["create"].send(http, key=mine)
            retry, again = (WRITES["create"].send(http, key=mine) for _ in range(2))
    assert statuses(retry, again) == [CREATED_BEFORE, CREATED_BEFORE]
    assert essence(retry) == essence(again)
    assert happened(board, organization) == (1, 1)


# The same request, and another one


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(json.dumps(EVENT, indent=3) + "\r\n\t ", id="white space"),
        pytest.param(json.dumps(dict(reversed(EVENT.items()))), id="order"),
        pytest.param(json.dumps(EVENT).replace("Chess", "\\u0043hess"), id="escapes"),
        pytest.param({**EVENT, "location": None, "timeZone": None}, id="defaults"),
        pytest.param({**EVENT, "timeZone": "UTC"}, id="a default by its name"),
        pytest.param({**EVENT, "startDate": "2027-03-01T23:30:00+05:30"}, id="another offset"),
        pytest.param({**EVENT, "startDate": "2027-03-01t18:00:00.000000z"}, id="another form"),
    ],
)
def test_same_request_written_differently(shared_organization: Organization, again: dict[str, Any] | str) -> None:
    """What is compared is what the body says, not its bytes."""
    mine = key()
    first, second = post(shared_organization.user, mine), post(shared_organization.user, mine, again)
    assert statuses(first, second) == [CREATED, CREATED_BEFORE], second.text
    assert essence(first) == essence(second)


def assert_refused_as_reused(answer: httpx.Response, *differs: str) -> None:
    """It names what differs, and tells nothing else."""
    problem = assert_problem(answer, "idempotency-key-reused")
    words = {"target": "event", "payload": "body or If-Match"}
    parts = ", ".join(words.get(part, part) for part in differs)
    expected = f"This idempotency key was used for a request with another {parts}. Use a new key for a new request."
    assert problem["detail"] == expected
    assert {"idempotency-status", "etag", "location"}.isdisjoint(answer.headers)


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "Chess night!"},
        {"location": "Room 4.12"},
        {"timeZone": "Europe/Vienna"},
        {"startDate": "2027-03-01T18:00:00.000001Z"},
    ],
    ids=["title", "new field", "time zone", "a microsecond"],
)
def test_same_key_other_body(board: Board, organization: Organization, changed: dict[str, Any]) -> None:
    """A key can't be reused for a different request."""
    mine = key()
    assert post(organization.user, mine).status_code == 201
    assert_refused_as_reused(post(organization.user, mine, {**EVENT, **changed}), "payload")
    assert happened(board, organization) == (1, 1)


def test_null_is_not_absent_in_an_edit(organization: Organization) -> None:
    """There, null clears a field, and absence keeps it."""
    author, mine = organization.user, {"idempotency-key": key()}
    path = f"/events/{author.create(location='Room 1')['id']}"
    assert author.http.patch(path, json={"title": "Chess"}, headers=mine).status_code == 200
    cleared = author.http.patch(path, json={"title": "Chess", "location": None}, headers=mine)
    assert_refused_as_reused(cleared, "payload")


def test_same_key_other_event(board: Board, organization: Organization) -> None:
    """The event is part of the request."""
    admin, mine = organization.admin, key()
    ids = board.put([{"author": admin, "status": "DRAFT"}] * 2)
    assert WRITES["submit"].send(admin.http, ids[0], key=mine).status_code == 200
    assert_refused_as_reused(WRITES["submit"].send(admin.http, ids[1], key=mine), "target")
    assert admin.http.get(f"/events/{ids[1]}").json()["status"] == "DRAFT"


def test_same_key_other_operation(board: Board, organization: Organization) -> None:
    """So is what is asked for."""
    admin, mine = organization.admin, key()
    (id_,) = board.put([{"author": admin, "status": "SUBMITTED"}])
    assert WRITES["withdraw"].send(admin.http, id_, key=mine).status_code == 200
    assert_refused_as_reused(WRITES["submit"].send(admin.http, id_, key=mine), "operation")
    assert_refused_as_reused(WRITES["cancel"].send(admin.http, id_, key=mine), "operation", "payload")
    assert_refused_as_reused(post(admin, mine), "operation", "target", "payload")
    assert admin.http.get(f"/events/{id_}").json()["status"] == "DRAFT"


def test_same_key_other_condition(organization: Organization) -> None:
    """If-Match is what the caller meant, so it counts; one that held then is not judged again."""
    author, mine, submit = organization.user, key(), WRITES["submit"]
    id_ = author.create()["id"]
    first = submit.send(author.http, id_, key=mine, if_match='"1"')
    again = submit.send(author.http, id_, key=mine, if_match='"1"')
    assert statuses(first, again) == [EXECUTED, REPLAYED]
    for other in ({}, {"if_match": "*"}, {"if_match": '"2"'}):
        assert_refused_as_reused(submit.send(author.http, id_, key=mine, **other), "payload")


def test_same_key_other_request_that_would_be_refused(organization: Organization) -> None:
    """What the key was used for is looked at first: a refusal isn't stored in its place."""
    author, mine = organization.user, key()
    first = post(author, mine)
    assert_refused_as_reused(
        WRITES["submit"].send(author.http, str(uuid4()), key=mine), "operation", "target", "payload"
    )
    assert statuses(post(author, mine)) == [CREATED_BEFORE]
    assert first.status_code == 201


# Whose key it is


def test_same_key_of_another_user(board: Board, organization: Organization) -> None:
    """Each user has keys of their own."""
    mine = key()
    answers = [post(member, mine) for member in (organization.user, organization.other, organization.admin)]
    assert statuses(*answers) == [CREATED] * 3
    assert happened(board, organization) == (3, 3)


def test_same_user_in_another_organization(board: Board, organization: Organization) -> None:
    """A user has keys of their own in each organization."""
    mine, elsewhere, user = key(), board.organization(), organization.user
    board.sql(
        "INSERT INTO auth.memberships (organization_id, user_id, role) VALUES ($1, $2, 'USER')", elsewhere.id, user.id
    )
    there = log_in(board, user, elsewhere)
    first, second = post(user, mine), post(there, mine, {**EVENT, "title": "Chess elsewhere"})
    assert statuses(first, second) == [CREATED, CREATED]
    assert second.json()["organizationId"] == str(elsewhere.id)
    assert statuses(post(user, mine)) == [CREATED_BEFORE]
    assert (happened(board, organization), happened(board, elsewhere)) == ((1, 1), (1, 1))


def test_new_token(board: Board, organization: Organization) -> None:
    """A token is not part of the request: who logs in anew may repeat what was sent before."""
    mine, user = key(), organization.user
    first, second = post(user, mine), post(log_in(board, user, organization), mine)
    assert statuses(first, second) == [CREATED, CREATED_BEFORE]


def test_role_was_lost(board: Board, organization: Organization) -> None:
    """Who may not do such a thing any more is refused, and is not told what came of it; until they may again."""
    moderator, mine, approve = organization.moderator, key(), WRITES["approve"]
    id_ = organization.event_in("SUBMITTED")["id"]
    first = approve.send(moderator.http, id_, key=mine)
    lost = approve.send(give_role(board, moderator, organization, "USER").http, id_, key=mine)
    assert_problem(lost, "forbidden")
    assert {"idempotency-status", "etag"}.isdisjoint(lost.headers)
    back = approve.send(give_role(board, moderator, organization, "ADMIN").http, id_, key=mine)
    assert statuses(first, back) == [EXECUTED, REPLAYED]
    assert essence(first) == essence(back)


def test_role_that_never_may(organization: Organization) -> None:
    """What it is refused isn't kept: it would be refused otherwise the second time, as who lost the role is."""
    event, mine = organization.event_in("SUBMITTED"), key()
    answers = [WRITES["approve"].send(organization.other.http, event["id"], key=mine) for _ in range(2)]
    assert statuses(*answers) == [(404, None), (404, None)]


# Refusals


def test_refusal_by_state_is_kept(board: Board, organization: Organization) -> None:
    """The state decided it, and that is the outcome, though the event could be approved by now."""
    author, admin, approve, mine = organization.user, organization.admin, WRITES["approve"], key()
    id_ = author.create()["id"]
    first = approve.send(admin.http, id_, key=mine, x_correlation_id="the-first")
    assert WRITES["submit"].send(author.http, id_).status_code == 200
    before = happened(board, organization)
    second = approve.send(admin.http, id_, key=mine, x_correlation_id="the-second")
    assert statuses(first, second) == [(409, "executed"), (409, "replayed")]
    assert essence(first) == essence(second)
    assert [assert_problem(answer, "wrong-state")["correlationId"] for answer in (first, second)] == [
        "the-first",
        "the-second",
    ]
    assert happened(board, organization) == before
    assert statuses(approve.send(admin.http, id_, key=key())) == [EXECUTED]


@pytest.mark.parametrize("name", [name for name in WRITES if name != "create"])
def test_not_found_is_kept(shared_organization: Organization, name: str) -> None:
    """Nothing was there to do it to."""
    id_, mine = str(uuid4()), key()
    first, second = (WRITES[name].send(shared_organization.admin.http, id_, key=mine) for _ in range(2))
    assert statuses(first, second) == [(404, "executed"), (404, "replayed")]
    assert essence(first) == essence(second)
    assert_problem(second, "not-found")


def test_not_visible_is_kept(organization: Organization) -> None:
    """Whether the event came into view later is not asked again; a new key asks."""
    author, other, mine, cancel = organization.user, organization.other, key(), WRITES["cancel"]
    id_ = organization.event_in("SUBMITTED", author=author)["id"]
    first = cancel.send(other.http, id_, key=mine)
    assert WRITES["approve"].send(organization.admin.http, id_).status_code == 200
    second, third = cancel.send(other.http, id_, key=mine), cancel.send(other.http, id_, key=key())
    assert statuses(first, second, third) == [(404, "executed"), (404, "replayed"), (403, None)]


@pytest.mark.parametrize("name", [name for name in WRITES if name != "create"])
def test_changed_event_is_kept(board: Board, shared_organization: Organization, name: str) -> None:
    """A condition that didn't hold doesn't begin to hold."""
    write, admin, mine = WRITES[name], shared_organization.admin, key()
    id_ = write.event(board, admin)
    first = write.send(admin.http, id_, key=mine, if_match='"2"')
    assert admin.http.patch(f"/events/{id_}", json={"title": "Version two"}).json()["version"] == 2
    second = write.send(admin.http, id_, key=mine, if_match='"2"')
    assert statuses(first, second) == [(412, "executed"), (412, "replayed")]
    assert essence(first) == essence(second)
    assert statuses(write.send(admin.http, id_, key=key(), if_match='"2"')) == [(write.success, "executed")]


def test_bad_request_is_not_kept(organization: Organization) -> None:
    """Neither what breaks a rule by itself, nor what does beside the stored event: the key is as good as new."""
    author, mine = organization.user, key()
    assert_problem(post(author, mine, {**EVENT, "title": 5}), "invalid-request", "/title")
    assert_problem(post(author, mine, {**EVENT, "endDate": EVENT["startDate"]}), "invalid-request", "/endDate")
    created = post(author, mine)
    assert statuses(created) == [CREATED]

    path, headers = f"/events/{created.json()['id']}", {"idempotency-key": key()}
    refused = author.http.patch(path, json={"endDate": "2026-01-01T00:00:00Z"}, headers=headers)
    assert_problem(refused, "invalid-request", "/endDate")
    assert statuses(refused) == [(400, None)]
    assert statuses(author.http.patch(path, json={"title": "Chess"}, headers=headers)) == [EXECUTED]


def test_missing_token_is_not_kept(board: Board, organization: Organization) -> None:
    """Nobody's key was used."""
    mine = key()
    refused = WRITES["create"].send(board.client("no.token.this"), key=mine)
    assert_problem(refused, "invalid-token")
    assert statuses(refused, post(organization.user, mine)) == [(401, None), CREATED]


def test_missing_right_is_not_kept(board: Board, organization: Organization) -> None:
    """Whoever is given the right may do it, with the same key."""
    author, mine, approve = organization.user, key(), WRITES["approve"]
    id_ = organization.event_in("SUBMITTED", author=author)["id"]
    refused = approve.send(author.http, id_, key=mine)
    assert_problem(refused, "forbidden")
    raised = approve.send(give_role(board, author, organization, "MODERATOR").http, id_, key=mine)
    assert statuses(refused, raised) == [(403, None), EXECUTED]


@pytest.mark.parametrize(("sqlstate", "code"), [("XX000", "internal"), ("53100", "unavailable")])
@pytest.mark.parametrize("table", ["history", "idempotency_keys"])
def test_failure_in_the_middle(board: Board, organization: Organization, table: str, sqlstate: str, code: str) -> None:
    """It leaves nothing behind, not of the write and not of the key; the next request runs, once."""
    user, mine, name = organization.user, key(), f"refuse_{uuid4().hex}"
    board.sql(
        f"CREATE FUNCTION events.{name}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'the test refuses' USING ERRCODE = '{sqlstate}'; END $$"
    )
    board.sql(
        f"CREATE TRIGGER {name} BEFORE INSERT ON events.{table} FOR EACH ROW"
        f" WHEN (NEW.organization_id = '{organization.id}') EXECUTE FUNCTION events.{name}()"
    )
    failed = post(user, mine)
    problem = assert_problem(failed, code)
    assert problem["retryable"], "with a key it is safe to send it again"
    assert happened(board, organization) == (0, 0)
    assert user.http.get(f"/idempotency-keys/{mine}").json() == {"key": mine, "state": "unknown"}
    board.sql(f"DROP FUNCTION events.{name} CASCADE")
    retry, again = post(user, mine), post(user, mine)
    assert statuses(failed, retry, again) == [(failed.status_code, None), CREATED, CREATED_BEFORE]
    assert essence(retry) == essence(again)
    assert happened(board, organization) == (1, 1)


# At the same time


def test_second_request_while_the_first_runs(board: Board, organization: Organization) -> None:
    """It waits, and is told the first one's outcome; meanwhile the key is said to be running."""
    author, mine, submit = organization.user, key(), WRITES["submit"]
    id_ = author.create()["id"]
    others = [log_in(board, author, organization) for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        with holding(board.database_url, "SELECT FROM events.events WHERE id = $1 FOR UPDATE", id_) as held:
            first = threads.submit(submit.send, author.http, id_, key=mine)
            held.until_waited_for()
            second = threads.submit(submit.send, others[0].http, id_, key=mine)
            differs = threads.submit(post, others[1], mine)
            assert author.http.get(f"/idempotency-keys/{mine}").json() == {"key": mine, "state": "running"}
            assert [call.done() for call in (second, differs)] == [False, False]
            held.release()
        answers = first.result(), second.result()
        assert_refused_as_reused(differs.result(), "operation", "target", "payload")
    assert statuses(*answers) == [EXECUTED, REPLAYED]
    assert essence(answers[0]) == essence(answers[1])
    assert answers[0].json()["version"] == 2


# Keys


def send_raw(board: Board, member: Member, *headers: str) -> httpx.Response:
    """A new event, with headers that no client would write so."""
    body = json.dumps(EVENT).encode()
    headers = (*headers, "Content-Type: application/json", f"Content-Length: {len(body)}")
    return request(board.url, "POST", "/events", token=member.token, headers=headers, body=body)


VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
QUOTED = '"' + VISIBLE.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    "given",
    ["k", "a" * 255, VISIBLE, "a/b%2Fc?d#e", '"unbalanced', "in\\side", ",;,", "0", "Ünicode".encode("idna").decode()],
    ids=["one", "255", "visible", "slashes", "half quoted", "backslash", "commas", "number", "encoded"],
)
def test_bare_key(organization: Organization, given: str) -> None:
    """1 to 255 visible ASCII characters, any of them."""
    first, second = post(organization.user, given), post(organization.user, given)
    assert statuses(first, second) == [CREATED, CREATED_BEFORE]


@pytest.mark.parametrize(
    ("bare", "quoted"),
    [
        ("key-1", '"key-1"'),
        ('say"so', '"say\\"so"'),
        ("back\\slash", '"back\\\\slash"'),
        ("a" * 255, '"' + "a" * 255 + '"'),
        ('"' * 255, '"' + '\\"' * 255 + '"'),
        (VISIBLE, QUOTED),
    ],
    ids=["plain", "quote", "backslash", "255", "255 escapes", "visible"],
)
def test_quoted_key(organization: Organization, bare: str, quoted: str) -> None:
    """Quotes are the header's, not the key's: both forms name the same key."""
    first, second = post(organization.user, quoted), post(organization.user, bare)
    assert statuses(first, second) == [CREATED, CREATED_BEFORE]
    told = organization.user.http.get(f"/idempotency-keys/{quote(bare, safe='')}").json()
    assert (told["key"], told["state"]) == (bare, "done")


def test_keys_differ_by_case(organization: Organization) -> None:
    """A key is compared to the byte."""
    assert statuses(*(post(organization.user, given) for given in ("key", "KEY", "key."))) == [CREATED] * 3


@pytest.mark.parametrize(
    "headers",
    [
        ("Idempotency-Key:",),
        ("Idempotency-Key:   ",),
        ('Idempotency-Key: ""',),
        (f"Idempotency-Key: {'a' * 256}",),
        (f'Idempotency-Key: "{"a" * 256}"',),
        ("Idempotency-Key: one", "Idempotency-Key: two"),
        ("Idempotency-Key: same", "idempotency-key: same"),
        ("Idempotency-Key: two words",),
        ('Idempotency-Key: "two words"',),
        ("Idempotency-Key: tab\tbed",),
        ("Idempotency-Key: caf\xe9",),
        ("Idempotency-Key: \xc3\xa9",),
        ("Idempotency-Key: \xa0",),
    ],
    ids=[
        "empty",
        "blank",
        "empty quotes",
        "256",
        "256 quoted",
        "two headers",
        "twice the same",
        "space",
        "space in quotes",
        "tab",
        "latin-1",
        "utf-8",
        "no-break space",
    ],
)
def test_bad_key(board: Board, organization: Organization, headers: tuple[str, ...]) -> None:
    """It is refused, and nothing is done: a client that sends a key relies on it."""
    answer = send_raw(board, organization.user, *headers)
    assert_problem(answer, "invalid-idempotency-key")
    assert statuses(answer) == [(400, None)]
    assert happened(board, organization) == (0, 0)


def test_blanks_around_a_key(board: Board, organization: Organization) -> None:
    """They are the header's."""
    given = ("padded", "  padded \t ", '\t "padded"  ')
    answers = [send_raw(board, organization.user, f"Idempotency-Key: {key}") for key in given]
    assert statuses(*answers) == [CREATED, CREATED_BEFORE, CREATED_BEFORE]


def test_control_character_in_a_key(board: Board, organization: Organization) -> None:
    """Refused, by the application or already by the server before it; nothing is done."""
    for character in (*range(0x20), 0x7F):
        answer = send_raw(board, organization.user, f"Idempotency-Key: a{chr(character)}b")
        assert answer.status_code == 400, hex(character)
    assert happened(board, organization) == (0, 0)


# What became of a key


def fate(member: Member, given: str) -> dict[str, Any]:
    answer = member.http.get(f"/idempotency-keys/{quote(given, safe='')}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@each_write
def test_key_of_a_write(board: Board, shared_organization: Organization, name: str) -> None:
    """Status, time, operation, resource and correlation id, as they were when it ran first."""
    write, admin, mine = WRITES[name], shared_organization.admin, key()
    event_id = write.event(board, admin)
    assert fate(admin, mine) == {"key": mine, "state": "unknown"}
    answer = write.send(admin.http, event_id, key=mine, x_correlation_id="the-first")
    write.send(admin.http, event_id, key=mine, x_correlation_id="the-second")
    told = fate(admin, mine)
    ((at,),) = board.sql("SELECT created_at FROM events.idempotency_keys WHERE key = $1", mine)
    assert told == {
        "key": mine,
        "state": "done",
        "status": write.success,
        "at": at.isoformat().replace("+00:00", "Z"),
        "operation": f"events.{name}",
        "resource": f"/events/{event_id or answer.json()['id']}",
        "correlationId": "the-first",
    }


def test_key_of_a_refusal(organization: Organization) -> None:
    """A refusal that is kept is an outcome."""
    mine, id_ = key(), str(uuid4())
    WRITES["approve"].send(organization.admin.http, id_, key=mine)
    told = fate(organization.admin, mine)
    assert (told["state"], told["status"], told["resource"]) == ("done", 404, f"/events/{id_}")


def test_key_of_somebody_else(board: Board, organization: Organization) -> None:
    """Nobody learns of others' keys, an ADMIN neither."""
    mine, stranger = key(), board.organization().user
    assert post(organization.user, mine).status_code == 201
    for member in (organization.other, organization.admin, stranger):
        assert fate(member, mine) == {"key": mine, "state": "unknown"}


@pytest.mark.parametrize(
    "given",
    [
        "/",
        "//",
        "a/b",
        "/a/",
        "..",
        "../../events",
        ".",
        "%",
        "%2F",
        "%25",
        "?x=1",
        "#",
        '"',
        '"a"',
        "+",
        "a&b=c",
        VISIBLE,
    ],
)
def test_key_percent_encoded_in_the_path(organization: Organization, given: str) -> None:
    """Whatever a key holds, the path can name it."""
    # In quotes, for a key that is in quotes itself.
    quoted = '"' + given.replace("\\", "\\\\").replace('"', '\\"') + '"'
    user = organization.user
    assert statuses(post(user, quoted)) == [CREATED]
    # Every character as an escape: no client takes dots or slashes for something else.
    path = "/idempotency-keys/" + "".join(f"%{ord(character):02x}" for character in given)
    answer = request(str(user.http.base_url), "GET", path, token=user.token)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["key"], answer.json()["state"]) == (given, "done")


@pytest.mark.parametrize(
    "path", ["%20", "a%20b", "%00", "%0a", "%C3%A9", "%ff", "a" * 256, "%", "%2", "%zz", "a%7f"], ids=str
)
def test_no_key_in_the_path(board: Board, organization: Organization, path: str) -> None:
    """What can be no key is refused."""
    answer = request(board.url, "GET", f"/idempotency-keys/{path}", token=organization.user.token)
    assert_problem(answer, "invalid-idempotency-key")


@pytest.mark.parametrize("path", ["/idempotency-keys", "/idempotency-keys/"])
def test_empty_key_in_the_path(board: Board, organization: Organization, path: str) -> None:
    """Nothing lists keys, and none is empty."""
    answer = request(board.url, "GET", path, token=organization.user.token)
    assert_problem(answer, "invalid-idempotency-key")


def test_key_without_a_token(board: Board) -> None:
    """Keys are users' own."""
    assert_problem(board.client().get("/idempotency-keys/mine"), "invalid-token")


def test_key_with_a_query(organization: Organization) -> None:
    """There are no parameters, and the key ends where the query begins."""
    assert_problem(organization.user.http.get("/idempotency-keys/mine?x=1"), "invalid-request", "/x")
