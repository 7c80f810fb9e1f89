"""A second request while the first one with its key still runs, wherever either of them is."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import pytest

from tests.faults.conftest import SMALL
from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Organization
from tests.support.load import TRIES, at_once, timed
from tests.support.problems import assert_problem
from tests.support.processes import PATIENCE
from tests.support.services import Services, services
from tests.support.sessions import locked, waiting
from tests.support.shapes import deployed
from tests.support.writes import WRITES, happened, statuses

# Seconds: the budget of a write, and when before its end a second request gives up.
BUDGET, GIVES_UP = 5.0, 0.5
# How far a moment may be off on two cores that others use, too.
SLACK = 0.15


@pytest.fixture(scope="module")
def patient(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    settings = {**SMALL, "BUDGETS_WRITE": str(BUDGET)}
    with (
        clusters.database(cluster_url) as url,
        services(url, tmp_path_factory.mktemp("services"), **settings) as three,
    ):
        yield three


@pytest.fixture
def three(patient: Services) -> Iterator[Services]:
    yield patient
    patient.mend()


def until_stuck(board: Board) -> None:
    """The first request is in the middle of its work: it waits to write its history."""
    end = time.monotonic() + PATIENCE
    while waiting(board) != 1:
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks at another process


@pytest.fixture(params=["all+all", "gateway+auth+events+events"])
def replicas(
    request: pytest.FixtureRequest, cluster_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Board]]:
    """What clients reach: both of two whole processes, or the one gateway of two events."""
    few = {"DATABASE_POOL_SIZE": "2", "BUDGETS_WRITE": str(BUDGET)}
    with (
        clusters.database(cluster_url) as url,
        deployed(request.param, url, tmp_path_factory.mktemp("replicas"), **few) as found,
    ):
        faces = [process for target, process in found.processes.items() if not target.startswith(("auth", "events"))]
        boards = [Board(process.url, url) for process in faces]
        yield boards
        for board in boards:
            board.close()


def test_second_requests(replicas: list[Board]) -> None:
    """They give up half a second before their budget ends, wherever they are, and hold no connection meanwhile."""
    board = replicas[0]
    user = board.organization().user
    others = [face.client(user.token) for face in replicas]
    create = WRITES["create"]
    for done in range(1, TRIES + 1):
        key = uuid4().hex
        with ThreadPoolExecutor() as threads, locked(board.database_url, "events.history"):
            begun = time.monotonic()
            first = threads.submit(create.send, user.http, key=key)
            until_stuck(board)
            calls = [partial(create.send, http, key=key) for http in others * 3]
            seconds = threads.submit(at_once, calls)
            # Else the first one's budget is spent before the others give up, and one of them takes its place.
            in_time = time.monotonic() - begun < GIVES_UP / 2
            if in_time:
                # With two connections for each pool, one of them with the first request, whoever waits needs none.
                for http in others * 10:
                    read = timed(partial(http.get, "/events"))
                    assert read.status == 200
                    assert read.own < GIVES_UP
                assert others[0].get(f"/idempotency-keys/{key}").json()["state"] == "running"
                assert not seconds.done()
                for second in seconds.result():
                    assert_problem(second.answer, "request-in-progress")
                    assert second.answer.headers["retry-after"] == "1"
                    assert "idempotency-status" not in second.answer.headers
                    assert second.seconds >= BUDGET - GIVES_UP - 0.01
                    assert second.own <= BUDGET - GIVES_UP + SLACK
        assert first.result().status_code in (201, 504)
        last = [create.send(http, key=key) for http in others]
        assert [answer.status_code for answer in last] == [201] * len(others)
        assert len({answer.content for answer in last}) == 1
        assert board.sql("SELECT count(*) FROM events.history")[0][0] == done
        if in_time:
            return
    pytest.fail("this machine is too busy: no request was in the middle of its work in time")


def cut_off(three: Services, board: Board) -> None:
    """Loses the way to events while a write stands still there; returns when the gateway has sent it again."""
    until_stuck(board)
    three.to_events.refuse()
    accepted = len(three.to_events.accepted)
    three.to_events.mend()
    while len(three.to_events.accepted) == accepted:
        time.sleep(0.01)  # between two looks at another process


def test_gateway_sends_again_what_still_runs(three: Services, board: Board, organization: Organization) -> None:
    """The client sent no key, and isn't told of one: it is answered when the first attempt is done."""
    with ThreadPoolExecutor() as threads:
        with locked(three.database_url, "events.history"):
            write = threads.submit(organization.user.http.post, "/events", json=EVENT)
            cut_off(three, board)
        assert statuses(write.result()) == [(201, None)]
    assert happened(board, organization) == (1, 1)


def test_gateway_sends_again_what_does_not_end(three: Services, board: Board, organization: Organization) -> None:
    """504: a 409 would tell a client that sent no key that nothing happened, and that isn't known yet."""
    with ThreadPoolExecutor() as threads, locked(three.database_url, "events.history"):
        write = threads.submit(timed, lambda: organization.user.http.post("/events", json=EVENT))
        cut_off(three, board)
        told = write.result()
    assert not assert_problem(told.answer, "deadline-exceeded")["retryable"]
    assert told.seconds >= BUDGET - 0.1
    assert told.own <= BUDGET + SLACK
    assert happened(board, organization) == (0, 0)
