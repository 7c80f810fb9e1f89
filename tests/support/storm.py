"""Many clients write, and write again, while what serves them is killed, frozen, stopped and started.

What they do and what is done to the server comes from a seed: each client's commands, and the faults, in their order
and with their times. What comes of it depends on the moment, of course.
"""

import asyncio
import http.client
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec

from eventboard.modules.events.idempotency import Outcome
from tests.support.board import EVENT, Member, Organization
from tests.support.lasting import Lasting
from tests.support.ledger import Attempt, Command, Entry, Record, Row, Tables
from tests.support.processes import PATIENCE, until_ready
from tests.support.services import Service

CLIENTS = 8
ROLES = ("user", "other", "moderator", "admin")
# What only some roles may do, and which.
JUDGED, JUDGES = ("approve", "reject"), ("moderator", "admin")
# Events that they write to at a time. Few, so that they meet; a new one takes an old one's place.
SLOTS = 12
# How often each is tried: many events are submitted, few deleted.
ACTIONS = {"create": 4, "update": 3, "submit": 6, "approve": 4, "reject": 3, "withdraw": 2, "cancel": 2, "delete": 1}
REASON = {"reason": "Please name a room."}
# Seconds between two calls of a client, so that what starts anew gets a turn, too; and after one that brought nothing,
# so that nobody spins on a port where nobody listens.
PAUSE, LONG_PAUSE = 0.01, 0.1
POSTGRES = "postgres"
KILL, FREEZE, STOP, BOUNCE = "killed", "frozen", "stopped", "ended at once"


@dataclass(frozen=True)
class Step:
    """One command of one client: `tries` calls at most while it is ambiguous, `again` more when it no longer is.

    The client hangs up after `patience` seconds. `guarded`: with If-Match.
    """

    action: str
    slot: int
    role: str
    keyed: bool
    guarded: bool
    patience: float
    tries: int
    again: int


@dataclass(frozen=True)
class Fault:
    """Begins `after` seconds of peace and lasts for `seconds`; whom it befalls, and how.

    Where it isn't `patient`, the next may come before all is ready again.
    """

    after: float
    seconds: float
    patient: bool
    what: tuple[tuple[str, str], ...]


def steps(seed: int, client: int) -> Iterator[Step]:
    """Without an end."""
    chance = random.Random(f"{seed}, client {client}")
    while True:
        (action,) = chance.choices(list(ACTIONS), list(ACTIONS.values()))
        slot = chance.randrange(SLOTS)
        role = chance.choice(JUDGES) if action in JUDGED else ROLES[slot % len(ROLES)]
        keyed = chance.random() < 0.6
        yield Step(
            action=action,
            slot=slot,
            role=chance.choice(ROLES) if chance.random() < 0.1 else role,
            keyed=keyed,
            guarded=chance.random() < 0.2,
            patience=chance.choice((0.1, 0.5, 5.0, 5.0, 5.0, 5.0)),
            tries=chance.randint(1, 4) if keyed else 1,
            again=chance.choice((0, 0, 1, 2)) if keyed else 0,
        )


def faults(seed: int, parts: Sequence[str]) -> Iterator[Fault]:
    """Without an end; of `parts`, which are processes, and PostgreSQL."""
    chance = random.Random(f"{seed}, faults")
    while True:
        befallen = chance.sample([*parts, POSTGRES], chance.choice((1, 1, 2)))
        yield Fault(
            after=chance.uniform(0.1, 1.0),
            seconds=chance.choice((0.0, 0.3, 1.0, 2.5)),
            patient=chance.random() < 0.6,
            what=tuple(
                (part, BOUNCE if part == POSTGRES else chance.choice((KILL, KILL, FREEZE, FREEZE, STOP)))
                for part in befallen
            ),
        )


@dataclass
class Storm:
    attempts: list[Attempt]
    faults: Counter[str]
    rounds: int


class _Client:
    """One connection, and the commands that it sent; `slots` is what all clients know of the events."""

    def __init__(self, number: int, url: str, organization: Organization, slots: dict[int, tuple[str, int]]) -> None:
        self._number = number
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._organization = organization
        self._members: dict[str, Member] = {role: getattr(organization, role) for role in ROLES}
        self._slots = slots
        self.attempts: list[Attempt] = []

    def work(self, seed: int, over: Event) -> None:
        for count, step in enumerate(steps(seed, self._number)):
            if over.is_set():
                return
            event_id, version = self._slots.get(step.slot, (None, None))
            if event_id is None and step.action != "create":
                continue
            title = f"Event {self._number}-{count}"
            command = Command(
                title=title,
                action=step.action,
                actor_id=str(self._members[step.role].id),
                event_id=None if step.action == "create" else event_id,
                key=f"key of {title}".replace(" ", "-") if step.keyed else None,
                version=version if step.guarded and step.action != "create" else None,
                allowed=step.action not in JUDGED or step.role in JUDGES,
            )
            # Some ambiguous ones are left so: they are taken up again when all is over.
            for _ in range(step.tries):
                attempt = self.send(command, step.role, step.patience)
                if not attempt.ambiguous:
                    for _ in range(step.again):
                        self.send(command, step.role, step.patience)
                    break
            if attempt.acknowledged and attempt.content:
                told = json.loads(attempt.content)
                self._slots[step.slot] = (told["id"], told["version"])

    def settle(self) -> None:
        """Sends once more what has a key and no clear answer."""
        roles = {str(member.id): role for role, member in self._members.items()}
        last = {attempt.command: attempt for attempt in self.attempts}
        for command, attempt in last.items():
            if command.key is not None and attempt.ambiguous:
                self.send(command, roles[command.actor_id], PATIENCE)

    def send(self, command: Command, role: str, patience: float) -> Attempt:
        correlation_id = f"{command.title.removeprefix('Event ')}.{len(self.attempts)}"
        headers = {"authorization": f"Bearer {self._members[role].token}", "x-correlation-id": correlation_id}
        if command.key is not None:
            headers["idempotency-key"] = command.key
        if command.version is not None:
            headers["if-match"] = f'"{command.version}"'
        method, path, body = _request(command)
        if body is not None:
            headers["content-type"] = "application/json"
        status, told, content = self._exchange(method, path, body, headers, patience)
        problem = json.loads(content) if status is not None and status >= 400 else {}
        attempt = Attempt(
            command,
            correlation_id,
            status,
            problem.get("code"),
            problem.get("retryable", False),
            told.get("idempotency-status"),
            b"" if problem else content,
        )
        self.attempts.append(attempt)
        time.sleep(LONG_PAUSE if attempt.ambiguous else PAUSE)
        return attempt

    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str], patience: float
    ) -> tuple[int | None, dict[str, str], bytes]:
        """No status where there was no answer."""
        self._connection.timeout = patience
        try:
            if self._connection.sock is not None:
                self._connection.sock.settimeout(patience)
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None, {}, b""

    def close(self) -> None:
        self._connection.close()


def _request(command: Command) -> tuple[str, str, dict[str, Any] | None]:
    one = f"/events/{command.event_id}"
    match command.action:
        case "create":
            return "POST", "/events", {**EVENT, "title": command.title}
        case "update":
            return "PATCH", one, {"title": command.title}
        case "delete":
            return "DELETE", one, None
        case "reject" | "cancel":
            return "POST", f"{one}/{command.action}", REASON
        case _:
            return "POST", f"{one}/{command.action}", None


def storm(
    url: str,
    organization: Organization,
    parts: Mapping[str, Service],
    postgres: Lasting,
    *,
    seed: int,
    seconds: float,
) -> Storm:
    """Returns when everything is up again and every command with a key was sent until its answer was clear, or once."""
    over, slots = Event(), dict[int, tuple[str, int]]()
    clients = [_Client(number, url, organization, slots) for number in range(CLIENTS)]
    befell: Counter[str] = Counter()
    end, rounds = time.monotonic() + seconds, 0
    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(client.work, seed, over) for client in clients]
        try:
            for fault in faults(seed, list(parts)):
                time.sleep(fault.after)
                if time.monotonic() > end:
                    break
                _befall(fault, parts, postgres)
                befell.update(f"{part} {how}" for part, how in fault.what)
                rounds += 1
        finally:
            over.set()
        for work in working:
            work.result()
        _until_ready(parts)
        _until_served(organization.user)
        for settling in [pool.submit(client.settle) for client in clients]:
            settling.result()
    for client in clients:
        client.close()
    return Storm(list(itertools.chain.from_iterable(client.attempts for client in clients)), befell, rounds)


def _befall(fault: Fault, parts: Mapping[str, Service], postgres: Lasting) -> None:
    """All of it at once, and at once no more."""
    with ExitStack() as mending:
        for part, how in fault.what:
            if how == BOUNCE:
                mending.enter_context(_bounced(postgres))
            elif how == FREEZE:
                mending.enter_context(parts[part].frozen())
            else:
                mending.enter_context(_away(parts[part], how))
        time.sleep(fault.seconds)  # the fault itself
    if fault.patient:
        _until_ready(parts)


def _until_ready(parts: Mapping[str, Service]) -> None:
    for service in parts.values():
        until_ready(service.process)


@contextmanager
def _away(service: Service, how: str) -> Iterator[None]:
    service.kill() if how == KILL else service.stop()
    yield
    service.launch()


@contextmanager
def _bounced(postgres: Lasting) -> Iterator[None]:
    postgres.end_at_once()
    yield
    postgres.start()


def _until_served(member: Member) -> None:
    """The breakers of the gateway are closed again."""
    deadline = time.monotonic() + PATIENCE
    while member.http.get("/events").status_code != httpx.codes.OK:
        assert time.monotonic() < deadline


def tables(database_url: str) -> Tables:
    """What is in the database now; raises where a transaction still holds a key's lock."""
    return asyncio.run(_tables(database_url))


async def _tables(database_url: str) -> Tables:
    connection = await asyncpg.connect(database_url)
    try:
        locks = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert locks == 0
        history = await connection.fetch(
            "SELECT event_id::text, version, action, status, actor_id::text, correlation_id FROM events.history"
        )
        events = await connection.fetch("SELECT id::text, version, status, title FROM events.events")
        keys = await connection.fetch(
            "SELECT user_id::text, key, operation, correlation_id, outcome FROM events.idempotency_keys"
        )
    finally:
        await connection.close()
    return Tables(
        [Entry(*row) for row in history],
        {id_: Row(*row) for id_, *row in events},
        [
            Record(actor_id, key, operation, correlation_id, msgspec.msgpack.decode(outcome, type=Outcome).code)
            for actor_id, key, operation, correlation_id, outcome in keys
        ],
    )
