"""Texts that look the same are the same, and what is shown can be seen."""

import json
import unicodedata
from typing import Any
from uuid import uuid4

import httpx
import pytest
from argon2 import PasswordHasher

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.problems import assert_problem

NFC, NFD = "NFC", "NFD"
INVISIBLE = {
    "zero width space": "\u200b",
    "word joiner": "\u2060",
    "invisible times": "\u2062",
    "soft hyphen": "\u00ad",
    "zero width joiner": "\u200d",
    "right-to-left mark": "\u200f",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "Hangul filler": "\u3164",
    "Hangul choseong filler": "\u115f",
    "half-width Hangul filler": "\uffa0",
    "Khmer inherent vowel": "\u17b4",
    "Mongolian vowel separator": "\u180e",
    "Braille blank": "\u2800",
    "variation selector": "\ufe0f",
    "supplementary variation selector": "\U000e0100",
    "tag": "\U000e0041",
    "musical begin beam": "\U0001d173",
    "combining grapheme joiner": "\u034f",
    "noncharacter": "\ufffe",
    "noncharacter of plane 1": "\U0001ffff",
    "byte order mark": "\ufeff",
    "en quad": "\u2000",
}


def form(name: str, text: str) -> str:
    return unicodedata.normalize(name, text)  # type: ignore[arg-type]  # one of the two above


def sign_up(board: Board, **fields: Any) -> httpx.Response:
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "firstName": "Nia", "lastName": "New"}
    if not fields.keys() & {"organizationName", "organizationId", "invitationToken"}:
        body["organizationName"] = f"Founded {uuid4().hex}"
    return board.client().post("/auth/signup", json=body | fields)


def log_in(board: Board, email: str, password: str = PASSWORD) -> int:
    return board.client().post("/auth/login", json={"email": email, "password": password}).status_code


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as UTF-8"])
def test_stored_in_one_form(organization: Organization, escaped: bool) -> None:
    """However a client composes a text, all get the composed one, from the write and from a read."""
    texts = {"title": "Crêpes à la carte", "description": "Für Größe: 각 người.", "location": "Café Ångström"}
    sent = {name: form(NFD, text) for name, text in texts.items()}
    http = organization.user.http
    body = json.dumps(EVENT | sent, ensure_ascii=escaped).encode()
    event = http.post("/events", content=body, headers={"content-type": "application/json"}).json()
    read = http.get(f"/events/{event['id']}").json()
    for shown in (event, read):
        assert {name: shown[name] for name in texts} == texts
    patched = http.patch(f"/events/{event['id']}", json={"title": form(NFD, "Crêpes à la carte")})
    assert patched.json()["version"] == 1, "the same title is no change"
    submitted = organization.user.command(event, "submit").json()
    rejected = organization.admin.command(submitted, "reject", reason=form(NFD, "Bitte größer schön."))
    assert rejected.json()["rejectionReason"] == "Bitte größer schön."


def test_same_request_in_another_form(organization: Organization) -> None:
    """An idempotency key is for what a text means, not for how it is composed."""
    headers = {"Idempotency-Key": uuid4().hex}
    answers = [
        organization.user.http.post("/events", json={**EVENT, "title": form(name, "Fête d'été")}, headers=headers)
        for name in (NFC, NFD)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(
    ("field", "longest"), [("title", 200), ("description", 5000), ("location", 200)], ids=lambda value: str(value)
)
def test_length_is_of_the_composed_text(organization: Organization, field: str, longest: int) -> None:
    """As many characters as are shown, whichever form they come in; some are more when composed than as they come."""
    http = organization.user.http
    for text, status in (
        (form(NFD, "ệ" * longest), 201),
        (form(NFD, "ệ" * (longest + 1)), 400),
        # Composed, each is two (its composition is excluded).
        ("\u0958" * (longest // 2), 201),
        ("\u0958" * (longest // 2 + 1), 400),
    ):
        answer = http.post("/events", json={**EVENT, field: text})
        assert answer.status_code == status, answer.text
        if status == 201:
            assert answer.json()[field] == form(NFC, text)
        else:
            assert_problem(answer, "invalid-request", f"/{field}")
            assert f"at most {longest} characters" in answer.text


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("asked", [NFC, NFD])
@pytest.mark.parametrize("text", ["café", "é", "각", "ὀδυσσεὺς", "tiếng Việt"])
def test_search_in_another_form(organization: Organization, text: str, stored: str, asked: str) -> None:
    """A text is found by what looks like it, also by one or two letters, and page by page."""
    titles = [f"{number}: {form(stored, text)}." for number in range(2)]
    for title in titles:
        organization.user.create(title=title)
    query: dict[str, str | int] = {"search": form(asked, text), "limit": 1, "sortBy": "title"}
    first = organization.user.http.get("/events", params=query).json()
    other = {**query, "search": form(NFC if asked == NFD else NFD, text)}
    second = organization.user.http.get("/events", params={**other, "cursor": first["meta"]["nextCursor"]}).json()
    assert [event["title"] for event in first["data"] + second["data"]] == [form(NFC, title) for title in titles]


def test_search_for_a_row_of_an_earlier_version(board: Board, organization: Organization) -> None:
    """What was written decomposed, by a version that took it so, is found."""
    board.put(
        [
            {
                "author": organization.user,
                "status": "APPROVED",
                "title": form(NFD, "Crêpe"),
                "description": "Ten letters.",
            }
        ]
    )
    found = organization.user.http.get("/events", params={"search": "crêpe"}).json()["data"]
    assert [event["title"] for event in found] == ["Crêpe"]


@pytest.mark.parametrize(
    ("title", "search"),
    [
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("Οδυσσευς", "ΟΔΥΣΣΕΥΣ"),
        ("Οδυσσευς", "οδυσ"),
        ("ΟΔΥΣΣΕΥΣ ΚΑΙ ΠΗΝΕΛΟΠΗ", "οδυσσευς και"),
        ("Ο Οδυσσευς σας", "ΟΔΥΣΣΕΥΣ ΣΑ"),
        ("Ες", "ΕΣ"),
    ],
)
def test_search_for_a_sigma(organization: Organization, title: str, search: str) -> None:
    """Sigma is one letter, whichever of its three forms a text has."""
    organization.user.create(title=f"{title}!")
    found = organization.user.http.get("/events", params={"search": search}).json()
    assert [event["title"] for event in found["data"]] == [f"{title}!"]
    assert found["meta"]["total"] == 1


@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
def test_nothing_to_be_seen(board: Board, shared_organization: Organization, character: str) -> None:
    """A text of nothing but invisible characters is blank."""
    http = shared_organization.user.http
    fields = {"title": character * 3, "description": f" {character * 10} ", "location": character}
    answer = http.post("/events", json={**EVENT, **fields})
    assert_problem(answer, "invalid-request", *(f"/{name}" for name in fields))
    answer = sign_up(board, firstName=character, lastName=character * 2, organizationName=character * 3)
    assert_problem(answer, "invalid-request", "/firstName", "/lastName", "/organizationName")
    answer = shared_organization.admin.http.patch("/organization", json={"name": character})
    assert_problem(answer, "invalid-request", "/name")


@pytest.mark.parametrize(
    "title",
    [
        "می‌خواهم",  # Persian, with a ZWNJ
        "क्‍ष ශ්‍රී",  # Devanagari and Sinhala, with ZWJ
        "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️",  # emoji of ZWJ, tags and a variation selector
        "Soft\u00adhyphen",
        "\u2066שלום\u2069 means peace",
        "tel \u202a+49 30 1234\u202c",
        "left to right \u202eand back",
        "Z\u0351\u032e\u0310algo",
        "a\u200eb",
    ],
)
def test_invisible_among_visible(shared_organization: Organization, title: str) -> None:
    """They have their use inside of texts, and come back as they were sent."""
    assert shared_organization.user.create(title=title)["title"] == form(NFC, title)


def test_pile_of_marks(shared_organization: Organization) -> None:
    """No language needs as many on one character, and they cover the lines around it."""
    title = "Z" + "\u0316\u0301" * 16 + "algo"
    answer = shared_organization.user.http.post("/events", json={**EVENT, "title": title})
    assert_problem(answer, "invalid-request", "/title")


@pytest.mark.parametrize(
    ("before", "inside", "after"),
    [
        ("\u202a", "", "\u202c"),
        ("\u200b", "", ""),
        ("", "", "\u200e"),
        ("\u2060", "", "\u2060"),
        ("", "\u00ad", ""),
        ("\ufeff", "", "\u3000"),
        ("", "\u200d", "\U000e0020"),
    ],
    ids=["embedding", "zero width space", "mark", "word joiner", "soft hyphen", "byte order mark", "joiner and tag"],
)
def test_address_with_what_is_invisible(
    board: Board, organization: Organization, before: str, inside: str, after: str
) -> None:
    """It is the address that one sees: in sign-up, log-in and invitations."""
    name = uuid4().hex
    plain, pasted = f"{name}@example.com", f"{before}{name}{inside}@exam{inside}ple.com{after}"
    invited = organization.admin.http.post("/invitations", json={"email": pasted, "role": "USER"})
    assert invited.status_code == 201, invited.text
    assert invited.json()["email"] == plain
    joined = sign_up(board, email=plain, invitationToken=invited.json()["token"])
    assert (joined.status_code, joined.json()["user"]["email"]) == (201, plain)
    assert_problem(sign_up(board, email=pasted), "already-exists", "/email")
    assert log_in(board, pasted) == log_in(board, plain) == 200


def test_canonically_equal_addresses(board: Board, organization: Organization) -> None:
    """One account for an address, composed or not, its domain as Unicode or as Punycode, in either case."""
    name = uuid4().hex
    for same in (
        [form(NFC, f"josé{name}@example.com"), form(NFD, f"josé{name}@example.com"), f"JOSÉ{name}@EXAMPLE.com"],
        [f"{name}@münchen.example", f"{name}@xn--mnchen-3ya.example", f"{name}@MÜNCHEN。example"],
        [f"{name}@xn--bcher-kva.example", form(NFD, f"{name}@bücher.example")],
    ):
        first = sign_up(board, email=same[0])
        assert first.status_code == 201, first.text
        assert first.json()["user"]["email"] == form(NFC, first.json()["user"]["email"])
        for email in same:
            assert_problem(sign_up(board, email=email), "already-exists", "/email")
            assert log_in(board, email) == 200
    invited = organization.admin.http.post(
        "/invitations", json={"email": f"a{name}@xn--e1aybc.example", "role": "USER"}
    )
    assert invited.json()["email"] == f"a{name}@тест.example"
    joined = sign_up(board, email=f"a{name}@тест.example", invitationToken=invited.json()["token"])
    assert joined.status_code == 201
    again = organization.admin.http.post("/invitations", json={"email": f"a{name}@xn--e1aybc.example", "role": "USER"})
    assert_problem(again, "already-exists", "/email")


@pytest.mark.parametrize(
    "stored",
    [
        form(NFD, "josé{}@example.com"),
        "{}@xn--mnchen-3ya.example",
        form(NFD, "{}@münchen.example"),
        "\u202a{}@example.com\u202c",
        "ann(x){}@example.com",
        "{}..x@example.com",
    ],
)
def test_account_of_an_earlier_version(board: Board, organization: Organization, stored: str) -> None:
    """Whoever signed up when addresses were kept as they were typed still logs in, and nobody else gets the address."""
    email = stored.format(uuid4().hex)
    board.sql("UPDATE auth.users SET email = $1 WHERE id = $2", email, organization.user.id)
    assert log_in(board, email) == 200
    composed = form(NFC, email)
    if composed != email:
        assert log_in(board, composed) == 200
        assert_problem(sign_up(board, email=composed), "already-exists", "/email")
    assert log_in(board, email, "not the password") == 401


@pytest.mark.parametrize(
    "email",
    [
        "ann(x)@example.com",
        "ann..x@example.com",
        ".ann@example.com",
        "ann@exam_ple.com",
        "ann@-example.com",
        "ann@example..com",
        "ann@[127.0.0.1]",
        '"ann"@example.com',
        "ann,bob@example.com",
        "<ann@example.com>",
        "ann@example.com\u200b@example.org",
        "ann\u2028x@example.com",
        "\u200b@example.com",
        "ann@" + "é" * 63 + ".com",
    ],
)
def test_no_address(board: Board, shared_organization: Organization, email: str) -> None:
    """What mail couldn't be sent to is no address: 400, for a sign-up and for an invitation."""
    assert_problem(sign_up(board, email=email), "invalid-request", "/email")
    invite = shared_organization.admin.http.post("/invitations", json={"email": email, "role": "USER"})
    assert_problem(invite, "invalid-request", "/email")


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        (form(NFC, "Größe-Tür-8!"), form(NFD, "Größe-Tür-8!")),
        (form(NFD, "Größe-Tür-8!"), form(NFC, "Größe-Tür-8!")),
        ("correct\u00a0horse\u3000battery", "correct horse battery"),
        ("correct horse battery", "correct\u2003horse battery"),
        ("\u212bngström units", "Ångström units"),
    ],
)
def test_password_typed_on_another_system(board: Board, chosen: str, typed: str) -> None:
    """A password is the same, however a keyboard composes it (RFC 8265); and in a change of it, too."""
    session = sign_up(board, password=chosen).json()
    email, http = session["user"]["email"], board.client(session["accessToken"])
    assert log_in(board, email, chosen) == log_in(board, email, typed) == 200
    assert log_in(board, email, typed + "x") == 401
    changed = http.post("/auth/password", json={"currentPassword": typed, "newPassword": f"new {chosen}"})
    assert changed.status_code == 204, changed.text
    assert log_in(board, email, f"new {typed}") == 200


def test_password_of_an_earlier_version(board: Board, organization: Organization) -> None:
    """A hash of the password as it was typed still fits, and is then of the prepared one."""
    user, password = organization.user, form(NFD, "Größe-Tür-8!")
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)
    board.sql("UPDATE auth.users SET password_hash = $1 WHERE id = $2", old, user.id)
    assert log_in(board, user.email, form(NFC, password)) == 401, "nobody can know what the old hash is of"
    assert log_in(board, user.email, password) == 200
    assert log_in(board, user.email, form(NFC, password)) == 200
    assert log_in(board, user.email, password) == 200


def test_length_of_a_password(board: Board) -> None:
    """It is counted in what was typed, not in how a system composes it."""
    assert sign_up(board, password=form(NFD, "각" * 7)).status_code == 400
    assert sign_up(board, password=form(NFD, "각" * 8)).status_code == 201
    assert sign_up(board, password=form(NFD, "ệ" * 128)).status_code == 201
    assert_problem(sign_up(board, password=form(NFD, "ệ" * 129)), "invalid-request", "/password")


@pytest.mark.parametrize(
    "names",
    [
        ("दिन", "दीन"),
        ("กิน", "กัน"),
        ("க", "கா"),
        ("കി", "കു"),
        ("မြန်မာ", "မြနမာ"),
        ("ক", "কি"),
        ("ก", "ก้"),
        ("שלום", "שָׁלוֹם"),
    ],
    ids=["Hindi", "Thai", "Tamil", "Malayalam", "Burmese", "Bengali", "tone", "Hebrew"],
)
def test_names_of_organizations_with_marks(board: Board, names: tuple[str, str]) -> None:
    """A vowel sign makes another name, and the same name is taken in any form."""
    unique = uuid4().hex
    for name in names:
        assert sign_up(board, organizationName=f"{unique} {name}").status_code == 201
    for name in names:
        for same in (form(NFD, name), f"{name}\u200b", f"({name})"):
            taken = sign_up(board, organizationName=f"{unique}-{same}")
            assert_problem(taken, "already-exists", "/organizationName")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Größe Ærø Łódź", "grosse-aero-lodz"),
        ("Привет мир", "privet-mir"),
        ("Ελλάδα", "ellada"),
        ("北京大学", "beijingdaxue"),
        ("दिन", "din"),
        ("Đà Nẵng", "da-nang"),
    ],
)
def test_slug(board: Board, name: str, expected: str) -> None:
    """It is transliterated, and drops no letter."""
    unique = uuid4().hex
    session = sign_up(board, organizationName=f"{unique} {name}").json()
    organization = board.client(session["accessToken"]).get("/auth/me").json()["organization"]
    assert organization["slug"] == f"{unique}-{expected}"
    assert organization["name"] == f"{unique} {name}"


def test_long_slug(board: Board) -> None:
    """However long a name is in ASCII, its slug is bounded, and no sign-up fails of it."""
    for name in ("👩‍🦼" * 20 + uuid4().hex, "ﷺ" * 60 + uuid4().hex):
        session = sign_up(board, organizationName=name).json()
        slug = board.client(session["accessToken"]).get("/auth/me").json()["organization"]["slug"]
        assert len(slug) <= 110


def test_names_of_people(board: Board) -> None:
    """They are composed, in accounts and in what they wrote."""
    session = sign_up(board, firstName=form(NFD, " José "), lastName=form(NFD, "Müller")).json()
    assert (session["user"]["firstName"], session["user"]["lastName"]) == ("José", "Müller")
    event = board.client(session["accessToken"]).post("/events", json=EVENT).json()
    assert event["createdByName"] == "José Müller"
