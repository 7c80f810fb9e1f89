"""A second request while the first one with its key still runs, wherever either of them is."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Organization
from tests.support.load import at_once, timed
from tests.support.problems import assert_problem
from tests.support.services import Services
from tests.support.sessions import locked, waiting
from tests.support.shapes import deployed
from tests.support.writes import WRITES, happened, statuses

# Seconds: the budget of a write, and when before its end a second request gives up.
BUDGET, GIVES_UP = 2.0, 0.5
# How far a moment may be off on two cores that others use, too.
SLACK = 0.15


def until_stuck(board: Board) -> None:
    """The first request is in the middle of its work: it waits to write its history."""
    end = time.monotonic() + 10
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
    board, key = replicas[0], uuid4().hex
    user = board.organization().user
    others = [face.client(user.token) for face in replicas]
    create = WRITES["create"]
    with ThreadPoolExecutor() as threads:
        with locked(board.database_url, "events.history"):
            first = threads.submit(lambda: create.send(user.http, key=key))
            until_stuck(board)
            calls = [partial(create.send, http, key=key) for http in others * 3]
            seconds = threads.submit(at_once, calls)
            # With two connections for each pool, one of them with the first request, whoever waits needs none.
            for http in others * 10:
                read = timed(partial(http.get, "/events"))
                assert read.status == 200
                assert read.seconds < GIVES_UP
            assert not seconds.done()
            for second in seconds.result():
                assert_problem(second.answer, "request-in-progress")
                assert second.answer.headers["retry-after"] == "1"
                assert "idempotency-status" not in second.answer.headers
                assert BUDGET - GIVES_UP - 0.01 <= second.seconds <= BUDGET - GIVES_UP + SLACK
            assert others[0].get(f"/idempotency-keys/{key}").json()["state"] == "running"
        assert first.result().status_code in (201, 504)
    last = [create.send(http, key=key) for http in others]
    assert [answer.status_code for answer in last] == [201] * len(others)
    assert len({answer.content for answer in last}) == 1
    assert board.sql("SELECT count(*) FROM events.history")[0][0] == 1


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
    assert BUDGET - 0.1 <= told.seconds <= BUDGET + SLACK
    assert happened(board, organization) == (0, 0)
