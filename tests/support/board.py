"""An API under test: accounts in organizations of their own, and requests in their names."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from argon2 import PasswordHasher

from eventboard.modules.auth.names import name_key
from tests.support import canaries
from tests.support.plain_http import NO_TLS

PASSWORD = canaries.PASSWORD
_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
_numbers = itertools.count(1)

EVENT = {
    "title": "Chess night",
    "description": "Bring a board and a friend.",
    "startDate": "2027-03-01T18:00:00Z",
    "endDate": "2027-03-01T21:00:00Z",
}


@dataclass
class Member:
    """Somebody in one organization. `http` sends their `token` with each request; for it they log in once."""

    id: UUID
    email: str
    role: str
    organization_id: UUID
    board: "Board" = field(repr=False)

    def with_token(self, token: str) -> "Member":
        """The same person, who has logged in otherwise."""
        other = replace(self)
        other.token = token
        return other

    @cached_property
    def token(self) -> str:
        login = {"email": self.email, "password": PASSWORD, "organizationId": str(self.organization_id)}
        answer = self.board.anonymous.post("/auth/login", json=login)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["accessToken"])

    @cached_property
    def http(self) -> httpx.Client:
        return self.board.client(self.token)

    def create(self, **fields: Any) -> dict[str, Any]:
        """A new event, in DRAFT."""
        answer = self.http.post("/events", json={**EVENT, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def command(self, event: dict[str, Any], name: str, **body: Any) -> httpx.Response:
        return self.http.post(f"/events/{event['id']}/{name}", json=body)


@dataclass
class Organization:
    """`admin`, `moderator`, `user` and `other` (a second USER) are its members."""

    id: UUID
    name: str
    admin: Member
    moderator: Member
    user: Member
    other: Member

    def event_in(self, status: str, *, author: Member | None = None) -> dict[str, Any]:
        """An event that went its whole way to `status` through the API."""
        author = author or self.user
        event = author.create()
        ways: dict[str, list[tuple[Member, str, dict[str, str]]]] = {
            "DRAFT": [],
            "SUBMITTED": [(author, "submit", {})],
            "APPROVED": [(author, "submit", {}), (self.admin, "approve", {})],
            "REJECTED": [(author, "submit", {}), (self.admin, "reject", {"reason": "Please name a room."})],
            "CANCELLED": [(author, "submit", {}), (self.admin, "approve", {}), (self.admin, "cancel", {})],
        }
        for member, command, body in ways[status]:
            answer = member.command(event, command, **body)
            assert answer.status_code == 200, answer.text
            event = answer.json()
        return event


@dataclass
class Board:
    """`url` is where the public API listens; `database_url` is the superuser's way around it."""

    url: str
    database_url: str
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        hooks = {"response": [canaries.remember_answer]}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=NO_TLS, event_hooks=hooks)
        self._clients.append(client)
        return client

    def sql(self, statement: str, *arguments: Any) -> list[Any]:
        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return list(await connection.fetch(statement, *arguments))
            finally:
                await connection.close()

        return asyncio.run(run())

    def put(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Puts events into the database, all at once, and returns their ids.

        Each has an `author` (a Member), a `status`, and whichever columns it likes. Its history says no more than that
        it is as it is.
        """
        rows = [_row(**event) for event in events]
        entries = [
            {
                "organization_id": row["organization_id"],
                "event_id": row["id"],
                "version": 1,
                "action": "create",
                "status": row["status"],
                "author_id": row["created_by_id"],
                "actor_id": row["created_by_id"],
                "actor_name": row["created_by_name"],
                "correlation_id": "put",
            }
            for row in rows
        ]

        async def run() -> None:
            connection = await asyncpg.connect(self.database_url)
            try:
                for table, records in (("events", rows), ("history", entries)):
                    await connection.copy_records_to_table(
                        table,
                        schema_name="events",
                        columns=list(records[0]),
                        records=[tuple(record.values()) for record in records],
                    )
            finally:
                await connection.close()

        asyncio.run(run())
        return [str(row["id"]) for row in rows]

    @cached_property
    def anonymous(self) -> httpx.Client:
        return self.client()

    def organization(self, *, open_signup: bool = False, log_in: bool = True) -> Organization:
        """A new organization with four members, put into the database at once.

        They have logged in, which is most of the work, or do so with their first request.
        """
        name, id_ = f"Organization {uuid4().hex}", uuid4()
        founding = (
            "founded AS (INSERT INTO auth.organizations (id, name, name_key, slug, open_signup)"
            " VALUES ($6, $7, $8, $9, $10)), "
        )
        values = (name, name_key(name), f"organization-{id_.hex}", open_signup)
        members = self._put_members(id_, ["ADMIN", "MODERATOR", "USER", "USER"], founding, *values)
        if log_in:
            _log_in(members)
        return Organization(id_, name, *members)

    def member(self, organization_id: UUID, role: str) -> Member:
        return self.members(organization_id, [role])[0]

    def members(self, organization_id: UUID, roles: Sequence[str]) -> list[Member]:
        members = self._put_members(organization_id, roles)
        _log_in(members)
        return members

    def _put_members(self, organization_id: UUID, roles: Sequence[str], before: str = "", *values: Any) -> list[Member]:
        """`before` is a part of the statement that comes before, with its values."""
        people = [(uuid4(), f"{role.lower()}-{uuid4().hex}@example.com", role) for role in roles]
        self.sql(
            f"WITH {before}person AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])"
            " AS person (id, email, role, last_name)), added AS ("
            "INSERT INTO auth.users (id, email, password_hash, first_name, last_name, last_organization_id)"
            " SELECT id, email, $5, initcap(role), last_name, $6 FROM person)"
            " INSERT INTO auth.memberships (organization_id, user_id, role) SELECT $6, id, role FROM person",
            *([person[column] for person in people] for column in range(3)),
            [f"Number {next(_numbers)}" for _ in people],
            _HASH,
            organization_id,
            *values,
        )
        return [Member(*person, organization_id, self) for person in people]

    def close(self) -> None:
        for client in self._clients:
            client.close()


def _log_in(members: Sequence[Member]) -> None:
    for member in members:
        _ = member.http


def _row(*, author: Member, status: str, **columns: Any) -> dict[str, Any]:
    starts = datetime.fromisoformat(EVENT["startDate"])
    return {
        "organization_id": author.organization_id,
        "id": uuid4(),
        "title": EVENT["title"],
        "description": EVENT["description"],
        "location": None,
        "start_date": starts,
        "end_date": columns.get("start_date", starts) + timedelta(hours=3),
        "time_zone": "UTC",
        "status": status,
        "rejection_reason": "Please name a room." if status == "REJECTED" else None,
        "created_by_id": author.id,
        "created_by_name": author.role.title(),
        "created_at": datetime.now(UTC),
        "version": 1,
        **columns,
    }
