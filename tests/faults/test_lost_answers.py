"""Events is there, and its answers don't arrive."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.load import timed
from tests.support.problems import assert_problem
from tests.support.services import Services


@pytest.mark.parametrize("after", [0, 20], ids=["at the first byte", "in the middle"])
def test_read(three: Services, organization: Organization, after: int) -> None:
    """It is asked again until there is an answer: at 0, 0.2 and 0.6 s here."""
    event = organization.user.create()
    three.to_events.cut(times=2, after=after)
    read = timed(lambda: organization.user.http.get(f"/events/{event['id']}"))
    assert read.answer.json() == event
    first, second = (at - read.begun for at in three.to_events.lost[-2:])
    assert first - read.stalled < 0.1
    assert second >= 0.18
    assert second - read.stalled < 0.3
    assert read.seconds >= 0.54
    assert read.own < 0.75


def test_read_never_answered(three: Services, organization: Organization) -> None:
    """503 when the attempts are spent; repeating a read is safe."""
    event = organization.user.create()
    three.to_events.cut(times=99)
    assert assert_problem(organization.user.http.get(f"/events/{event['id']}"), "unavailable")["retryable"]


def create(member: Member, _: dict[str, Any]) -> httpx.Response:
    return member.http.post("/events", json={**EVENT, "title": "Once and no more"})


def update(member: Member, event: dict[str, Any]) -> httpx.Response:
    return member.http.patch(f"/events/{event['id']}", json={"title": "Once and no more"})


def submit(member: Member, event: dict[str, Any]) -> httpx.Response:
    return member.command(event, "submit")


def delete(member: Member, event: dict[str, Any]) -> httpx.Response:
    return member.http.delete(f"/events/{event['id']}")


@pytest.mark.parametrize("write", [create, update, submit, delete])
def test_write_cut_after_the_commit(
    three: Services, board: Board, organization: Organization, write: Callable[[Member, dict[str, Any]], httpx.Response]
) -> None:
    """The retry gives the first answer, and the write happened once."""
    event = organization.user.create()
    before = _history(board, organization)
    three.to_events.cut()
    answer = write(organization.user, event)
    assert answer.is_success, answer.text
    assert _history(board, organization) == before + 1


def test_signup_cut_after_the_commit(three: Services, board: Board) -> None:
    """It isn't sent again, and the client is told to look first: the account may be there, and is."""
    email = f"{uuid4().hex}@example.com"
    account = {"email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "King"}
    three.to_auth.cut()
    answer = board.client().post("/auth/signup", json={**account, "organizationName": f"Cut {uuid4().hex}"})
    assert not assert_problem(answer, "unavailable")["retryable"]
    assert board.client().post("/auth/login", json={"email": email, "password": PASSWORD}).status_code == 200


def test_login_cut(three: Services, organization: Organization, board: Board) -> None:
    """It is sent again: to log in twice does no harm."""
    three.to_auth.cut()
    answer = board.client().post("/auth/login", json={"email": organization.user.email, "password": PASSWORD})
    assert answer.status_code == 200


def _history(board: Board, organization: Organization) -> int:
    """How many changes the organization's events have had."""
    found = board.sql("SELECT count(*) FROM events.history WHERE organization_id = $1", organization.id)
    return int(found[0][0])
