"""A part is there, and doesn't answer: 504 when the budget is spent, and no work for a caller who has gone."""

from collections.abc import Callable

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.load import Call, at_once, gateway_seconds, quickest, timed
from tests.support.problems import assert_problem
from tests.support.services import Services
from tests.support.sessions import assert_whole, busy, locked, waiting
from tests.support.stopwatch import Stopwatch

# Seconds: each call's here, how far from it an answer may be, and how long after it the database may still work.
BUDGET, ACCURACY, AFTERMATH = 2.0, 0.1, 0.25


def read(member: Member, event: str) -> httpx.Response:
    return member.http.get(f"/events/{event}")


def find(member: Member, _: str) -> httpx.Response:
    return member.http.get("/events")


def create(member: Member, _: str) -> httpx.Response:
    return member.http.post("/events", json={**EVENT, "title": "Too late"})


def submit(member: Member, event: str) -> httpx.Response:
    return member.http.post(f"/events/{event}/submit", json={})


def log_in(member: Member, _: str) -> httpx.Response:
    return member.http.post("/auth/login", json={"email": member.email, "password": PASSWORD})


def bind(call: Callable[[Member, str], httpx.Response], member: Member, event: str) -> Call:
    return lambda: call(member, event)


def assert_too_late(answer: httpx.Response, seconds: float, own: float) -> None:
    problem = assert_problem(answer, "deadline-exceeded")
    assert problem["retryable"] is (answer.request.method == "GET")
    assert seconds >= BUDGET - ACCURACY
    assert own <= BUDGET + ACCURACY


def test_network_swallows_all(three: Services, organization: Organization) -> None:
    """Connections are accepted, and that is all."""
    event = organization.user.create()["id"]
    three.to_events.stall()
    three.to_auth.stall()
    calls = [bind(call, organization.user, event) for call in (read, find, create, submit, log_in)]
    for call in at_once(calls):
        assert_too_late(call.answer, call.seconds, call.own)
    three.mend()
    assert read(organization.user, event).status_code == 200


@pytest.mark.parametrize("call", [read, find, create, submit])
def test_statement_hangs(
    board: Board, organization: Organization, call: Callable[[Member, str], httpx.Response]
) -> None:
    """Events accepts the call and its statement waits for a lock: the statement ends with the budget."""
    event = organization.user.create()["id"]
    with locked(board.database_url):
        begun = Stopwatch()
        hung = timed(bind(call, organization.user, event))
        while busy(board):
            assert begun.seconds < BUDGET + AFTERMATH
    assert_too_late(hung.answer, hung.seconds, hung.own)
    assert board.sql("SELECT status, version FROM events.events WHERE organization_id = $1", organization.id) == [
        ("DRAFT", 1)
    ]
    again = quickest(bind(read, organization.user, event), ACCURACY)
    assert again.status == 200
    assert again.own < ACCURACY


def test_more_hang_than_the_pool_holds(board: Board, organization: Organization) -> None:
    """Who waits for a connection is answered as punctually as who waits for a lock, and leaves as little behind."""
    event = organization.user.create()["id"]
    with locked(board.database_url):
        hung = at_once([bind(call, organization.user, event) for call in (read, create) for _ in range(25)])
    for call in hung:
        # By the gateway's clock: fifty clients in one process hear of it one after the other.
        seconds = gateway_seconds(call.answer)
        assert_too_late(call.answer, seconds, seconds)
    assert_whole(board)
    assert {call.status for call in at_once([bind(read, organization.user, event)] * 40)} == {200}


def test_caller_hangs_up(board: Board, organization: Organization) -> None:
    """The budget holds for a call that nobody waits for, too."""
    with locked(board.database_url):
        with pytest.raises(httpx.ReadTimeout):
            organization.user.http.get("/events", timeout=0.5)
        hung_up = Stopwatch()
        while waiting(board) != 1:
            assert hung_up.seconds < BUDGET
        while busy(board):
            assert hung_up.seconds < BUDGET + AFTERMATH
