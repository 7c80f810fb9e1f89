"""One key and one body from many clients at once."""

from collections import Counter
from uuid import uuid4

from tests.support.board import EVENT, Board, Organization
from tests.support.crowd import Call, crowd
from tests.support.writes import happened

CLIENTS = 50


def race(board: Board, organization: Organization, rounds: int) -> Counter[str]:
    """Each round makes one event with one entry in its history. What the answers were: executed, replayed, or 409."""
    told: Counter[str] = Counter()
    with crowd(board.url, CLIENTS) as clients:
        for number in range(1, rounds + 1):
            headers = {"idempotency-key": uuid4().hex}
            replies = clients.at_once([Call(organization.user, "POST", "/events", EVENT, headers)] * CLIENTS)
            answers = Counter(
                reply.headers["idempotency-status"] if reply.status == 201 else reply.body["code"] for reply in replies
            )
            assert answers.keys() <= {"executed", "replayed", "request-in-progress"}, answers
            assert answers["executed"] == 1
            assert len({reply.body["id"] for reply in replies if reply.status == 201}) == 1
            assert happened(board, organization) == (number, number)
            told += answers
    return told
