"""One walk through the whole public API, the same in every shape: by the book first, then every refusal.

People and events that exist before have fixed ids, so the walk is the same to the letter; what a shape makes itself is
told apart by alike.py.
"""

import json
import re
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count, cycle, product
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import jwt
from argon2 import PasswordHasher

from eventboard.modules.auth.limits import key_of
from tests.behaviour.test_bodies import NO_JSON, NO_OBJECT, WRONG_VALUES
from tests.shapes.recording import Exchange, Player, Recording
from tests.support.board import EVENT, PASSWORD, Board, Member
from tests.support.bodies import BODIES
from tests.support.holding import holding
from tests.support.proxy import Proxy
from tests.support.shapes import Deployment
from tests.support.tables import CALLERS, COMMANDS, STATES

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
# Neither version 4 nor 7: alike.py compares such an id as it is.
HOME, OPEN, NOBODYS = UUID(int=1), UUID(int=2), UUID(int=3)
PEOPLE = {
    "admin": ("ADMIN", HOME),
    "moderator": ("MODERATOR", HOME),
    "user": ("USER", HOME),
    "other": ("USER", HOME),
    "leaver": ("USER", HOME),
    "stranger": ("ADMIN", OPEN),
}
REASON = {"reason": "Please name a room."}
SIGNUP = {"email": "new@walk.example", "password": PASSWORD, "firstName": " Nia ", "lastName": "New"}
NOWHERE = f"/events/{NOBODYS}"
# Every operation that reads a body, and those that need no token.
READING: dict[tuple[str, str], Any] = {
    **BODIES,
    ("POST", "/auth/refresh"): {"refreshToken": "x"},
    ("POST", "/auth/logout"): {"refreshToken": "x"},
    ("POST", "/auth/switch"): {"organizationId": str(NOBODYS)},
    ("POST", "/auth/join"): {"organizationId": str(NOBODYS)},
    ("POST", "/auth/password"): {"currentPassword": "wrong horse", "newPassword": "another horse battery"},
    ("PATCH", f"/members/{NOBODYS}"): {"role": "USER"},
    ("POST", "/invitations"): {"email": "nobody@walk.example", "role": "USER"},
    ("PATCH", "/organization"): {"openSignup": False},
}
OPEN_CALLS = {"/auth/signup", "/auth/login", "/auth/refresh", "/auth/logout"}
READS = ("/auth/me", "/auth/sessions", "/members", "/invitations", "/events", NOWHERE, f"{NOWHERE}/history")


def walk(deployment: Deployment, shape: str) -> Recording:
    board = Board(deployment.public.url, deployment.database_url)
    player = Player(deployment.public.url, shape)
    try:
        _Walk(board, player).all()
    finally:
        player.close()
        board.close()
    return player.recording


def story(url: str, database_url: str, name: str, tls: ssl.SSLContext | None = None) -> Recording:
    """The walk without what no decent client sends, for proxies that answer such things themselves."""
    board = Board(url, database_url)
    player = Player(url, name, tls)
    try:
        _Walk(board, player).story()
    finally:
        player.close()
        board.close()
    return player.recording


def walk_in_trouble(deployment: Deployment, shape: str, way: Proxy) -> Recording:
    """What is answered while the tables are locked, and while the database can't be reached, to which `way` leads.

    The deployment's budgets should be short.
    """
    board = Board(deployment.public.url, deployment.database_url)
    player, first = Player(deployment.public.url, shape), Player(deployment.public.url, shape)
    try:
        here = _Walk(board, player)
        here.seed()
        first.tokens = player.tokens
        path = here.put([("user", "DRAFT", {})])[0]
        write = ("user", "PATCH", path, {"title": "Locked out"})
        key = {"Idempotency-Key": "locked-out"}
        with holding(deployment.database_url, "LOCK TABLE events.events") as holder, ThreadPoolExecutor(1) as pool:
            running = pool.submit(first.play, *write, headers=key)
            holder.until_waited_for()
            player.play(*write, headers=key)
            running.result()
            player.recording.exchanges += first.recording.exchanges
            # Reads last: what a client has given up may be a moment from its end in the module, and must have met it.
            for method, target in (("DELETE", path), ("POST", f"{path}/submit"), ("GET", "/events"), ("GET", path)):
                player.play("user", method, target)
        with holding(deployment.database_url, "LOCK TABLE auth.users, auth.memberships"):
            player.play("", "POST", "/auth/login", {"email": "user@walk.example", "password": PASSWORD})
            player.play("user", "GET", "/auth/me")
        player.play(*write, headers=key)
        player.play("user", "GET", "/idempotency-keys/locked-out")
        way.refuse()
        player.play("", "POST", "/auth/login", {"email": "user@walk.example", "password": PASSWORD})
        player.play("", "POST", "/auth/signup", {**SIGNUP, "organizationName": "Out of reach"})
        for method, target in (("GET", "/auth/me"), ("GET", path), ("GET", "/events"), ("GET", f"{path}/history")):
            player.play("user", method, target)
        for method, target, body in (("PATCH", path, {}), ("POST", f"{path}/submit", None), ("DELETE", path, None)):
            player.play("user", method, target, body)
            player.play("user", method, target, body, headers={"Idempotency-Key": "out of reach"})
            player.play("user", method, target, body, headers={"Idempotency-Key": "out-of-reach"})
    finally:
        first.close()
        player.close()
        board.close()
    return player.recording


class _Walk:
    def __init__(self, board: Board, player: Player) -> None:
        self._board = board
        self._player = player
        self._play = player.play
        self._members: dict[str, Member] = {}
        self._ids = (UUID(int=number) for number in count(1000))

    def all(self) -> None:
        self.seed()
        self.accounts()
        self.sessions()
        self.limits()
        self.members()
        self.life_of_an_event()
        self.idempotency()
        self.preconditions()
        self.changes()
        self.tables()
        self.lists()
        self.callers_unknown()
        self.bad_requests()
        self.bad_queries_and_paths()
        self.framework()
        self.pages()

    def story(self) -> None:
        """Includes the matrix of rights on events."""
        self.seed()
        self.accounts()
        self.sessions()
        self.members()
        self.life_of_an_event()
        self.idempotency()
        self.preconditions()
        self.changes()
        self.tables()
        self.lists()
        self.pages()

    def seed(self) -> None:
        """Two organizations and their people, who log in."""
        password_hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        for id_, name, open_signup in ((HOME, "Walkers", False), (OPEN, "Open House", True)):
            self._board.sql(
                "INSERT INTO auth.organizations (id, name, name_key, slug, open_signup, created_at)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                *(id_, name, name.lower().replace(" ", ""), name.lower().replace(" ", "-"), open_signup, LONG_AGO),
            )
        for number, (name, (role, organization_id)) in enumerate(PEOPLE.items(), 100):
            email = f"{name}@walk.example"
            self._board.sql(
                "WITH person AS (INSERT INTO auth.users (id, email, password_hash, first_name, last_name,"
                " last_organization_id, created_at, updated_at) VALUES ($1, $2, $3, $4, 'Walker', $5, $7, $7))"
                " INSERT INTO auth.memberships (organization_id, user_id, role) VALUES ($5, $1, $6)",
                *(UUID(int=number), email, password_hash, name.title(), organization_id, role, LONG_AGO),
            )
            session = self._play("", "POST", "/auth/login", {"email": email, "password": PASSWORD})
            token = self._player.tokens[name] = session["accessToken"]
            member = Member(UUID(int=number), email, role, organization_id, self._board)
            self._members[name] = member.with_token(token)

    def put(self, events: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
        """Events that were there before, with fixed ids: author, status, other columns. Returns their paths."""
        known = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
        rows = [
            {"author": self._members[author], "status": status, "id": next(self._ids), **known, **columns}
            for author, status, columns in events
        ]
        return [f"/events/{id_}" for id_ in self._board.put(rows)]

    def accounts(self) -> None:
        play = self._play
        for body in (
            {**SIGNUP, "organizationName": "Öpen  Höuse"},
            {**SIGNUP, "email": " Second@Walk.example ", "organizationName": "öpen höuse!"},
            {**SIGNUP, "organizationName": "Something else"},
            {**SIGNUP, "email": "joiner@walk.example", "organizationId": str(OPEN)},
            {**SIGNUP, "email": "intruder@walk.example", "organizationId": str(HOME)},
            {**SIGNUP, "email": "intruder@walk.example", "organizationId": str(NOBODYS)},
            {**SIGNUP, "email": "both@walk.example", "organizationId": str(OPEN), "organizationName": "Both"},
            {**SIGNUP, "email": "neither@walk.example"},
            {**SIGNUP, "email": "same@walk.example", "password": "same@walk.example", "organizationName": "Same"},
            {**SIGNUP, "email": "blank@walk.example", "organizationName": "?!"},
        ):
            play("", "POST", "/auth/signup", body)
        for body in (
            {"email": "NEW@walk.example", "password": PASSWORD},
            {"email": "new@walk.example", "password": "wrong horse"},
            {"email": "unknown@walk.example", "password": "wrong horse"},
            {"email": "joiner@walk.example", "password": PASSWORD, "organizationId": str(OPEN)},
            {"email": "joiner@walk.example", "password": PASSWORD, "organizationId": str(HOME)},
        ):
            play("", "POST", "/auth/login", body)
        for name in PEOPLE:
            play(name, "GET", "/auth/me")

    def limits(self) -> None:
        """Whoever has tried too often is refused; so many tries stand for all of them."""
        for name, most, who in (
            ("login-failures", 2999, ("tried@walk.example", "127.0.0.1")),
            ("signup-by-account", 1000, ("tried@walk.example",)),
        ):
            self._board.sql(
                "INSERT INTO auth.counters (key, total, ends_at) VALUES ($1, $2, now() + interval '1 h')",
                key_of(name, *who),
                most,
            )
        for _ in range(2):
            self._play("", "POST", "/auth/login", {"email": "tried@walk.example", "password": PASSWORD})
        self._play("", "POST", "/auth/signup", {**SIGNUP, "email": "tried@walk.example", "organizationName": "Tried"})

    def sessions(self) -> None:
        """What is ended isn't used again: it may hold for 5 s."""
        play = self._play
        email = "new@walk.example"
        spent = self.log_in("new", email)
        renewed = play("", "POST", "/auth/refresh", {"refreshToken": spent})["refreshToken"]
        for refresh_token in (renewed, renewed, spent, "x", "x" * 256, ""):
            play("", "POST", "/auth/refresh", {"refreshToken": refresh_token})
        left = self.log_in("new", email)
        for refresh_token in (left, left, "x"):
            play("", "POST", "/auth/logout", {"refreshToken": refresh_token})
        play("", "POST", "/auth/refresh", {"refreshToken": left})
        others = [self.log_in("new, elsewhere", email) for _ in range(2)]
        others.append(self.log_in("new", email))
        listed = play("new", "GET", "/auth/sessions")["data"]
        play("user", "DELETE", f"/auth/sessions/{listed[1]['id']}")
        for id_ in (listed[1]["id"], listed[1]["id"], str(NOBODYS), "x"):
            play("new", "DELETE", f"/auth/sessions/{id_}")
        play("new", "GET", "/auth/sessions")
        for choice in (
            {"organizationName": "Engines"},
            {"organizationName": "engines!"},
            {"organizationId": str(OPEN)},
            {"organizationId": str(OPEN)},
            {"organizationId": str(HOME)},
            {"organizationId": str(NOBODYS)},
            {"invitationToken": "x"},
            {"organizationId": str(OPEN), "organizationName": "Both"},
            {},
        ):
            play("new", "POST", "/auth/join", choice)
        for id_ in (str(OPEN), str(HOME), str(NOBODYS), "x", None):
            play("new", "POST", "/auth/switch", {"organizationId": id_})
        for current, new in (
            ("wrong horse", "another horse battery"),
            (PASSWORD, "short"),
            (PASSWORD, "12345678"),
            (PASSWORD, email),
            (PASSWORD, "another horse battery"),
        ):
            play("new", "POST", "/auth/password", {"currentPassword": current, "newPassword": new})
        for refresh_token in others:
            play("", "POST", "/auth/refresh", {"refreshToken": refresh_token})
        play("", "POST", "/auth/login", {"email": email, "password": PASSWORD})
        self.log_in("new", email, "another horse battery")
        play("new", "POST", "/auth/logout-all")

    def log_in(self, who: str, email: str, password: str = PASSWORD) -> str:
        """Returns the refresh token."""
        session = self._play("", "POST", "/auth/login", {"email": email, "password": password})
        self._player.tokens[who] = session["accessToken"]
        return str(session["refreshToken"])

    def members(self) -> None:
        """The stranger is the ADMIN of the open organization."""
        play = self._play
        for who in ("stranger", "user", "moderator"):
            play(who, "GET", "/members")
            play(who, "GET", "/invitations")
            play(who, "POST", "/invitations", {"email": f"invited-by-{who}@walk.example", "role": "MODERATOR"})
            play(who, "PATCH", "/organization", {})
        joiner = next(member for member in play("stranger", "GET", "/members")["data"] if "joiner" in member["email"])
        own = self._members["stranger"].id
        for id_, patch in (
            (joiner["id"], {}),
            (joiner["id"], {"role": "ADMIN"}),
            (joiner["id"], {"role": "USER", "active": False}),
            (own, {"role": "USER"}),
            (own, {"active": False}),
            (self._members["user"].id, {"active": False}),
            (NOBODYS, {"active": False}),
            ("x", {"role": "USER"}),
            (own, {"role": "OWNER", "active": 1}),
        ):
            play("stranger", "PATCH", f"/members/{id_}", patch)
        play("", "POST", "/auth/login", {"email": "joiner@walk.example", "password": PASSWORD})
        invited = {"email": " Invited@Walk.example", "role": "MODERATOR"}
        for _ in range(2):
            invitation = play("stranger", "POST", "/invitations", invited)
        revoked = play("stranger", "POST", "/invitations", {"email": "revoked@walk.example", "role": "USER"})
        for id_ in (revoked["id"], revoked["id"], str(NOBODYS), "x"):
            play("stranger", "DELETE", f"/invitations/{id_}")
            play("admin", "DELETE", f"/invitations/{id_}")
        for email, token in (
            ("somebody@walk.example", invitation["token"]),
            ("invited@walk.example", invitation["token"]),
            ("invited, too@walk.example", invitation["token"]),
            ("revoked@walk.example", revoked["token"]),
        ):
            play("", "POST", "/auth/signup", {**SIGNUP, "email": email, "invitationToken": token})
        play("stranger", "DELETE", f"/invitations/{invitation['id']}")
        play("stranger", "POST", "/invitations", {"email": "invited@walk.example", "role": "USER"})
        play("stranger", "GET", "/invitations")
        for name in ("Öffenes Haus", "Walkers", "?!", "Open House"):
            play("stranger", "PATCH", "/organization", {"name": name})
        for open_signup in (False, True, None):
            play("stranger", "PATCH", "/organization", {"openSignup": open_signup})
            body = {**SIGNUP, "email": f"late-{open_signup}@walk.example", "organizationId": str(OPEN)}
            play("", "POST", "/auth/signup", body)
        play("admin", "PATCH", f"/members/{self._members['leaver'].id}", {"active": False})
        play("", "POST", "/auth/login", {"email": "leaver@walk.example", "password": PASSWORD})

    def life_of_an_event(self) -> None:
        """Every command, and the history each leaves."""
        play = self._play
        draft = {**EVENT, "location": "Room Ω", "timeZone": "Europe/Berlin", "startDate": "2027-03-01T19:00:00.5+02:00"}
        event = play("user", "POST", "/events", draft, headers={"X-Correlation-ID": "walk.1"})
        path = f"/events/{event['id']}"
        for who, command, body in (
            ("user", "submit", None),
            ("user", "withdraw", {}),
            ("user", "submit", {}),
            ("moderator", "reject", REASON),
            ("user", "submit", None),
            ("admin", "approve", None),
            ("admin", "approve", None),
            ("user", "cancel", {"reason": "Nobody has a chess board.\n\tSorry."}),
            ("user", "cancel", {}),
        ):
            play(who, "POST", f"{path}/{command}", body, headers={"X-Correlation-ID": f"walk:{command}"})
            play("other", "GET", path)
        for who in ("user", "other", "moderator", "admin", "stranger"):
            play(who, "GET", f"{path}/history")
        play("admin", "DELETE", path)
        play("admin", "DELETE", path)
        for who in ("user", "other", "moderator", "admin", "stranger"):
            play(who, "GET", f"{path}/history")
            play(who, "GET", path)

    def idempotency(self) -> None:
        """Every write with a key, played and played again; keys that are reused, malformed, unknown."""
        play = self._play
        for headers in ({"Idempotency-Key": "walk/create?"}, {"Idempotency-Key": '"walk/create?"'}):
            event = play("user", "POST", "/events", EVENT, headers={**headers, "X-Correlation-ID": "walk.first"})
        path = f"/events/{event['id']}"
        writes: list[tuple[str, str, Any, dict[str, str]]] = [
            ("PATCH", path, {"title": "Once and for all"}, {}),
            ("POST", f"{path}/submit", None, {}),
            ("POST", f"{path}/withdraw", {}, {}),
            ("POST", f"{path}/cancel", {"reason": "It is no longer wanted."}, {}),
            ("POST", f"/events/{NOBODYS}/submit", None, {}),
            ("POST", f"{path}/submit", None, {"If-Match": '"1"'}),
            ("POST", f"{path}/approve", None, {}),
            ("DELETE", path, None, {}),
            ("DELETE", path, None, {}),
        ]
        for number, (method, target, body, headers) in enumerate(writes):
            for correlation_id in ("walk.first", "walk.again"):
                sent = {**headers, "Idempotency-Key": f"walk-{number}", "X-Correlation-ID": correlation_id}
                play("user", method, target, body, headers=sent)
            play("user", "GET", f"/idempotency-keys/walk-{number}")
            play("other", "GET", f"/idempotency-keys/walk-{number}")
        key = {"Idempotency-Key": "walk/create?"}
        play("user", "POST", "/events", {**EVENT, "title": "Another one"}, headers=key)
        play("user", "POST", f"{path}/submit", headers=key)
        play("user", "DELETE", f"/events/{NOBODYS}", headers={"Idempotency-Key": "walk-7"})
        play("user", "POST", "/events", {"title": "x"}, headers=key)
        for quoted in ("walk%2Fcreate%3F", "walk/create?", "nope", "%22nope%22", "x" * 256, "%00", "a%20b", ""):
            play("user", "GET", f"/idempotency-keys/{quoted}")
        for value in ("", " ", '"', '""', "a b", "x" * 256, "\xe4", '"a\\"b"', "x" * 255):
            play("user", "DELETE", f"/events/{NOBODYS}", headers={"Idempotency-Key": value})
        play("user", "DELETE", f"/events/{NOBODYS}", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
        for method, target in (("GET", path), ("GET", "/events"), ("GET", "/auth/me"), ("GET", "/nope")):
            play("user", method, target, headers=key)
        play("", "POST", "/auth/login", {"email": "user@walk.example", "password": PASSWORD}, headers=key)

    def preconditions(self) -> None:
        play = self._play
        event = play("user", "POST", "/events", EVENT)
        path = f"/events/{event['id']}"
        tags = ('"1"', 'W/"1"', '"2", "1"', "*", '"7"', '"x"', '"*"', 'W/"7", "9"', "1", '"1" "2"', "", '"', '"\xe9"')
        for tag in tags:
            play("user", "GET", path, headers={"If-None-Match": tag})
            play("user", "PATCH", path, {}, headers={"If-Match": tag})
        play("user", "GET", path, headers=[("If-None-Match", '"5"'), ("If-None-Match", '"1"')])
        for tag in ('"7"', "broken", '"1"'):
            play("user", "PATCH", path, {"title": f"Chess after {tag}"}, headers={"If-Match": tag})
            play("user", "POST", f"{path}/submit", headers={"If-Match": tag})
        for tag in ('"1"', '"2"'):
            play("user", "POST", f"{path}/submit", headers={"If-Match": tag})
        for tag in ('"2"', '"3"'):
            play("moderator", "POST", f"{path}/reject", REASON, headers={"If-Match": tag})
        for tag in ('"3"', "*"):
            play("admin", "DELETE", path, headers={"If-Match": tag})

    def changes(self) -> None:
        play = self._play
        event = play("user", "POST", "/events", {**EVENT, "location": "Room 1", "timeZone": "Asia/Tokyo"})
        path = f"/events/{event['id']}"
        changes: list[dict[str, Any]] = [
            {},
            {"title": EVENT["title"]},
            {"title": "  Chess, with spaces  ", "description": "Zürich\n\t日本語 🎲 \u200f"},
            {"location": None},
            {"location": "Room 2", "timeZone": "America/Argentina/ComodRivadavia"},
            {"timeZone": None},
            {"endDate": "2027-03-01T10:00:00Z"},
            {"startDate": "2027-03-01T21:00:00+00:00"},
            {"startDate": "1999-12-31T23:59:59.999999-11:30", "endDate": "9999-12-31T23:59:59.999999Z"},
            {"startDate": "0001-01-01T00:00:00+00:01"},
            {"endDate": "9999-12-31T23:59:59-00:01", "timeZone": "Mars/Phobos"},
            {"startDate": "2027-03-01T18:00:00.1234567Z"},
            {"title": None, "description": None, "startDate": None},
        ]
        for change in changes:
            play("user", "PATCH", path, change)
            play("user", "PATCH", path, change, headers={"Content-Type": "application/merge-patch+json; charset=utf-8"})
        play("user", "GET", f"{path}/history")

    def tables(self) -> None:
        """Every cell: what each caller may see, read, command, edit and delete, in each state."""
        cells = list(product(CALLERS.values(), STATES))
        paths = iter(self.put([(author, state, {}) for (author, _), state in cells for _ in (*COMMANDS, "others")]))
        for (_, caller), _ in cells:
            for command in COMMANDS:
                self._play(caller, "POST", f"{next(paths)}/{command}", REASON if command == "reject" else None)
            path = next(paths)
            self._play(caller, "GET", path)
            self._play(caller, "GET", f"{path}/history")
            self._play(caller, "PATCH", path, {"title": "Changed by somebody"})
            self._play(caller, "DELETE", path)

    def lists(self) -> None:
        """The stranger has an organization of their own: its list holds what is put here."""
        play = self._play
        texts = ("Found by its Description alone", "Something else entirely")
        columns = (
            {
                "title": f"Title {number % 7:02} 100%_\\",
                "description": texts[number % len(texts)],
                "start_date": datetime(2027, 1, 1 + number % 9, tzinfo=UTC),
            }
            for number in range(23)
        )
        self.put([("stranger", state, more) for state, more in zip(cycle(STATES), columns, strict=False)])
        made_here = play("stranger", "POST", "/events", {**EVENT, "title": "Made by the shape"})
        for sort_by, sort_order in product(("startDate", "createdAt", "title", "status"), ("asc", "desc")):
            order = {"sortBy": sort_by, "sortOrder": sort_order}
            for _ in self._pages({**order, "limit": "7"}):
                pass
        queries: list[dict[str, str]] = [
            {},
            {"page": "2"},
            {"page": "3", "limit": "10"},
            {"page": "9"},
            {"page": "100", "limit": "100"},
            {"page": "101", "limit": "100"},
            {"limit": "100", "search": "DESCRIPTION"},
            {"search": "%_\\"},
            {"search": "an"},
            {"search": "nothing has this"},
            {"status": "CANCELLED", "limit": "2"},
            {"startDateFrom": "2027-01-03T00:00:00+01:00", "startDateTo": "2027-01-05T00:00:00Z"},
            {"startDateFrom": "2027-01-05T00:00:00Z", "startDateTo": "2027-01-03T00:00:00Z"},
            {"startDateFrom": "0001-01-01T00:00:00+01:00"},
            {"startDateTo": "9999-12-31T23:59:59-01:00"},
            {"startDateFrom": "9999-12-31T23:59:59.999999Z", "startDateTo": "0001-01-01T00:00:00Z"},
            {"search": "Made by the shape"},
            {"status": "APPROVED", "search": "title", "sortBy": "title", "sortOrder": "desc", "limit": "1"},
        ]
        for query in queries:
            play("stranger", "GET", f"/events?{urlencode(query, quote_via=quote)}")
        for who in ("user", "moderator", "other"):
            play(who, "GET", "/events?limit=100")
            play(who, "GET", "/events?limit=3&sortBy=createdAt&sortOrder=desc")
        (first, *_) = self._pages({"limit": "5", "sortBy": "title"})
        cursor = first["meta"]["nextCursor"]
        for query in (
            {"cursor": cursor, "sortBy": "title"},
            {"cursor": cursor, "sortBy": "title", "limit": "5", "page": "2"},
            {"cursor": cursor},
            {"cursor": cursor, "sortBy": "title", "status": "DRAFT"},
            {"cursor": cursor[:-4], "sortBy": "title"},
            {"cursor": "AAAA", "sortBy": "title"},
            {"cursor": cursor + "*", "sortBy": "title"},
        ):
            play("stranger", "GET", f"/events?{urlencode(query)}")
        play("stranger", "DELETE", f"/events/{made_here['id']}")

    def _pages(self, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """One list from its beginning to its end, by cursor."""
        cursor: dict[str, str] = {}
        while True:
            page = self._play("stranger", "GET", f"/events?{urlencode({**query, **cursor})}")
            yield page
            if not page["meta"]["hasNext"]:
                return
            cursor = {"cursor": page["meta"]["nextCursor"]}

    def callers_unknown(self) -> None:
        """No token, and every kind of wrong one, on every operation that needs one."""
        token = self._player.tokens["user"]
        unsigned = token.rpartition(".")[0]
        forged = jwt.encode({"sub": "nobody", "iat": 0}, "secret" * 8, "HS256", headers={"typ": "at+jwt", "kid": "x"})
        known = {**jwt.get_unverified_header(token), "alg": "HS256"}
        known_key = jwt.encode({"sub": "nobody", "iat": 0}, "secret" * 8, "HS256", headers=known)
        needing = [operation for operation in READING if operation[1] not in OPEN_CALLS]
        needing += [("GET", path) for path in (*READS, "/idempotency-keys/walk")]
        needing += [("DELETE", path) for path in (NOWHERE, f"/invitations/{NOBODYS}", f"/auth/sessions/{NOBODYS}")]
        needing += [("POST", "/auth/logout-all")]
        for method, path in needing:
            self._play("", method, path)
            self._play("", method, f"{path}?nope=1", headers={"Authorization": f"Bearer {unsigned}.AAAA"})
        for value in (
            "",
            "Bearer",
            "Bearer x",
            "Basic dXNlcjpwYXNz",
            f"Bearer {unsigned}.",
            f"Bearer {forged}",
            f"Bearer {known_key}",
            f"Bearer {token} {token}",
            f"Bearer {'x' * 5000}",
            "Bearer \xe4",
        ):
            self._play("", "GET", "/auth/me", headers={"Authorization": value})
        self._play("user", "GET", "/auth/me", headers={"authorization": f"Bearer {token}"})
        self._play("", "GET", "/auth/me", headers={"authorization": f"bearer {token}"})

    def bad_requests(self) -> None:
        """What is wrong with a body, in every operation that reads one."""
        for (method, path), right in READING.items():
            who = "" if path in OPEN_CALLS else "user"
            unknown: dict[str, Any] = {"extra": 1, "a/b~c": None, **(right or {})}
            for body in (*NO_JSON.values(), *NO_OBJECT.values(), b"", unknown):
                self._play(who, method, path, body)
            for headers in (
                {"Content-Type": "text/plain"},
                {"Content-Type": "application/merge-patch+json"},
                {"Content-Type": "APPLICATION/JSON; charset=utf-8"},
                {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            ):
                self._play(who, method, path, {"x": 1}, headers=headers)
            self._play(who, method, f"{path}?dryRun=1&a=b", right)
            self._play(who, method, path, b"x" * ((1 << 20) + 1))
            self._play(who, method, path, {f"field {number}": number for number in range(100)})
        for method, path, right, field, values in WRONG_VALUES:
            for value in values:
                who = "" if path in OPEN_CALLS else "user"
                self._play(who, method, path, {**right, field: value})
        self._play("user", "POST", "/events", {"title": "ab", "endDate": "tomorrow", "location": 5, "x": 1})
        self._play("user", "POST", "/events", {**EVENT, "startDate": EVENT["endDate"], "timeZone": "Mars/Phobos"})
        edges = {"startDate": "0001-01-01T00:00:00+01:00", "endDate": "9999-12-31T23:59:59-01:00", "timeZone": "Mars"}
        self._play("user", "POST", "/events", {**EVENT, **edges})
        twice = json.dumps(EVENT).encode().replace(b"{", b'{"title": 5, ', 1)
        self._play("user", "POST", "/events", twice)

    def bad_queries_and_paths(self) -> None:
        for path in READS:
            self._play("user", "GET", f"{path}?dryRun=1")
        for query in (
            *("page=0", "page=10001", "page=x", "page=1.0", "page=99999999999999999999", "page=", "page=1&page=1"),
            *("limit=0", "limit=101", "status=draft", "sortBy=id&sortOrder=ASC", "search=", "search=%00", "search=%ff"),
            *("search=%zz", "search=%", "nope=1&Page=1&a%2Fb~c=1", "=", "x", "startDateFrom=2027-01-01", "cursor=%00"),
            *("&".join(f"p{number}=1" for number in range(200)), f"search={'x' * 201}", "startDateTo=tomorrow"),
        ):
            self._play("user", "GET", f"/events?{query}")
        theirs = self.put([("stranger", "APPROVED", {})])[0].removeprefix("/events/")
        for id_ in (str(NOBODYS), theirs, str(UUID(int=0xABC)).upper(), "1", "%00", "%ff", "..%2f..", "x" * 3000):
            for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/history"), ("POST", "/submit")):
                self._play("user", method, f"/events/{id_}{rest}", {} if method == "PATCH" else None)

    def framework(self) -> None:
        """What is refused before any route sees it, and what is answered for every route alike."""
        for target in ("/nope", "/Events", "/events/1/2/3", "/schema/nope", "/problems/a/b", "/rpc/events.create", "*"):
            for method in ("GET", "POST", "OPTIONS"):
                self._play("", method, target)
        for path in ("/", "/events", NOWHERE, f"{NOWHERE}/submit", "/auth/login", "/auth/me", "/health/live", "/docs"):
            for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "CONNECT", "PATCH", "POST"):
                if (method, path) not in {("PATCH", NOWHERE), ("DELETE", NOWHERE)}:
                    self._play("", method, path)
        for given in ("walk", "x" * 128, "x" * 129, "a b", "", "\xe4", "00000000-0000-0000-0000-000000000000"):
            self._play("", "GET", "/nope", headers={"X-Correlation-ID": given})
            self._play("", "GET", "/health/live", headers=[("X-Correlation-ID", given), ("x-correlation-id", "two")])
        self._play("", "GET", "/health/live", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        self._play("", "GET", "/health/live", headers={"Connection": "close"})

    def pages(self) -> None:
        play = self._play
        for path in ("/", "/docs", "/api", "/schema", "/problems/nope", "/problems"):
            play("", "GET", path)
        for code in problems(self._player.last):
            play("", "GET", f"/problems/{code}")
        for path in ("/.well-known/jwks.json", "/schema/openapi.json", "/health", "/health/live", "/health/ready"):
            play("", "GET", path)
            play("", "GET", path, headers={"Accept-Encoding": "gzip, br", "If-None-Match": "*"})
        files: set[str] = set()
        for name in ("swagger", "scalar", "redoc"):
            play("", "GET", f"/schema/{name}")
            page = self._player.last.body.decode()
            files |= {part for part in page.split('"') if part.startswith("/schema/static/")}
        for path in sorted(files):
            play("", "GET", path)
            play("", "GET", path, headers={"Accept-Encoding": "gzip"})


def problems(index: Exchange) -> list[str]:
    """The codes that the page of all problems lists."""
    return re.findall(r'href="/problems/([a-z-]+)"', index.body.decode())
