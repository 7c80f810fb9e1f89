"""Three real processes with proxies between them; numbers are small where a test isn't about the promised ones."""

from collections.abc import Iterator

import pytest

from tests.support import cluster as clusters
from tests.support.board import Board, Organization
from tests.support.processes import Process
from tests.support.services import Services, services

# Budgets of 2 s, waits of 0.2, 0.4 and 0.8 s, and no breaker that the failures of one test open for the next.
SMALL = {
    "BUDGETS_AUTH": "2",
    "BUDGETS_READ": "2",
    "BUDGETS_LIST": "2",
    "BUDGETS_WRITE": "2",
    "RETRIES_FIRST_WAIT": "0.2",
    "BREAKER_LEAST_CALLS": "1000",
    # Many log in as one user.
    "LIMITS_SESSIONS": "0",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--storm-seconds", type=float, default=30, help="how long faults go on, in each deployment shape")
    parser.addoption("--storm-seed", type=int, help="repeats a run's plan of commands and faults (default: any)")


@pytest.fixture(scope="package")
def shared(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """For tests that leave all three processes running."""
    with clusters.database(cluster_url) as url, services(url, tmp_path_factory.mktemp("services"), **SMALL) as three:
        yield three


@pytest.fixture
def three(shared: Services) -> Iterator[Services]:
    """A module with processes of its own overrides it; `board` and `organization` follow."""
    yield shared
    shared.mend()


@pytest.fixture
def server(three: Services) -> tuple[Process, str]:
    return three.gateway.process, three.database_url


@pytest.fixture
def organization(board: Board) -> Organization:
    """Its members have logged in before anything fails."""
    return board.organization()
