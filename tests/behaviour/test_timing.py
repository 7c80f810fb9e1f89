"""Server-Timing: where the time of an answer went."""

import re

import httpx
import pytest

from tests.support.board import EVENT, Board, Organization
from tests.support.shapes import ALL

FORM = re.compile(r"[a-z]+;dur=\d+\.\d(, [a-z]+;dur=\d+\.\d)*")


def timings(answer: httpx.Response) -> dict[str, float]:
    """In milliseconds, by name; each name is there once."""
    told = answer.headers["server-timing"]
    assert FORM.fullmatch(told)
    pairs = [part.split(";dur=") for part in told.split(", ")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name: float(milliseconds) for name, milliseconds in pairs}


# What may take less than can be told: 0.05 ms.
QUICK = {"jwt", "serialize"}


def hop(shape: str, module: str) -> set[str]:
    """A call of another process is told; a module that shares the gateway's is called without one."""
    beside = shape == ALL or any({"gateway", module} <= set(target.split(",")) for target in shape.split("+"))
    return set() if beside else {"call"}


def test_read(organization: Organization, shape: str) -> None:
    """What the service did is in it, wherever the service is; no part is longer than the whole."""
    event = organization.user.create()
    told = timings(organization.user.http.get(f"/events/{event['id']}"))
    assert told.keys() - QUICK == {"gateway", "events", "db"} | hop(shape, "events")
    assert max(told.values()) == told["gateway"]
    assert told["db"] <= told["events"] <= told.get("call", told["gateway"])


def test_write_with_a_key(organization: Organization, shape: str) -> None:
    """Looking for the key, and keeping its outcome, are told."""
    answer = organization.user.http.post("/events", json=EVENT, headers={"Idempotency-Key": "timed"})
    assert timings(answer).keys() - QUICK == {"gateway", "events", "db", "idempotency"} | hop(shape, "events")


def test_log_in(organization: Organization, board: Board, shape: str) -> None:
    """The password's hash is told."""
    body = {"email": organization.user.email, "password": "correct horse battery"}
    answer = board.client().post("/auth/login", json=body)
    assert answer.status_code == 200
    assert timings(answer).keys() - QUICK == {"gateway", "auth", "db", "hash"} | hop(shape, "auth")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/events", 401),
        ("POST", "/auth/login", 415),
        ("GET", "/nowhere", 404),
        ("GET", "/health/live", 200),
        ("GET", "/", 307),
    ],
)
def test_every_answer(board: Board, method: str, path: str, status: int) -> None:
    """The whole is told with each of them."""
    answer = board.client().request(method, path)
    assert answer.status_code == status
    assert timings(answer)["gateway"] >= 0


def test_refusal(organization: Organization, board: Board) -> None:
    """It tells the whole alone: its parts would say how far somebody came who may not."""
    event = organization.user.create()
    for answer in (
        organization.other.http.get(f"/events/{event['id']}"),
        board.client().post("/auth/login", json={"email": organization.user.email, "password": "wrong horse"}),
    ):
        assert answer.status_code in (401, 404)
        assert timings(answer).keys() == {"gateway"}
