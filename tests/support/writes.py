"""Every write on events, as a client with an idempotency key sends it."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.board import EVENT, Board, Member, Organization

REASON = "Please name a room."


@dataclass(frozen=True)
class Write:
    """`state` is the one from which an ADMIN who is the author may do it; None needs no event."""

    method: str
    path: str
    body: dict[str, Any] | None
    state: str | None
    success: int = 200

    def path_of(self, event_id: str = "") -> str:
        return "/events" if self.state is None else f"/events/{event_id}{self.path}"

    def send(self, http: httpx.Client, event_id: str = "", *, key: str | None = None, **headers: str) -> httpx.Response:
        """`headers` are named with underscores."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["idempotency-key"] = key
        return http.request(self.method, self.path_of(event_id), json=self.body, headers=given)

    def event(self, board: Board, author: Member) -> str:
        """The id of a new event that it can be done to; none where it needs none."""
        return board.put([{"author": author, "status": self.state}])[0] if self.state else ""


WRITES = {
    "create": Write("POST", "", EVENT, None, 201),
    "update": Write("PATCH", "", {"title": "Another title"}, "DRAFT"),
    "delete": Write("DELETE", "", None, "DRAFT", 204),
    "submit": Write("POST", "/submit", None, "DRAFT"),
    "approve": Write("POST", "/approve", None, "SUBMITTED"),
    "reject": Write("POST", "/reject", {"reason": REASON}, "SUBMITTED"),
    "withdraw": Write("POST", "/withdraw", None, "SUBMITTED"),
    "cancel": Write("POST", "/cancel", {"reason": REASON}, "APPROVED"),
}

# Headers that differ between two answers by nature; see docs/api.md.
PASSING = {"date", "x-correlation-id", "idempotency-status", "ratelimit", "retry-after", "server-timing"}


def essence(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """What is the same each time an outcome is told: the body to the byte, but for a refusal's correlation id."""
    headers = {name: value for name, value in answer.headers.items() if name not in PASSING}
    if answer.is_success:
        return answer.status_code, headers, answer.content
    headers.pop("content-length", None)
    return answer.status_code, headers, {**answer.json(), "correlationId": ""}


def statuses(*answers: httpx.Response) -> list[tuple[int, str | None]]:
    """The status and the Idempotency-Status of each."""
    return [(answer.status_code, answer.headers.get("idempotency-status")) for answer in answers]


def happened(board: Board, organization: Organization) -> tuple[int, int]:
    """How many events there are, and how many entries their histories have."""
    ((events, entries),) = board.sql(
        "SELECT (SELECT count(*) FROM events.events WHERE organization_id = $1),"
        " (SELECT count(*) FROM events.history WHERE organization_id = $1)",
        organization.id,
    )
    return events, entries
