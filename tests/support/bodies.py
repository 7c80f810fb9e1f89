"""Every operation that reads a body, and how a test sends one."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.board import EVENT, Member

SIGNUP = {
    "email": "new@example.com",
    "password": "correct horse battery",
    "firstName": "Nia",
    "lastName": "New",
    "organizationName": "New Ideas",
}

REASON = {"reason": "Please name a room."}

# Bodies are judged before the event is looked for: none has to be there.
ID = "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"

NOWHERE = f"/events/{ID}"

# Every operation that reads a body, with one that is right; None where an empty one is.
BODIES: dict[tuple[str, str], dict[str, Any] | None] = {
    ("POST", "/auth/signup"): SIGNUP,
    ("POST", "/auth/login"): {"email": "nobody@example.com", "password": "correct horse battery"},
    ("POST", "/events"): EVENT,
    ("PATCH", NOWHERE): {"title": "Another title"},
    ("POST", f"{NOWHERE}/reject"): REASON,
    ("POST", f"{NOWHERE}/submit"): None,
    ("POST", f"{NOWHERE}/approve"): None,
    ("POST", f"{NOWHERE}/withdraw"): None,
    ("POST", f"{NOWHERE}/cancel"): None,
}

each_body = pytest.mark.parametrize(
    ("method", "path"), BODIES, ids=[f"{method} {path.replace(NOWHERE, 'event')}" for method, path in BODIES]
)


def post(member: Member, method: str, path: str, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    given = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return member.http.request(method, path, content=body, headers=given)
