"""Everything at once: clients write while processes and PostgreSQL come and go, and the tables tell what happened.

Longer, or again: pytest tests/faults/test_history_checker.py --storm-seconds 600 --storm-seed 7
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from eventboard.db import migrations
from tests.faults.conftest import SMALL
from tests.support.board import Board
from tests.support.lasting import Lasting, lasting
from tests.support.ledger import complaints, figures
from tests.support.services import Service, replicas, running
from tests.support.storm import storm, tables

# With the breaker as it is promised: what it refuses at once is judged, too. Tokens outlast the longest storm.
SETTINGS = {**SMALL, "BREAKER_LEAST_CALLS": "20", "TOKENS_LIFETIME": "86400"}
# Microseconds that a commit waits, written but not flushed: most of a write's time, so most faults meet some there.
SLOW_COMMITS = {"commit_delay": "20000", "commit_siblings": "0"}

Weather = Callable[[Mapping[str, Service]], None]


@pytest.fixture
def postgres() -> Iterator[Lasting]:
    with lasting(**SLOW_COMMITS) as server:
        asyncio.run(migrations.migrate(server.url))
        yield server


@pytest.fixture
def weather(postgres: Lasting, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> Weather:
    """A storm over these processes, the last of which is public; what they did then must be in order."""
    seconds, seed = pytestconfig.option.storm_seconds, pytestconfig.option.storm_seed
    if seed is None:
        seed = random.randrange(10**6)

    def run(parts: Mapping[str, Service]) -> None:
        with capsys.disabled():
            print(f"\n--storm-seed {seed} --storm-seconds {seconds}: {', '.join(parts)}")
        url = list(parts.values())[-1].url
        with closing(Board(url, postgres.url)) as board:
            found = storm(url, board.organization(), parts, postgres, seed=seed, seconds=seconds)
        told = figures(found.attempts)
        with capsys.disabled():
            print(f"{found.rounds} rounds of faults: {dict(found.faults)}\n{told}")
        wrong = complaints(found.attempts, tables(postgres.url))
        assert not wrong, "\n".join(wrong)
        # It was no calm.
        assert found.rounds > 0
        assert all(told.values())

    return run


def test_three_processes(postgres: Lasting, weather: Weather, tmp_path: Path) -> None:
    """Acknowledged is applied exactly once, refused never, ambiguous at most once; with two replicas of events."""
    with replicas(postgres.url, tmp_path, events=2, gateways=1, **SETTINGS) as deployed:
        (first, second), (gateway,) = deployed.events, deployed.gateways
        weather({"auth": deployed.auth, "events": first, "events 2": second, "gateway": gateway})


def test_one_process(postgres: Lasting, weather: Weather, tmp_path: Path) -> None:
    """The same, with no way between processes that could be lost."""
    everything = Service("all", postgres.url, tmp_path, **SETTINGS)
    with running(everything):
        weather({"all": everything})
