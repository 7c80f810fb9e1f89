"""What somebody with bad intent sends, and what comes of it: nothing."""

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import raw
from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.problems import assert_problem
from tests.support.processes import Process, logged_so_far
from tests.support.shapes import CREDENTIAL, Deployment

# How a line of the log begins that was written by the program.
LOG_LINE = re.compile(r"(\x1b\[\d+m)*\d\d:\d\d:\d\d\.\d\d\d|\{")

# Line breaks and terminal commands, as they get into a path or a header.
BREAKS = ("%0A", "%0D%0A", "%0b", "%0c", "%1b[2J", "%C2%85", "%E2%80%A8", "%20")


@pytest.mark.parametrize("where", ["path", "x-correlation-id", "traceparent", "idempotency-key", "if-match"])
def test_log_injection(board: Board, server: tuple[Process, str], organization: Organization, where: str) -> None:
    """Nobody writes a line of the log, or a command to the terminal that shows it."""
    token, marks = organization.user.token, []
    for number, break_ in enumerate((*BREAKS, *(raw_break(break_) for break_ in BREAKS))):
        mark = f"forged{uuid4().hex}"
        marks.append(mark)
        evil = f"{number}{break_}{mark}"
        target = f"/events/{evil}" if where == "path" else f"/events/{uuid4()}"
        headers = () if where == "path" else (f"{where}: {evil}",)
        if where == "path" and not evil.isascii():
            raw.request(board.url, "GET", target.encode("latin-1"), token=token)
        elif not set(evil) & set("\r\n\x00"):
            raw.request(board.url, "GET", target, token=token, headers=headers)
    for line in logged_so_far(server[0]).splitlines():
        if any(mark in line for mark in marks):
            assert LOG_LINE.match(line), line
            assert "\x1b[2J" not in line


def raw_break(escaped: str) -> str:
    """The same bytes, unescaped; each is a character of Latin-1."""
    return re.sub("%(..)", lambda match: chr(int(match[1], 16)), escaped)


# What a caller may not choose, with a value that would be to their advantage.
NOT_THEIRS: dict[str, Any] = {
    "role": "ADMIN",
    "organizationId": str(uuid4()),
    "organization_id": str(uuid4()),
    "status": "APPROVED",
    "id": str(uuid4()),
    "version": 7,
    "createdById": str(uuid4()),
    "createdByName": "Somebody Else",
    "createdAt": "2020-01-01T00:00:00Z",
    "updatedAt": "2020-01-01T00:00:00Z",
    "rejectionReason": "None.",
    "active": True,
    "actor": "token",
    "userId": str(uuid4()),
    "sessionId": str(uuid4()),
    "idempotencyKey": "mine",
    "ifMatch": {"versions": [1], "any": True},
    "passwordHash": "x",
    "openSignup": True,
    "slug": "mine",
    "__class__": "x",
    "__proto__": {"role": "ADMIN"},
}
PERSON = {"email": "nia@example.com", "password": PASSWORD, "firstName": "Nia", "lastName": "New"}
# Every body, right as it is; `{event}`, `{member}` are ids.
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/events", EVENT),
    ("PATCH", "/events/{event}", {"title": "Another title"}),
    *(("POST", f"/events/{{event}}/{command}", {}) for command in ("submit", "approve", "withdraw")),
    ("POST", "/events/{event}/reject", {"reason": "Please name a room."}),
    ("POST", "/events/{event}/cancel", {}),
    ("POST", "/auth/signup", {**PERSON, "organizationName": "Mass assignment"}),
    ("POST", "/auth/login", {"email": "nia@example.com", "password": PASSWORD}),
    ("POST", "/auth/refresh", {"refreshToken": "x"}),
    ("POST", "/auth/logout", {"refreshToken": "x"}),
    ("POST", "/auth/switch", {"organizationId": str(uuid4())}),
    ("POST", "/auth/join", {"organizationName": "Mass assignment"}),
    ("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": "quite another one"}),
    ("PATCH", "/members/{member}", {}),
    ("POST", "/invitations", {"email": "nia@example.com", "role": "USER"}),
    ("PATCH", "/organization", {}),
]
# Fields that a body has by right.
ITS_OWN = {
    "/auth/login": {"organizationId"},
    "/auth/signup": {"organizationId"},
    "/auth/join": {"organizationId"},
    "/auth/switch": {"organizationId"},
    "/members/{member}": {"role", "active"},
    "/invitations": {"role"},
    "/organization": {"openSignup"},
}


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=[f"{method} {path}" for method, path, _ in BODIES])
def test_mass_assignment(
    board: Board, shared_organization: Organization, method: str, path: str, body: dict[str, Any]
) -> None:
    """No field that isn't the body's own is taken, not even beside right ones: it is named, and nothing is done."""
    admin = shared_organization.admin
    event = shared_organization.user.create()
    to = path.format(event=event["id"], member=shared_organization.user.id)
    for name, value in NOT_THEIRS.items():
        if name not in ITS_OWN.get(path, set()):
            assert_problem(admin.http.request(method, to, json={**body, name: value}), "invalid-request", f"/{name}")
    assert admin.http.get(f"/events/{event['id']}").json() == event
    assert board.sql("SELECT FROM auth.users WHERE email = 'nia@example.com'") == []


TEXTS = {
    "SQL": "x'); DROP TABLE events.events; --",
    "SQL with quotes": "\\'; SELECT pg_sleep(10) --",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;",
    "templates": "{{7*7}} ${7*7} <%= 7*7 %> #{7*7} {% raw %}",
    "formats": "{0} {0.__class__} %s %(x)s %n $1 :search",
    "paths": "../../../../etc/passwd file:///etc/passwd",
    "addresses": "http://169.254.169.254/ //evil.example",
    "JSON": '"},{"role":"ADMIN","x":"',
    "formulas": "=HYPERLINK(0) @SUM(1) +1 -1 |calc",
    "shell": "$(reboot) `reboot` ; reboot | reboot && reboot",
    "loguru": "<red>red</red> {message} {level} \\<",
    "LDAP": "*)(uid=*))(|(uid=*",
    "right to left": "abc \u202e\u2066 def \u200b ghi",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_in_every_field(board: Board, text: str) -> None:
    """It comes back as it was, from wherever it was put, and does nothing."""
    email = f"{uuid4().hex}@example.com"
    name = f"{text} {uuid4().hex}"
    signed_up = board.client().post(
        "/auth/signup",
        json={"email": email, "password": text * 2, "firstName": text, "lastName": text, "organizationName": name},
    )
    assert signed_up.status_code == 201, signed_up.text
    answer = board.client().post("/auth/login", json={"email": email, "password": text * 2})
    http = board.client(answer.json()["accessToken"])
    me = http.get("/auth/me").json()
    assert (me["firstName"], me["lastName"], me["organization"]["name"]) == (text, text, name)
    assert re.fullmatch(r"[a-z0-9-]+", me["organization"]["slug"])
    assert http.patch("/organization", json={"name": f"{name} again"}).json()["name"] == f"{name} again"
    assert [member["firstName"] for member in http.get("/members").json()["data"]] == [text]

    fields = {"title": text, "description": f"{text}\n{text}", "location": text}
    event = http.post("/events", json={**EVENT, **fields}).json()
    path = f"/events/{event['id']}"
    for stored in (event, http.get(path).json(), *http.get("/events", params={"search": text}).json()["data"]):
        assert {field: stored[field] for field in fields} == fields
        assert stored["createdByName"] == f"{text} {text}"
    assert http.get("/events", params={"search": text}).json()["meta"]["total"] == 1
    assert http.post(f"{path}/submit").status_code == 200
    assert http.post(f"{path}/reject", json={"reason": f"{text} {text}"}).json()["rejectionReason"] == f"{text} {text}"
    entries = http.get(f"{path}/history").json()["data"]
    assert entries[-1]["reason"] == f"{text} {text}"
    assert entries[-1]["actorName"] == f"{text} {text}"
    if text.isascii():
        key = text.replace(" ", "_")
        written = http.post("/events", json=EVENT, headers={"idempotency-key": key})
        assert written.status_code == 201, written.text
        report = http.get(
            f"/idempotency-keys/{httpx.URL('', params={'k': key}).query.decode()[2:].replace('+', '%20')}"
        )
        assert report.json()["key"] == key
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    problem = http.get("/events", params={"search": "a", text[:40]: "b"})
    assert_problem(problem, "invalid-request")


@pytest.mark.parametrize("credential", [None, CREDENTIAL, "wrong"])
def test_internal_calls_from_outside(shared_organization: Organization, credential: str | None) -> None:
    """What faces the public serves none, whoever asks, with whichever credential: nothing is at that path."""
    headers = {"content-type": "application/msgpack", "x-contract": "0", "x-budget-ms": "1000"}
    if credential:
        headers["authorization"] = f"Bearer {credential}"
    for path in ("/rpc/auth.validateUser", "/rpc/auth.keys", "/rpc/events.findAll", "/rpc/", "/rpc", "//rpc/auth.keys"):
        for method in ("POST", "GET"):
            assert_problem(
                shared_organization.user.http.request(method, path, content=b"\x80", headers=headers), "not-found"
            )


def test_forged_internal_headers(shared_organization: Organization) -> None:
    """Who calls is in the token, how long it may take is the gateway's, and no header changes that."""
    member, victim = shared_organization.user, shared_organization.admin
    event = member.create()
    forged = {
        "x-budget-ms": "1",
        "x-contract": "0" * 64,
        "x-actor": victim.token,
        "x-user-id": str(victim.id),
        "x-organization-id": str(uuid4()),
        "x-role": "ADMIN",
        "x-forwarded-user": victim.email,
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "evil.example",
        "forwarded": "for=127.0.0.1;host=evil.example",
        "x-original-url": "/members",
        "x-rewrite-url": "/members",
        "x-http-method-override": "DELETE",
        "host": "evil.example",
    }
    for name, value in [*forged.items(), ("x-budget-ms", "0"), ("x-budget-ms", "-1"), ("x-budget-ms", "9" * 400)]:
        headers = {name: value}
        assert member.http.get("/auth/me", headers=headers).json()["id"] == str(member.id), name
        answer = member.http.get(f"/events/{event['id']}", headers=headers)
        assert (answer.status_code, answer.json()) == (200, event), name
        assert_problem(member.http.get("/members", headers=headers), "forbidden")
        created = member.http.post("/events", json=EVENT, headers=headers)
        assert created.status_code == 201, name
        assert "evil" not in f"{created.headers} {created.text}"
        assert created.json()["createdById"] == str(member.id)


@pytest.mark.parametrize(
    "credential", [None, "", "Bearer", "Bearer wrong", f"Bearer {CREDENTIAL}.", f"Basic {CREDENTIAL}"]
)
def test_internal_ports(deployment: Deployment, shared_organization: Organization, credential: str | None) -> None:
    """Whoever reaches one without the service credential, or with a user's token, is answered 401 for everything."""
    inside = [process for process in deployment.processes.values() if process is not deployment.public]
    tokens = [credential, f"Bearer {shared_organization.admin.token}"]
    for process in inside:
        for path in ("auth.validateUser", "auth.login", "auth.keys", "events.findAll", "events.delete", "no.such", ""):
            for token in tokens:
                headers = {"authorization": token} if token is not None else {}
                answer = httpx.post(f"{process.url}/rpc/{path}", content=b"\x80", headers=headers)
                assert answer.status_code == 401, (path, token)
        for path in ("/events", "/auth/me", "/members", "/auth/login"):
            answer = httpx.get(
                f"{process.url}{path}", headers={"authorization": f"Bearer {shared_organization.admin.token}"}
            )
            assert answer.status_code == 404, path
