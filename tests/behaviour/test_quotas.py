"""What an account may store, how often an event may change, and what lists and searches may take of the database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Member
from tests.support.load import gateway_seconds, timed
from tests.support.problems import assert_problem
from tests.support.sessions import locked, waiting
from tests.support.shapes import deployed

NARROW = {
    "QUOTAS_BYTES_BY_ORGANIZATION": "30000",
    "QUOTAS_KEYS_BY_USER": "5",
    "QUOTAS_CHANGES_BY_EVENT": "6",
    "DATABASE_POOL_SIZE": "8",
    "LISTING_SHARE": "0.5",
    "LISTING_SHARE_BY_ORGANIZATION": "0.25",
    "LISTING_STATEMENT": "1.2",
    "LISTING_SEARCH_STATEMENT": "0.9",
    # Far less than a search that is stopped takes: that one still runs then.
    "LISTING_PATIENCE": "0.1",
    "LISTING_SEARCHES_BY_USER": "1",
    # A little less than two and three searches that are stopped: one that a busy machine stops late isn't two.
    "LISTING_SEARCH_TIME_BY_USER": "1.7",
    "LISTING_SEARCH_TIME_BY_ORGANIZATION": "2.6",
}
LISTS_BY_ORGANIZATION = 2
# 5,000 characters of four bytes each, which don't compress.
LONG = "".join(chr(0x20000 + number * 7919 % 42_000) for number in range(5000))


@pytest.fixture(scope="module")
def narrow(shape: str, cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("quotas")
    with clusters.database(cluster_url) as url, deployed(shape, url, folder, **NARROW) as deployment:
        board = Board(deployment.public.url, url)
        yield board
        board.close()


def patch(member: Member, event: dict[str, Any], **changes: Any) -> httpx.Response:
    return member.http.patch(f"/events/{event['id']}", json=changes)


def stored(board: Board, member: Member) -> int:
    """What the quota counts."""
    statement = "SELECT sum(bytes)::bigint FROM events.tallies WHERE organization_id = $1"
    return int(board.sql(statement, member.organization_id)[0][0] or 0)


def test_quota_of_stored_bytes(narrow: Board) -> None:
    """Past it nothing is created or edited; all is still read, decided and deleted, and what is deleted makes room."""
    organization = narrow.organization()
    user, admin = organization.user, organization.admin
    first = user.create(description=LONG)
    assert user.command(first, "submit").status_code == 200
    refused = user.http.post("/events", json={**EVENT, "description": LONG})
    problem = assert_problem(refused, "quota-exceeded")
    assert "of 30000 bytes" in problem["detail"]
    small = user.create()
    assert_problem(patch(user, small, description=LONG), "quota-exceeded")
    assert user.http.get(f"/events/{first['id']}").status_code == 200
    assert admin.command(first, "approve").status_code == 200
    assert narrow.organization().user.create(description=LONG)
    assert admin.http.delete(f"/events/{first['id']}").status_code == 204
    assert patch(user, small, description=LONG).status_code == 200


def test_what_is_stored_is_counted(narrow: Board) -> None:
    """Each text by its bytes, each row and each history entry by 512; a deletion leaves its history."""
    organization = narrow.organization()
    user = organization.user
    event = user.create(title="Über", description="Elf Zeichen")
    size = 2 * 512 + len("Über".encode()) + len("Elf Zeichen")
    assert stored(narrow, user) == size
    assert patch(user, event, location="Hall 3").status_code == 200
    assert stored(narrow, user) == size + 512 + len("Hall 3")
    assert user.command(event, "submit").status_code == 200
    reason = "Please name a room."
    assert organization.admin.command(event, "reject", reason=reason).status_code == 200
    assert stored(narrow, user) == size + 3 * 512 + len("Hall 3") + len(reason)
    assert organization.admin.http.delete(f"/events/{event['id']}").status_code == 204
    assert stored(narrow, user) == 5 * 512


def test_changes_of_one_event(narrow: Board) -> None:
    """Six within a day, its creation included; then 429, but for what moderators decide and for its end."""
    organization = narrow.organization()
    user, admin = organization.user, organization.admin
    event = user.create()
    for number in range(4):
        assert patch(user, event, title=f"Chess night {number}").status_code == 200
    assert user.command(event, "submit").status_code == 200
    refused = patch(admin, event, title="One too many")
    assert_problem(refused, "too-many-requests")
    assert (
        refused.json()["detail"]
        == "The limit event-changes is used up: 6 in 86400 s. Retry-After says when to try again."
    )
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    # What changes nothing isn't a change.
    assert patch(user, user.create(), title=EVENT["title"]).status_code == 200
    assert patch(admin, event, title="Chess night 3").status_code == 200
    assert_problem(user.command(event, "withdraw"), "too-many-requests")
    assert admin.command(event, "reject", reason="Please name a room.").status_code == 200
    narrow.sql("UPDATE events.history SET at = at - interval '1 day' WHERE event_id = $1", event["id"])
    assert patch(user, event, title="The next day").status_code == 200
    assert admin.http.delete(f"/events/{event['id']}").status_code == 204


def test_keys_of_one_user(narrow: Board) -> None:
    """Five within a day; the sixth is 429 and runs nothing. A used one is replayed still; others have their own."""
    organization = narrow.organization()
    user = organization.user

    def create(member: Member, key: str) -> httpx.Response:
        return member.http.post("/events", json=EVENT, headers={"idempotency-key": key})

    answers = [create(user, f"key {number}".replace(" ", "-")) for number in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    problem = assert_problem(answers[5], "too-many-requests")
    assert (
        problem["detail"] == "The limit idempotency-keys is used up: 5 in 86400 s. Retry-After says when to try again."
    )
    assert 86_000 < int(answers[5].headers["retry-after"]) <= 86_400
    replayed = create(user, "key-0")
    assert (replayed.content, replayed.headers["idempotency-status"]) == (answers[0].content, "replayed")
    assert user.http.post("/events", json=EVENT).status_code == 201
    assert create(organization.other, "key-5").status_code == 201
    assert user.http.get("/events").json()["meta"]["total"] == 6


def test_keys_of_changes_that_change_nothing(narrow: Board) -> None:
    """Each stores a few hundred bytes, however long the event is; each is replayed to the byte when it has changed."""
    user = narrow.organization().user
    event = user.create(description=LONG)
    path = f"/events/{event['id']}"

    def nothing(number: int) -> httpx.Response:
        return user.http.patch(path, json={}, headers={"idempotency-key": f"nothing-{number}"})

    answers = [nothing(number) for number in range(3)]
    common = "SELECT expires_at > now() + interval '24 hours' FROM events.idempotency_keys WHERE key LIKE 'body %'"
    narrow.sql("UPDATE events.idempotency_keys SET expires_at = now() + interval '23 hours' WHERE key LIKE 'body %'")
    answers.append(nothing(3))
    assert narrow.sql(common) == [(True,)], "kept for as long as the newest key that refers to it"
    assert {answer.status_code for answer in answers} == {200}
    rows = narrow.sql(
        "SELECT key, pg_column_size(k.*) AS size, outcome FROM events.idempotency_keys k"
        " WHERE user_id = $1 AND key NOT LIKE 'minted %'",
        user.id,
    )
    assert len(rows) == 5, "four keys, and what they have in common"
    referring = [row for row in rows if row["key"].startswith("nothing")]
    assert all(row["size"] < 700 for row in referring)
    # A version that doesn't know of such references answers this, and nothing that wasn't answered before.
    assert {msgspec.msgpack.decode(row["outcome"])["code"] for row in referring} == {"unavailable"}
    assert patch(user, event, description="Another text by now.").status_code == 200
    for number, answer in enumerate(answers):
        replayed = nothing(number)
        assert (replayed.content, replayed.headers["etag"]) == (answer.content, answer.headers["etag"])
        assert (answer.headers["idempotency-status"], replayed.headers["idempotency-status"]) == (
            "executed",
            "replayed",
        )
        report = user.http.get(f"/idempotency-keys/nothing-{number}").json()
        assert (report["state"], report["status"], report["resource"]) == ("done", 200, path)
    # A new key of the changed event has an outcome of its own.
    assert user.http.patch(path, json={}, headers={"idempotency-key": "other"}).json()["version"] == 2


@contextmanager
def slow_search(board: Board) -> Iterator[None]:
    """A search ends when the block does, however long that takes: its function waits for a table that is locked."""
    name = f"held_{uuid4().hex}"
    (definition,) = board.sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'search_rows'")[0]
    board.sql(f"CREATE TABLE public.{name} ()")
    board.sql(f"GRANT SELECT ON public.{name} TO PUBLIC")
    board.sql(
        "CREATE OR REPLACE FUNCTION events.search_rows(pattern text) RETURNS TABLE (organization_id uuid, id uuid,"
        " title text, start_date timestamptz, created_at timestamptz, status text, created_by_id uuid)"
        " LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
        f" LOCK TABLE public.{name} IN ACCESS SHARE MODE; RETURN; END $$"
    )
    try:
        with locked(board.database_url, f"public.{name}"):
            yield
    finally:
        board.sql(definition)
        board.sql(f"DROP TABLE public.{name}")


def search(member: Member) -> httpx.Response:
    return member.http.get("/events?search=chess")


def test_search_that_takes_too_long(narrow: Board) -> None:
    """It is stopped after a time of its own, and the problem says what to do; the time counts for user and all."""
    organization = narrow.organization()
    user, other = organization.user, organization.other
    user.create()
    with slow_search(narrow):
        first = timed(lambda: search(user))
        problem = assert_problem(first.answer, "search-too-broad")
        assert problem["detail"].startswith("The search was stopped after 0.9 s. Search for a longer or rarer text")
        assert first.seconds >= 0.9
        assert first.own < 2.5
        assert_problem(search(user), "search-too-broad")
        # 1.8 s of 1.7 are spent; other lists cost what they cost.
        refused = search(user)
        assert_problem(refused, "too-many-requests")
        assert (
            refused.json()["detail"]
            == "The limit search-time-by-user is used up: 2 in 60 s. Retry-After says when to try again."
        )
        assert user.http.get("/events").status_code == 200
        assert_problem(search(other), "search-too-broad")
        # 2.7 s of the organization's 2.6.
        assert_problem(search(organization.admin), "too-many-requests")
        assert_problem(search(narrow.organization().user), "search-too-broad")
    assert search(narrow.organization().user).status_code == 200


def test_searches_of_one_user_at_once(narrow: Board) -> None:
    """One; a second waits for it for a while, and is 429 then."""
    user = narrow.organization().user
    with slow_search(narrow), ThreadPoolExecutor(1) as pool:
        first = pool.submit(search, user)
        while not waiting(narrow):
            assert not first.done()
        second = search(user)
        assert_problem(second, "too-many-requests")
        assert second.json()["detail"] == "You have 1 searches under way, which is the limit at any one time."
        assert second.headers["retry-after"] == "1"
    assert_problem(first.result(), "search-too-broad")


def test_list_that_takes_too_long(narrow: Board) -> None:
    """The same for a list without a search, after its own time."""
    user = narrow.organization().user
    with locked(narrow.database_url, "events.tallies"):
        answer = user.http.get("/events")
    problem = assert_problem(answer, "search-too-broad")
    assert problem["detail"].startswith("The list was stopped after 1.2 s. Narrow it by status")


def test_lists_leave_connections_to_others(narrow: Board) -> None:
    """An organization's lists hold two connections at most, and all organizations' four of eight: reads find one."""
    greedy = [narrow.organization() for _ in range(3)]
    bystander = narrow.organization().user
    event = bystander.create()
    calls: list[Callable[[], httpx.Response]] = [
        (lambda member=member: member.http.get("/events"))  # type: ignore[misc]  # a default binds it now
        for organization in greedy
        for member in (organization.user, organization.other, organization.admin) * 2
    ]
    most = 0
    with locked(narrow.database_url, "events.tallies"), ThreadPoolExecutor(len(calls)) as pool:
        held = [pool.submit(call) for call in calls]
        while not all(one.done() for one in held):
            most = max(most, waiting(narrow))
            read = timed(lambda: bystander.http.get(f"/events/{event['id']}"))
            assert read.status == 200
            assert gateway_seconds(read.answer) < 0.5
    assert 2 <= most <= 4
    codes = [one.result().json()["code"] for one in held]
    assert set(codes) <= {"search-too-broad", "too-many-requests", "unavailable"}
    assert codes.count("search-too-broad") <= 2 * LISTS_BY_ORGANIZATION * 2
