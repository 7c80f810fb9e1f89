"""Demo data: `eventboard demo`."""

import asyncio
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from argon2 import PasswordHasher

from eventboard.dev import demo
from eventboard.settings import load
from tests.support.commands import ask, ran, refused
from tests.support.openapi import examples, operations
from tests.support.processes import serving

USER = {"email": "user@acme.com", "password": "Password123!"}
# Whom the documents name; USER comes last.
ACCOUNTS = {
    "admin@acme.com": "ADMIN",
    "moderator@acme.com": "MODERATOR",
    "admin@techinnovators.com": "ADMIN",
    "moderator@techinnovators.com": "MODERATOR",
    "user@techinnovators.com": "USER",
    "user@acme.com": "USER",
}

ALL_ROWS = (
    "SELECT * FROM auth.organizations ORDER BY id",
    "SELECT * FROM auth.users ORDER BY id",
    "SELECT * FROM auth.memberships ORDER BY organization_id, user_id",
    "SELECT * FROM events.events ORDER BY id",
    "SELECT * FROM events.history ORDER BY event_id, version",
)


def rows(url: str) -> list[list[tuple[Any, ...]]]:
    return [ask(url, statement) for statement in ALL_ROWS]


def test_again(database_url: str) -> None:
    """The same accounts and events as before, not one row changed."""
    assert ran("demo", DATABASE_URL=database_url) == (0, "added 2 organizations, 6 accounts, 3 events\n")
    first = rows(database_url)
    assert [len(found) for found in first] == [2, 6, 6, 3, 6]
    assert ran("demo", DATABASE_URL=database_url) == (0, "the demo data is there already\n")
    assert rows(database_url) == first
    assert_consistent(database_url)


# As a developer leaves it behind: by Swagger UI, by psql.
CHANGES = (
    "UPDATE auth.organizations SET name = 'Ajax', name_key = 'ajax', open_signup = false WHERE slug = 'acme-corp'",
    "UPDATE auth.users SET password_hash = 'x', first_name = 'Nobody' WHERE email = 'user@acme.com'",
    "UPDATE auth.memberships SET active = false WHERE role = 'ADMIN'",
    "UPDATE auth.memberships SET role = 'USER' WHERE role = 'MODERATOR'",
    "DELETE FROM auth.memberships m USING auth.users u WHERE u.id = m.user_id AND u.email LIKE 'user@tech%'",
)


def test_restored(database_url: str) -> None:
    """Whatever was changed of an account is as at first again, and said; events that were deleted stay so."""
    assert ran("demo", DATABASE_URL=database_url)[0] == 0
    first = rows(database_url)
    for change in CHANGES:
        ask(database_url, change)
    ask(database_url, "DELETE FROM events.events WHERE title = 'Summer party'")
    code, output = ran("demo", DATABASE_URL=database_url)
    assert (code, output[:9]) == (0, "restored ")
    assert {name.strip() for name in output.removeprefix("restored ").split(",")} == {"acme-corp", *ACCOUNTS}
    now = rows(database_url)
    assert [len(found) for found in now] == [2, 6, 6, 2, 6]
    without_times = [[[v for v in row if not isinstance(v, datetime)] for row in found] for found in (first[0], now[0])]
    assert without_times[0] == without_times[1]
    names = (
        "SELECT email, first_name, last_name, role, active FROM auth.users u JOIN auth.memberships m ON u.id = user_id"
    )
    assert sorted(ask(database_url, names)) == [
        (email, first_name, last_name, role, True) for email, first_name, last_name, role, _ in sorted(demo.ACCOUNTS)
    ]
    [(password_hash,)] = ask(database_url, "SELECT password_hash FROM auth.users WHERE email = 'user@acme.com'")
    assert PasswordHasher().verify(password_hash, USER["password"])


def test_name_that_another_organization_has(database_url: str) -> None:
    """One line says what is in the way."""
    ask(
        database_url,
        "INSERT INTO auth.organizations (id, name, name_key, slug)"
        " VALUES (gen_random_uuid(), 'Acme Corporation', 'acmecorporation', 'another')",
    )
    assert "(name_key)=(acmecorporation) already exists" in refused("demo", DATABASE_URL=database_url)


def test_data_of_an_earlier_version(database_url: str) -> None:
    """Accounts that it lacks are added, also where somebody has signed up with such an address."""
    assert ran("demo", DATABASE_URL=database_url)[0] == 0
    later = "SELECT id FROM auth.users WHERE email IN ('admin@techinnovators.com', 'moderator@techinnovators.com')"
    ask(database_url, f"DELETE FROM auth.memberships WHERE user_id IN ({later})")
    ask(database_url, "DELETE FROM auth.users WHERE email = 'admin@techinnovators.com'")
    ask(database_url, "UPDATE auth.users SET id = gen_random_uuid() WHERE email = 'moderator@techinnovators.com'")
    settings = load({"EVENTBOARD_DATABASE_URL": database_url})
    assert asyncio.run(demo.add_missing_demo_data(settings)) == (True, [])
    assert len(ask(database_url, "SELECT FROM auth.memberships")) == 6


def test_examples_of_the_document(database_url: str, tmp_path: Path) -> None:
    """Whatever is executed in Swagger UI as it stands there, every account can log in afterwards, in its role."""
    assert ran("demo", DATABASE_URL=database_url)[0] == 0
    with serving(database_url, tmp_path) as process, httpx.Client(base_url=process.url) as client:
        document = client.get("/schema/openapi.json").json()
        changing = [each for each in operations(document) if each[0] != "GET"]
        for email in ("admin@acme.com", "user@acme.com"):
            for method, path, operation in changing:
                body: Any = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {})
                headers = {"authorization": f"Bearer {log_in(client, email)['accessToken']}"}
                address = re.sub(r"\{.*?\}", str(uuid4()), path)
                answer = client.request(method, address, json=next(iter(examples(body)), None), headers=headers)
                assert answer.status_code < 500, answer.text
        assert {email: log_in(client, email)["user"]["role"] for email in ACCOUNTS} == ACCOUNTS


def log_in(client: httpx.Client, email: str) -> Any:
    answer = client.post("/auth/login", json={**USER, "email": email})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_events(database_url: str) -> None:
    """So many more, in every state, each with the history that led there."""
    code, output = ran("demo", "--events", "2000", DATABASE_URL=database_url)
    assert (code, output) == (0, "added 2 organizations, 6 accounts, 3 events; added 2,000 events to acme-corp\n")
    (count,) = ask(
        database_url, "SELECT count(*), count(DISTINCT status), count(DISTINCT organization_id) FROM events.events"
    )
    assert count == (2003, 5, 1)
    assert_consistent(database_url)
    assert ran("demo", "--events", "10", "--organization", "tech-innovators", DATABASE_URL=database_url)[0] == 0
    (count,) = ask(database_url, "SELECT count(*), count(DISTINCT organization_id) FROM events.events")
    assert count == (2013, 2)
    assert_consistent(database_url)


def assert_consistent(url: str) -> None:
    """Each event is what its history says."""
    wrong = ask(
        url,
        """
        SELECT e.id FROM events.events e LEFT JOIN LATERAL (
            SELECT array_agg(version ORDER BY version) AS versions, min(at) AS first, max(at) AS last,
                (array_agg(status ORDER BY version DESC))[1] AS status,
                (array_agg(reason ORDER BY version DESC))[1] AS reason,
                (array_agg(action ORDER BY version))[1] AS action,
                bool_and(author_id = e.created_by_id) AS of_author
            FROM events.history WHERE (organization_id, event_id) = (e.organization_id, e.id)
        ) h ON true
        WHERE (h.versions, h.first, h.last, h.status, h.action, h.of_author)
            IS DISTINCT FROM
            (ARRAY(SELECT generate_series(1, e.version)), e.created_at, e.updated_at, e.status, 'create', true)
            OR e.status = 'REJECTED' AND h.reason IS DISTINCT FROM e.rejection_reason
        """,
    )
    assert wrong == []
    strangers = "SELECT id FROM events.events e WHERE NOT EXISTS (SELECT FROM auth.memberships m"
    assert ask(url, f"{strangers} WHERE (m.organization_id, m.user_id) = (e.organization_id, e.created_by_id))") == []
    assert ask(url, "SELECT event_id FROM events.history WHERE at > now()") == []


@pytest.mark.parametrize("arguments", [("--events", "-1"), ("--events", "5", "--organization", "nowhere")])
def test_what_can_not_be(database_url: str, arguments: tuple[str, ...]) -> None:
    """One line, here as well."""
    refused("demo", *arguments, DATABASE_URL=database_url)
