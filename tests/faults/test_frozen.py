"""Events stands still, as on a machine that swaps or is moved, and goes on."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Organization
from tests.support.load import Call, Timed, at_once, quickest, timed
from tests.support.problems import assert_problem
from tests.support.services import Service, Services, replicas
from tests.support.sessions import assert_whole

# Seconds that it stands still; that a call may take afterwards, when it has to read 60 calls of callers who have gone.
FROZEN, PROMPT = 3.0, 0.75


@contextmanager
def called_while_frozen(service: Service, calls: list[Call]) -> Iterator[list[Timed]]:
    """The block begins when it goes on; the answers are all there at its end."""
    answers: list[Timed] = []
    begun = Barrier(len(calls) + 1)

    def begin(call: Call) -> Timed:
        begun.wait()
        return timed(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        with service.frozen():
            running = [pool.submit(begin, call) for call in calls]
            begun.wait()
            time.sleep(FROZEN)  # the fault itself
        yield answers
        answers += [call.result() for call in running]


def test_shorter_than_the_budget(cluster_url: str, tmp_path: Path) -> None:
    """With the promised budgets of 5 and 10 s it costs a wait, and there is no pile-up afterwards."""
    with (
        clusters.database(cluster_url) as url,
        replicas(url, tmp_path) as deployed,
        closing(Board(deployed.gateways[0].url, url)) as board,
    ):
        user = board.organization().user
        event = user.create()
        calls: list[Call] = [
            lambda: user.http.post("/events", json=EVENT),
            lambda: user.http.get(f"/events/{event['id']}"),
        ]
        # What so many take together on this machine, now.
        usual = max(call.own for call in at_once(calls * 30))
        with called_while_frozen(deployed.events[0], calls * 30) as answers:
            pass
        assert [call.status for call in answers] == [201, 200] * 30
        assert max(call.own for call in answers) < FROZEN + max(1, 2 * usual)
        assert board.sql("SELECT count(*) FROM events.events") == [(61,)]
        assert_no_pile_up(board, calls)


def test_longer_than_the_budget(three: Services, board: Board, organization: Organization) -> None:
    """504 meanwhile, and nobody who comes afterwards waits for those who have gone."""
    user = organization.user
    event = user.create()
    calls: list[Call] = [
        lambda: user.http.post("/events", json=EVENT),
        lambda: user.http.get(f"/events/{event['id']}"),
    ]
    with called_while_frozen(three.events, calls * 30) as answers:
        assert_no_pile_up(board, calls)
    for call in answers:
        assert_problem(call.answer, "deadline-exceeded")


def assert_no_pile_up(board: Board, calls: list[Call]) -> None:
    for call in calls:
        again = quickest(call, PROMPT)
        assert again.answer.is_success
        assert again.own < PROMPT
    assert_whole(board)
