"""An answer that is too large: an error of its own, the same in every shape."""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import Board, Organization
from tests.support.load import at_once
from tests.support.problems import assert_problem
from tests.support.shapes import Deployment, deployed

# Bytes: three events with long descriptions pass it; one doesn't, nor do a log-in and the public keys.
MOST = 12_000


@pytest.fixture(scope="module")
def deployment(cluster_url: str, shape: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("large-answers")
    with clusters.database(cluster_url) as url, deployed(shape, url, folder, SERVER_MAX_ANSWER=str(MOST)) as found:
        yield found


@pytest.fixture
def board(deployment: Deployment) -> Iterator[Board]:
    with closing(Board(deployment.public.url, deployment.database_url)) as board:
        yield board


def test_page_that_is_too_large(organization: Organization) -> None:
    """Said at once, and not to be repeated as it is; a smaller page is answered."""
    user = organization.user
    for _ in range(3):
        user.create(description="x" * 5000)
    problem = assert_problem(user.http.get("/events"), "answer-too-large")
    assert problem["detail"] == f"The answer would have more than {MOST} bytes. Ask for less at once."
    assert not problem["retryable"]
    page = user.http.get("/events", params={"limit": 2}).json()
    assert (len(page["data"]), page["meta"]["total"]) == (2, 3)


def test_many_of_them(board: Board, organization: Organization) -> None:
    """They are neither repeated nor held against the service: everybody else is answered."""
    user = organization.user
    events = [user.create(description="x" * 5000)["id"] for _ in range(3)]
    for call in at_once([lambda: user.http.get("/events")] * 40):
        assert_problem(call.answer, "answer-too-large")
    assert user.http.get(f"/events/{events[0]}").status_code == 200
    parts = httpx.get(f"{board.url}/health").json()["parts"]
    assert {part.get("breaker", "closed") for part in parts.values()} == {"closed"}


def test_page_of_any_size(organization: Organization) -> None:
    """The bound is on bytes of what the module answers, so that each shape finds the same page too large."""
    user = organization.user
    # A tab has two bytes in JSON, and one between processes.
    for _ in range(3):
        user.create(description="\t" * 3000 + "x")
    answer = user.http.get("/events")
    assert answer.status_code == 200
    assert len(answer.content) > MOST
