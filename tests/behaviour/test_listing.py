"""Lists: filters, search, order, pages by number and by cursor."""

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.board import Board, Member, Organization
from tests.support.problems import assert_problem

STATES = ("DRAFT", "SUBMITTED", "APPROVED", "REJECTED", "CANCELLED")
ORDERS = list(product(("startDate", "createdAt", "title", "status"), ("asc", "desc")))
BEGIN = datetime(2027, 3, 1, tzinfo=UTC)


def page(member: Member, **query: Any) -> dict[str, Any]:
    answer = member.http.get("/events", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"] for event in events]


def walk(member: Member, **query: Any) -> Iterator[list[dict[str, Any]]]:
    """The pages of a list, each by the cursor of the one before."""
    one = page(member, **query)
    yield one["data"]
    while one["meta"]["nextCursor"]:
        one = page(member, cursor=one["meta"]["nextCursor"], **query)
        yield one["data"]


def mixed(board: Board, organization: Organization, count: int) -> list[dict[str, Any]]:
    """Events of several authors in every state, with few different values, so that ties are common.

    They come back as the API shows them to an ADMIN.
    """
    chance = random.Random(count)
    board.put(
        [
            {
                "author": chance.choice([organization.user, organization.other, organization.moderator]),
                "status": chance.choice(STATES),
                "title": chance.choice(["alpha", "bravo", "charlie", "delta"]) + chance.choice(["", "chess"]),
                "description": chance.choice(["Bring a board.", "Bring CHESS sets.", "Nothing special."]),
                "start_date": BEGIN + timedelta(days=chance.randrange(8)),
                "created_at": BEGIN - timedelta(days=chance.randrange(8)),
            }
            for _ in range(count)
        ]
    )
    return [event for events in walk(organization.admin, limit=100) for event in events]


def model(events: list[dict[str, Any]], member: Member, query: dict[str, Any]) -> list[dict[str, Any]]:
    """What docs/api.md says of a list, in Python."""
    found = [
        event
        for event in events
        if (
            member.role != "USER"
            or event["createdById"] == str(member.id)
            or event["status"] in ("APPROVED", "CANCELLED")
        )
        and query.get("status") in (None, event["status"])
        and any(query.get("search", "").lower() in event[field].lower() for field in ("title", "description"))
        and query.get("startDateFrom", "") <= event["startDate"] <= query.get("startDateTo", "9")
    ]
    order = query.get("sortBy", "startDate")
    found.sort(key=lambda event: (event[order], event["id"]), reverse=query.get("sortOrder") == "desc")
    return found


def test_new_organization_has_an_empty_list(organization: Organization) -> None:
    """No page, and nothing before or after it."""
    assert page(organization.user) == {
        "data": [],
        "meta": {
            "page": 1,
            "limit": 10,
            "total": 0,
            "totalPages": 0,
            "hasPrevious": False,
            "hasNext": False,
            "nextCursor": None,
            "totalIsLowerBound": False,
        },
    }


def test_pages_by_number(board: Board, organization: Organization) -> None:
    """Ten on a page, by their start, unless something else is asked for; a page beyond the last is empty."""
    put = board.put(
        [
            {"author": organization.user, "status": "DRAFT", "start_date": BEGIN + timedelta(hours=hour)}
            for hour in range(25)
        ]
    )
    for number, shown in ((1, put[:10]), (2, put[10:20]), (3, put[20:]), (4, []), (1000, [])):
        found = page(organization.user, page=number)
        cursor = found["meta"].pop("nextCursor")
        assert ids(found["data"]) == shown
        assert found["meta"] == {
            "page": number,
            "limit": 10,
            "total": 25,
            "totalPages": 3,
            "hasPrevious": number > 1,
            "hasNext": number < 3,
            "totalIsLowerBound": False,
        }
        assert (cursor is not None) == (number < 3)
    assert page(organization.user)["data"] == page(organization.user, page=1)["data"]
    assert ids(page(organization.user, page=2, limit=20)["data"]) == put[20:]
    assert page(organization.user, limit=25)["meta"]["hasNext"] is False


def test_listed_event_is_the_event(organization: Organization) -> None:
    """A list shows each event as it shows itself."""
    event = organization.event_in("REJECTED")
    assert page(organization.user)["data"] == [organization.user.http.get(f"/events/{event['id']}").json()]


def test_filters_search_and_order(board: Board, organization: Organization) -> None:
    """Every list is what the rules make of all events, for whoever asks; its total counts the same."""
    events = mixed(board, organization, 80)
    assert len(events) == 80
    choices: dict[str, list[str | None]] = {
        "sortBy": ["startDate", "createdAt", "title", "status", None],
        "sortOrder": ["asc", "desc", None],
        "status": [*STATES, None, None, None],
        "search": ["chess", "Chess", "ring", "ch", "a", "nowhere", None, None, None],
        "startDateFrom": ["2027-03-03T00:00:00Z", None, None],
        "startDateTo": ["2027-03-06T00:00:00Z", None, None],
    }
    chance = random.Random(1)
    found = 0
    for _ in range(200):
        query = {name: value for name, values in choices.items() if (value := chance.choice(values)) is not None}
        member = chance.choice([organization.user, organization.other, organization.moderator, organization.admin])
        one = page(member, limit=100, **query)
        expected = model(events, member, query)
        assert ids(one["data"]) == ids(expected), (member.role, query)
        assert one["meta"]["total"] == len(expected), (member.role, query)
        found += len(expected)
    assert found > 500


def test_date_limits_are_inclusive(board: Board, organization: Organization) -> None:
    """From a moment, to a moment, both with it; in any offset."""
    board.put(
        [
            {"author": organization.user, "status": "DRAFT", "start_date": BEGIN + timedelta(days=day)}
            for day in range(3)
        ]
    )
    there = {"startDateFrom": "2027-03-02T01:00:00+01:00", "startDateTo": "2027-03-01T19:00:00-05:00"}
    assert [event["startDate"] for event in page(organization.user, **there)["data"]] == ["2027-03-02T00:00:00Z"]
    past = {"startDateFrom": "2027-03-02T00:00:00.000001Z", "startDateTo": "2027-03-02T23:59:59.999999Z"}
    assert page(organization.user, **past)["data"] == []


def test_walk_by_cursor(board: Board, organization: Organization) -> None:
    """In every order, for who sees all and for who doesn't: each event once, ties by id, and the pages count on."""
    events = mixed(board, organization, 50)
    filters: list[dict[str, str]] = [{}, {"search": "chess"}, {"search": "ch"}, {"status": "APPROVED"}]
    for (sort_by, sort_order), more, member in product(ORDERS, filters, (organization.user, organization.moderator)):
        query = {"sortBy": sort_by, "sortOrder": sort_order, **more}
        expected = model(events, member, query)
        pages = list(walk(member, limit=7, **query))
        assert [event["id"] for events in pages for event in events] == ids(expected)
        assert len(pages) == max(1, -(-len(expected) // 7))


def test_pages_by_cursor_say_where_they_are(board: Board, organization: Organization) -> None:
    """The same meta as by number."""
    mixed(board, organization, 25)
    first = page(organization.admin, limit=10)
    second = page(organization.admin, limit=10, cursor=first["meta"]["nextCursor"])
    third = page(organization.admin, limit=10, cursor=second["meta"]["nextCursor"])
    assert [first, second, third] == [page(organization.admin, limit=10, page=number) for number in (1, 2, 3)]
    assert third["meta"]["nextCursor"] is None


def test_walk_with_another_limit(board: Board, organization: Organization) -> None:
    """How many are shown may change on the way."""
    events = mixed(board, organization, 30)
    first = page(organization.admin, limit=5)
    rest = page(organization.admin, limit=100, cursor=first["meta"]["nextCursor"])
    assert ids(first["data"]) + ids(rest["data"]) == ids(model(events, organization.admin, {}))


@pytest.mark.parametrize(("sort_by", "sort_order"), ORDERS)
def test_walk_while_others_write(board: Board, organization: Organization, sort_by: str, sort_order: str) -> None:
    """What nobody changes meanwhile appears exactly once, whatever comes and goes around it."""
    events = mixed(board, organization, 60)
    chance = random.Random(f"{sort_by} {sort_order}")
    movable = chance.sample(ids(events), 20)
    seen: list[str] = []
    for shown in walk(organization.moderator, limit=6, sortBy=sort_by, sortOrder=sort_order):
        seen += ids(shown)
        for _ in range(2):
            if movable:
                gone = movable.pop()
                assert organization.admin.http.delete(f"/events/{gone}").status_code == 204
            new = organization.moderator.create(
                title=chance.choice(["aaa", "bravo", "zzz"]), startDate="2026-12-31T00:00:00Z"
            )
            organization.moderator.http.patch(
                f"/events/{new['id']}",
                json={"startDate": chance.choice(["2027-03-04T00:00:00Z", "2026-01-01T00:00:00Z"])},
            )
    touched = set(ids(events)) - {event["id"] for event in page(organization.admin, limit=100)["data"]}
    unchanged = [event_id for event_id in ids(events) if event_id not in touched]
    assert len(touched) >= 10
    assert sorted(event_id for event_id in seen if event_id in unchanged) == sorted(unchanged)
    assert len(seen) == len(set(seen))


def test_status_orders_alphabetically(board: Board, organization: Organization) -> None:
    """As the texts they are, not as life goes."""
    board.put([{"author": organization.user, "status": status} for status in STATES])
    found = page(organization.user, sortBy="status")["data"]
    assert [event["status"] for event in found] == ["APPROVED", "CANCELLED", "DRAFT", "REJECTED", "SUBMITTED"]


def test_total_is_exact_to_ten_thousand(board: Board, organization: Organization) -> None:
    """One more makes it a lower bound; by number one gets to the ten-thousandth, by cursor to the last."""
    start = {"author": organization.user, "status": "APPROVED", "title": "Marathon"}
    board.put([{**start, "start_date": BEGIN + timedelta(minutes=minute)} for minute in range(10_000)])
    for query in ({}, {"status": "APPROVED"}, {"search": "marathon"}, {"search": "ma"}):
        meta = page(organization.other, **query)["meta"]
        assert (meta["total"], meta["totalPages"], meta["totalIsLowerBound"]) == (10_000, 1_000, False)
    last = page(organization.other, page=100, limit=100)
    assert (len(last["data"]), last["meta"]["hasNext"], last["meta"]["nextCursor"]) == (100, False, None)

    board.put([{**start, "start_date": BEGIN + timedelta(minutes=minute)} for minute in range(10_000, 10_003)])
    for query in ({}, {"status": "APPROVED"}, {"search": "marathon"}, {"search": "ma"}):
        meta = page(organization.other, **query)["meta"]
        assert (meta["total"], meta["totalPages"], meta["totalIsLowerBound"]) == (10_000, 1_000, True)
    last = page(organization.other, page=100, limit=100)
    assert last["meta"]["hasNext"] is True
    beyond = page(organization.other, limit=100, cursor=last["meta"]["nextCursor"])
    assert [event["startDate"] for event in beyond["data"]] == [
        (BEGIN + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z") for minute in range(10_000, 10_003)
    ]
    assert (beyond["meta"]["page"], beyond["meta"]["hasNext"]) == (101, False)
    # A private one more counts for who sees it.
    assert page(organization.other, search="chess")["meta"]["total"] == 0
    board.put([{**start, "status": "DRAFT", "title": "Chess"}])
    assert page(organization.other, search="chess")["meta"]["total"] == 0
    assert page(organization.user, search="chess")["meta"]["total"] == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("page=0", "/page"),
        ("page=-1", "/page"),
        ("page=1.5", "/page"),
        ("page=one", "/page"),
        ("page=", "/page"),
        ("page=10001&limit=1", "/page"),
        ("page=101&limit=100", "/page"),
        ("page=99999999999999999999", "/page"),
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=ten", "/limit"),
        ("sortBy=id", "/sortBy"),
        ("sortBy=startdate", "/sortBy"),
        ("sortOrder=ASC", "/sortOrder"),
        ("status=draft", "/status"),
        ("status=", "/status"),
        ("search=%20", "/search"),
        ("search=%00", "/search"),
        (f"search={'a' * 201}", "/search"),
        ("startDateFrom=2027-03", "/startDateFrom"),
        ("startDateTo=1772323200", "/startDateTo"),
        ("offset=10", "/offset"),
        ("Page=1", "/Page"),
        ("organizationId=1", "/organizationId"),
    ],
)
def test_query_that_breaks_a_rule(shared_organization: Organization, query: str, pointer: str) -> None:
    """It is refused and named, not guessed at."""
    assert_problem(shared_organization.admin.http.get(f"/events?{query}"), "invalid-request", pointer)


@pytest.mark.parametrize("query", ["page=100&limit=100", "page=10000&limit=1", "page=1000", "limit=100", "limit=1"])
def test_query_at_its_limits(shared_organization: Organization, query: str) -> None:
    """Page times limit goes to ten thousand."""
    assert shared_organization.admin.http.get(f"/events?{query}").status_code == 200


# Title, description.
TEXTS = {
    "percent": ("100 % fun", "It costs nothing."),
    "underscore": ("snake_case", "About naming things."),
    "backslash": ("C:\\temp", "About old paths."),
    "plain": ("100 times fun", "snakeXcase, C:temp."),
    "umlaut": ("Übung macht den Meister", "Jeden Montag."),
    "description": ("Chess night", "Bring a BOARD\nand a friend."),
    "quote": ('It\'s "here"', "Nothing; DROP TABLE events.events --"),
    "emoji": ("Party 🎉 tonight", "Bring your friends: 日本語も."),
}


SEARCHES: dict[str, set[str]] = {
    "%": {"percent"},
    "0 %": {"percent"},
    "100": {"percent", "plain"},
    "100%": set(),
    "_": {"underscore"},
    "snake_case": {"underscore"},
    "SNAKE": {"underscore", "plain"},
    "\\": {"backslash"},
    ":\\temp": {"backslash"},
    "\\\\": set(),
    "C:temp": {"plain"},
    "übung": {"umlaut"},
    "ÜBUNG": {"umlaut"},
    "üb": {"umlaut"},
    "board": {"description"},
    "chess night": {"description"},
    "night bring": set(),
    "nightbring": set(),
    "ght": {"description", "emoji"},
    "it's": {"quote"},
    '"here"': {"quote"},
    "; drop table": {"quote"},
    "🎉": {"emoji"},
    "日本": {"emoji"},
    "日本語も": {"emoji"},
    " a ": {"description"},
    "...": set(),
    "*": set(),
    ".": set(TEXTS),
}


def test_search(board: Board, organization: Organization) -> None:
    """Title or description holds the text as it is, in upper or lower case; nothing in it has a meaning of its own."""
    put = board.put(
        [
            {"author": organization.user, "status": "APPROVED", "title": title, "description": description}
            for title, description in TEXTS.values()
        ]
    )
    names = dict(zip(put, TEXTS, strict=True))
    pages = {search: page(organization.other, search=search) for search in SEARCHES}
    found = {search: {names[event["id"]] for event in one["data"]} for search, one in pages.items()}
    assert found == SEARCHES
    assert {search: one["meta"]["total"] for search, one in pages.items()} == {
        search: len(names) for search, names in SEARCHES.items()
    }


def first_cursor(member: Member, **query: Any) -> str:
    cursor = page(member, limit=1, **query)["meta"]["nextCursor"]
    assert cursor
    return str(cursor)


def refused(member: Member, **query: Any) -> None:
    assert_problem(member.http.get("/events", params=query), "invalid-cursor")


@pytest.mark.parametrize(
    "other",
    [
        {"sortBy": "createdAt"},
        {"sortBy": "title"},
        {"sortOrder": "desc"},
        {"status": "DRAFT"},
        {"search": "chess"},
        {"startDateFrom": "2027-01-01T00:00:00Z"},
        {"startDateTo": "2028-01-01T00:00:00Z"},
    ],
    ids=lambda other: next(iter(other)) + "=" + next(iter(other.values())),
)
def test_cursor_of_another_list(board: Board, organization: Organization, other: dict[str, str]) -> None:
    """A cursor goes on with the filters and the order it came from, in both directions."""
    mixed(board, organization, 10)
    board.put([{"author": organization.admin, "status": "DRAFT", "title": "chess"}] * 2)
    refused(organization.admin, cursor=first_cursor(organization.admin), **other)
    refused(organization.admin, cursor=first_cursor(organization.admin, **other))
    answer = organization.admin.http.get(
        "/events", params={"cursor": first_cursor(organization.admin, **other), **other}
    )
    assert answer.status_code == 200


def test_cursor_and_page(board: Board, organization: Organization) -> None:
    """Two places at once are none."""
    mixed(board, organization, 5)
    refused(organization.admin, cursor=first_cursor(organization.admin), page=2)
    refused(organization.admin, cursor=first_cursor(organization.admin), page=1)


def test_cursor_of_who_sees_more(board: Board, organization: Organization) -> None:
    """It says where to go on, not what may be seen."""
    mixed(board, organization, 40)
    cursor = first_cursor(organization.admin)
    answer = organization.user.http.get("/events", params={"cursor": cursor, "limit": 100})
    for event in answer.json()["data"]:
        assert event["createdById"] == str(organization.user.id) or event["status"] in ("APPROVED", "CANCELLED")
    stranger = board.organization().admin
    assert page(stranger, cursor=cursor)["data"] == []


@pytest.mark.parametrize("cursor", ["a", "abc", "AAAA", "____", "kA", "lA", "gA", "w" * 2048, "0" * 2000])
def test_garbage_cursor(shared_organization: Organization, cursor: str) -> None:
    """400, whatever it is."""
    refused(shared_organization.admin, cursor=cursor)


@pytest.mark.parametrize("cursor", ["", "a=", "a b", "ä", "a" * 2049, "+/", "%00"])
def test_text_that_can_be_no_cursor(shared_organization: Organization, cursor: str) -> None:
    """400, before anybody looks into it."""
    answer = shared_organization.admin.http.get("/events", params={"cursor": cursor})
    assert_problem(answer, "invalid-request", "/cursor")


def test_cursor_changed_anywhere(board: Board, organization: Organization) -> None:
    """One character less or another: refused, or the place in the same list that it now names; never a 5xx."""
    mixed(board, organization, 10)
    chance = random.Random(1)
    for sort_by in ("startDate", "title"):
        cursor = first_cursor(organization.admin, sortBy=sort_by)
        for place in range(len(cursor)):
            other = chance.choice(["", "A", "_", "9"])
            changed = cursor[:place] + other + cursor[place + 1 :]
            answer = organization.admin.http.get("/events", params={"cursor": changed, "sortBy": sort_by})
            assert answer.status_code in (200, 400), (changed, answer.text)


# What somebody could put in, who knows how a cursor is made: the page, the value, the id.
ID = "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"
FORGED: list[tuple[str, list[Any]]] = [
    ("title", [2, "a\x00b", ID]),
    ("title", [2, "", ID]),
    ("title", [2, 5, ID]),
    ("title", [2, None, ID]),
    ("title", [2, datetime(2027, 1, 1, tzinfo=UTC), ID]),
    ("title", [1, "alpha", ID]),
    ("title", [0, "alpha", ID]),
    ("title", [-1, "alpha", ID]),
    ("title", [2**63, "alpha", ID]),
    ("title", [2**64 - 1, "alpha", ID]),
    ("title", [2.5, "alpha", ID]),
    ("title", ["2", "alpha", ID]),
    ("title", [2, "alpha", "no-uuid"]),
    ("title", [2, "alpha", b"short"]),
    ("title", [2, "alpha"]),
    ("title", []),
    ("status", [2, "\n", ID]),
    ("startDate", [2, "2027-01-01T00:00:00", ID]),
    ("startDate", [2, "0001-01-01T00:00:00+14:00", ID]),
    ("startDate", [2, "9999-12-31T23:59:59-12:00", ID]),
    ("startDate", [2, "9999-12-31T23:59:59.999999Z", ID]),
    ("startDate", [2, "0001-01-01T00:00:00Z", ID]),
    ("startDate", [2, "alpha", ID]),
    ("startDate", [2, 0, ID]),
    ("createdAt", [2, "0001-01-01T00:00:00+14:00", ID]),
]


def test_forged_cursor(board: Board, organization: Organization) -> None:
    """Refused, or a place in the list: the database is never asked for what it can't hold."""
    mixed(board, organization, 3)
    for sort_by, rest in FORGED:
        raw = first_cursor(organization.admin, sortBy=sort_by)
        fingerprint = msgspec.msgpack.decode(urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))[0]
        cursor = urlsafe_b64encode(msgspec.msgpack.encode([fingerprint, *rest])).decode().rstrip("=")
        answer: httpx.Response = organization.admin.http.get("/events", params={"cursor": cursor, "sortBy": sort_by})
        assert answer.status_code in (200, 400), (sort_by, rest, answer.text)
        if answer.status_code == 400:
            assert_problem(answer, "invalid-cursor")
        elif again := answer.json()["meta"]["nextCursor"]:
            page(organization.admin, cursor=again, sortBy=sort_by)
