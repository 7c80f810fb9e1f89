"""Clients, keys, commands and failures in any order, against a model."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.model import Answer, Event, Model, Request
from tests.support.problems import assert_problem
from tests.support.proxy import Proxy, proxied
from tests.support.writes import REASON, essence

MEMBERS = ("user", "other", "moderator", "admin")
COMMANDS = ("submit", "withdraw", "cancel", "delete")
TITLES = ("Chess night", "Go night")
# Whose events there are to begin with, and in which state.
FIRST = (("user", "DRAFT"), ("user", "SUBMITTED"), ("moderator", "SUBMITTED"), ("admin", "APPROVED"))
# Few, so that requests meet.
KEYS = (None, "one", "two", "three")
# How a request fares: well; its history, or its key's record, can't be written; its answer is lost; or three clients
# send it at once.
FATES = ("well", "well", "well", "no history", "no record", "lost", "thrice")
members, keys, fates = st.sampled_from(MEMBERS), st.sampled_from(KEYS), st.sampled_from(FATES)
events, versions = st.integers(0, len(FIRST) - 1), st.sampled_from((None, None, 1, 2))
TABLES = {"no history": "history", "no record": "idempotency_keys"}


class World:
    """A server with an organization. The way there can be cut, and its tables refuse whatever is marked so."""

    def __init__(self, board: Board, organization: Organization, way: Proxy) -> None:
        self.board = board
        self.way = way
        self._login = board.client()
        self.members = {name: getattr(organization, name) for name in MEMBERS}
        self.clients = {name: self._client(member.token) for name, member in self.members.items()}
        self.roles = {name: member.role for name, member in self.members.items()}

    def give_role(self, name: str, role: str) -> None:
        """A new token says so, too."""
        member, self.roles[name] = self.members[name], role
        self.board.sql("UPDATE auth.memberships SET role = $2 WHERE user_id = $1", member.id, role)
        login = {"email": member.email, "password": PASSWORD}
        self.clients[name] = self._client(self._login.post("/auth/login", json=login).json()["accessToken"])

    def _client(self, token: str) -> httpx.Client:
        client = self.board.client(token)
        client.base_url = httpx.URL(self.way.url)
        return client


@pytest.fixture
def world(board: Board, organization: Organization) -> Iterator[World]:
    for table in TABLES.values():
        name = f"refuse_{organization.id.hex}_{table}"
        board.sql(
            f"CREATE FUNCTION events.{name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'the test refuses' USING ERRCODE = 'disk_full'; END $$"
        )
        board.sql(
            f"CREATE TRIGGER {name} BEFORE INSERT ON events.{table} FOR EACH ROW"
            f" WHEN (NEW.correlation_id LIKE '{table}.%' AND NEW.organization_id = '{organization.id}')"
            f" EXECUTE FUNCTION events.{name}()"
        )
    where = urlsplit(board.url)
    with proxied((where.hostname or "", where.port or 80)) as way:
        yield World(board, organization, way)
    for table in TABLES.values():
        board.sql(f"DROP FUNCTION events.refuse_{organization.id.hex}_{table} CASCADE")


def test_any_order(world: World) -> None:
    """Every answer, every event and every key is as the model has it."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            if world.roles["moderator"] != "MODERATOR":
                world.give_role("moderator", "MODERATOR")
            self.model = Model(world.roles)
            self.model.events = [Event(author, TITLES[0], status) for author, status in FIRST]
            self.ids = world.board.put(
                [{"author": world.members[author], "status": status, "title": TITLES[0]} for author, status in FIRST]
            )
            # What was told under a key: each time the same.
            self.told: dict[tuple[str, str | None], object] = {}
            self.sent: list[Request] = []
            self.prefix = uuid4().hex

        @rule(title=st.sampled_from(TITLES), member=members, key=keys, fate=fates)
        def create(self, title: str, member: str, key: str | None, fate: str) -> None:
            self._send(Request(member, "create", title=title, key=key), fate)

        @rule(event=events, title=st.sampled_from(TITLES), version=versions, member=members, key=keys, fate=fates)
        def edit(self, event: int, title: str, version: int | None, member: str, key: str | None, fate: str) -> None:
            self._send(Request(member, "update", event, title, version, key), fate)

        @rule(event=events, action=st.sampled_from(COMMANDS), version=versions, member=members, key=keys, fate=fates)
        def command(
            self, event: int, action: str, version: int | None, member: str, key: str | None, fate: str
        ) -> None:
            self._send(Request(member, action, event, version=version, key=key), fate)

        @rule(event=events, action=st.sampled_from(("approve", "reject")), key=keys, fate=fates)
        def moderate(self, event: int, action: str, key: str | None, fate: str) -> None:
            self._send(Request("moderator", action, event, key=key), fate)

        @precondition(lambda self: self.sent)
        @rule(which=st.integers(0, 99), fate=fates)
        def again(self, which: int, fate: str) -> None:
            self._send(self.sent[which % len(self.sent)], fate)

        @rule(role=st.sampled_from((None, "USER", "MODERATOR", "ADMIN")), which=st.integers(0, 99))
        def meanwhile(self, role: str | None, which: int) -> None:
            """The moderator gets another role, or a key expires."""
            if role is not None:
                world.give_role("moderator", role)
            elif self.model.keys:
                member, key = list(self.model.keys)[which % len(self.model.keys)]
                world.board.sql(
                    "UPDATE events.idempotency_keys SET expires_at = now() WHERE user_id = $1 AND key = $2",
                    world.members[member].id,
                    f"{self.prefix}-{key}",
                )
                del self.model.keys[member, key]
                self.told.pop((member, key), None)

        def teardown(self) -> None:
            rows = world.board.sql(
                "SELECT event_id::text, count(*), bool_or(action = 'delete') AS deleted,"
                " (SELECT (title, status, version) FROM events.events WHERE id = event_id) AS event"
                " FROM events.history WHERE event_id::text = ANY ($1) GROUP BY event_id",
                self.ids,
            )
            found = {row["event_id"]: (row["count"], row["deleted"], row["event"]) for row in rows}
            assert found == {
                id_: (
                    event.entries,
                    event.deleted,
                    None if event.deleted else (event.title, event.status, event.version),
                )
                for id_, event in zip(self.ids, self.model.events, strict=True)
            }
            for member in MEMBERS:
                for key in filter(None, KEYS):
                    fate = world.clients[member].get(f"/idempotency-keys/{self.prefix}-{key}").json()
                    assert (fate["state"] == "done") == ((member, key) in self.model.keys)

        def _send(self, request: Request, fate: str) -> None:
            expected = self.model.expect(request)
            if request.key is not None:
                self.sent.append(request)
            if (fate == "no history" and self.model.writes(request)) or (
                fate == "no record" and expected.key_status == "executed"
            ):
                failed = self._exchange(request, f"{TABLES[fate]}.{uuid4()}")
                assert assert_problem(failed, "unavailable")["retryable"] is (request.key is not None)
                return
            correlation_id = str(uuid4())
            if fate == "lost":
                world.way.cut()
                with pytest.raises(httpx.TransportError):
                    self._exchange(request, correlation_id)
            elif fate == "thrice" and expected.key_status == "executed":
                with ThreadPoolExecutor(3) as threads:
                    answers = list(threads.map(lambda _: self._exchange(request, correlation_id), range(3)))
                told = Counter(answer.headers.get("idempotency-status") for answer in answers)
                assert told == {"executed": 1, "replayed": 2}
                for answer in answers:
                    self._compare(request, answer, expected)
            else:
                answer = self._exchange(request, correlation_id)
                assert answer.headers.get("idempotency-status") == expected.key_status
                self._compare(request, answer, expected)
            self.model.happen(request)
            if len(self.model.events) > len(self.ids):
                found = world.board.sql(
                    "SELECT event_id::text FROM events.history WHERE correlation_id = $1", correlation_id
                )
                self.ids += [row[0] for row in found]

        def _compare(self, request: Request, answer: httpx.Response, expected: Answer) -> None:
            assert answer.status_code == expected.status, answer.text
            if expected.differs:
                assert (
                    f"another {', '.join(expected.differs)}."
                    in assert_problem(answer, "idempotency-key-reused")["detail"]
                )
            if expected.event is not None and answer.status_code != 204:
                event = answer.json()
                assert (event["title"], event["status"], event["version"]) == (
                    expected.event.title,
                    expected.event.status,
                    expected.event.version,
                )
            if expected.key_status is not None:
                assert self.told.setdefault((request.member, request.key), essence(answer)) == essence(answer)

        def _exchange(self, request: Request, correlation_id: str) -> httpx.Response:
            headers = {"x-correlation-id": correlation_id}
            if request.key is not None:
                headers["idempotency-key"] = f"{self.prefix}-{request.key}"
            if request.version is not None:
                headers["if-match"] = f'"{request.version}"'
            path = "/events" if request.event is None else f"/events/{self.ids[request.event]}"
            method, path, body = {
                "create": ("POST", path, {**EVENT, "title": request.title}),
                "update": ("PATCH", path, {"title": request.title}),
                "delete": ("DELETE", path, None),
                "reject": ("POST", f"{path}/reject", {"reason": REASON}),
            }.get(request.action, ("POST", f"{path}/{request.action}", None))
            return world.clients[request.member].request(method, path, json=body, headers=headers)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            derandomize="CI" in os.environ,
            # Its steps are few enough to be read as they are; to shrink them takes minutes.
            phases=[Phase.generate],
            deadline=None,
            database=None,
        ),
    )
