"""A process dies at each point of each write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cluster as clusters
from tests.support.crashes import POINTS, POINTS_OF_AN_ANSWER, Crashes, crashes

THREE = "gateway+auth+events"
# The gateway goes on until the killed process is back, however often that happens.
PATIENT = {
    "RETRIES_FIRST_WAIT": "0.1",
    "RETRIES_RETRIES": "6",
    "RETRIES_BUDGET_FLOOR": "1000",
    "BREAKER_LEAST_CALLS": "1000",
}
each_write = pytest.mark.parametrize("name", POINTS)


@pytest.fixture(scope="module")
def one(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    with clusters.database(cluster_url) as url, crashes("all", url, tmp_path_factory.mktemp("one")) as found:
        yield found


@pytest.fixture(scope="module")
def three(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    folder: Path = tmp_path_factory.mktemp("three")
    with clusters.database(cluster_url) as url, crashes(THREE, url, folder, **PATIENT) as found:
        yield found


@each_write
def test_only_process(one: Crashes, name: str) -> None:
    """Its client sends the request again, with the same key."""
    assert one.at_every_point("all", name) == POINTS[name]


@each_write
def test_events(three: Crashes, name: str) -> None:
    """The gateway sends the call again, and the client may."""
    assert three.at_every_point("events", name) == POINTS[name]


@each_write
def test_gateway(three: Crashes, name: str) -> None:
    """The write is done, and its answer is lost."""
    assert three.at_every_point("gateway", name) == POINTS_OF_AN_ANSWER


@pytest.mark.parametrize("name", ["create", "approve", "delete"])
def test_events_without_a_key(three: Crashes, name: str) -> None:
    """The gateway made a key of its own: the client notices nothing but the time it takes."""
    assert three.at_every_point("events", name, keyed=False) == POINTS[name]
