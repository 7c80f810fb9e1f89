"""Events is killed while it writes, and comes back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import httpx

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board, Member
from tests.support.processes import PATIENCE
from tests.support.services import replicas
from tests.support.sessions import locked, waiting

AT_ONCE = 8
# The gateway waits for as long as a start takes on a busy machine; the promised numbers are in test_not_listening.py.
PATIENT = {
    "BUDGETS_WRITE": "25",
    "RETRIES_FIRST_WAIT": "0.2",
    "RETRIES_RETRIES": "7",
    "RETRIES_BUDGET_FLOOR": "1000",
    "BREAKER_LEAST_CALLS": "1000",
}


@contextmanager
def written(member: Member, numbers: range) -> Iterator[None]:
    """Writes them all, several at once; the block begins in the middle."""
    middle = Event()

    def write(number: int) -> httpx.Response:
        if number == numbers[len(numbers) // 2]:
            middle.set()
        return member.http.post("/events", json={**EVENT, "title": f"Write {number}"})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(write, numbers)
        assert middle.wait(PATIENCE)
        yield
        assert [answer.text for answer in answers if answer.status_code != 201] == []


def test_killed_in_the_middle_of_200_writes(cluster_url: str, tmp_path: Path) -> None:
    """Every write is acknowledged, and there once: a crash costs a wait."""
    with (
        clusters.database(cluster_url) as url,
        replicas(url, tmp_path, events=1, gateways=1, **PATIENT) as deployed,
        closing(Board(deployed.gateways[0].url, url)) as board,
    ):
        (events,) = deployed.events
        user = board.organization().user
        with written(user, range(100)):
            # Whatever it is doing now.
            events.kill()
            events.start()
        with written(user, range(100, 200)):
            with locked(url):
                # In the middle of as many statements as there can be.
                while waiting(board) < AT_ONCE:
                    pass
                events.kill()
            events.start()
        counts = board.sql("SELECT title, count(*) FROM events.events GROUP BY title")
        assert dict(counts) == {f"Write {number}": 1 for number in range(200)}
        assert board.sql("SELECT count(*) FROM events.history") == [(200,)]
