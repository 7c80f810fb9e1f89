"""Fixtures: one cluster for a run, one server for each worker, an organization for each test."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from tests.support import cluster as clusters
from tests.support import pooled
from tests.support.board import Board, Organization
from tests.support.edge import edge, place
from tests.support.processes import Process
from tests.support.shapes import ALL, SHAPES, Deployment, deployed

# What HAProxy answers itself, so that no gateway gets it: the beginning of a test's name, and why.
AT_THE_EDGE = {
    "test_other_method[CONNECT-": "it opens no tunnels",
    "test_token_of_1_mib": "headers of more than 31 KiB",
    "test_changed[tag2-If-Match names 3998 ": "headers of more than 31 KiB",
}

_run = ExitStack()
_CLUSTER = pytest.StashKey[str]()


# Programs get signals as at a terminal, also where the tests are started in the background, which ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is imported and collected stays: to look through it for cycles, again and again, takes seconds.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shape",
        action="append",
        choices=[*SHAPES, "every"],
        help="run what needs a server against this deployment shape; may be given several times (default: all)",
    )
    parser.addoption(
        "--pooler",
        action="store_true",
        help="let servers reach the database through PgBouncer, with 4 connections for each module",
    )
    parser.addoption("--edge", action="store_true", help="put the edge of compose.yaml in front of that server")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever uses `server`, `board` or `organization` runs once for each shape that was asked for."""
    chosen = metafunc.config.option.shape
    if "shape" in metafunc.fixturenames and chosen:
        metafunc.parametrize("shape", SHAPES if "every" in chosen else chosen, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.edge:
        for item in items:
            for beginning, reason in AT_THE_EDGE.items():
                if item.name.startswith(beginning):
                    item.add_marker(pytest.mark.skip(reason=f"answered by the edge: {reason}"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """The process that starts the workers (or runs alone) owns the cluster; workers are told where it is."""
    if hasattr(session.config, "workerinput"):
        os.environ[pooled.PORT] = session.config.workerinput["pooler"]
    if not session.config.option.collectonly and not hasattr(session.config, "workerinput"):
        url = session.config.stash[_CLUSTER] = _run.enter_context(clusters.cluster())
        if session.config.option.pooler:
            os.environ[pooled.PORT] = _run.enter_context(pooled.pooler(url))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: one more than there are cores, as each waits for processes that start, end and time out."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of pytest-xdist: what a worker is told before it starts."""
    node.workerinput["cluster_url"] = node.config.stash[_CLUSTER]
    node.workerinput["pooler"] = os.environ.get(pooled.PORT, "")


def pytest_unconfigure() -> None:
    _run.close()


@pytest.fixture(scope="session")
def cluster_url(request: pytest.FixtureRequest) -> str:
    """The maintenance database of the run's PostgreSQL, as its superuser."""
    workerinput: dict[str, str] | None = getattr(request.config, "workerinput", None)
    return workerinput["cluster_url"] if workerinput else request.config.stash[_CLUSTER]


@pytest.fixture
def database_url(cluster_url: str) -> Iterator[str]:
    """A migrated database for one test."""
    with clusters.database(cluster_url) as url:
        yield url


@pytest.fixture(scope="session")
def deployments(
    cluster_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Deployment]]:
    """Each shape, started when it is first asked for; on a database of its own, all with one signing key."""
    folder = tmp_path_factory.mktemp("deployments")
    behind_edge: bool = request.config.option.edge
    # Without an edge nobody is trusted, as ever.
    trusted = {"SERVER_TRUSTED_PROXIES": "127.0.0.1"} if behind_edge else {}
    with ExitStack() as stack:

        @cache
        def deployment(shape: str) -> Deployment:
            url = stack.enter_context(clusters.database(cluster_url))
            started = stack.enter_context(deployed(shape, url, folder, **trusted))
            if behind_edge:
                if shutil.which("haproxy") is None:
                    pytest.skip("no haproxy is installed")
                running = edge(place(started.public), EDGE_CONNECTIONS_BY_ADDRESS="4000")
                started.public.url = stack.enter_context(running).url
            return started

        yield deployment


@pytest.fixture(scope="session")
def shape() -> str:
    return ALL


@pytest.fixture(scope="session")
def deployment(deployments: Callable[[str], Deployment], shape: str) -> Deployment:
    return deployments(shape)


@pytest.fixture(scope="session")
def server(deployment: Deployment) -> tuple[Process, str]:
    """The process that clients reach, and the database's URL: for tests that live in organizations of their own."""
    return deployment.public, deployment.database_url


@pytest.fixture
def board(server: tuple[Process, str]) -> Iterator[Board]:
    """The public API, shared: other tests' organizations are on it too."""
    process, url = server
    board = Board(process.url, url)
    yield board
    board.close()


@pytest.fixture
def organization(board: Board) -> Organization:
    """Few tests need all four members, so each logs in when it is needed."""
    return board.organization(log_in=False)


@pytest.fixture(scope="session")
def shared_organization(server: tuple[Process, str]) -> Iterator[Organization]:
    """One for all tests that look at no more than the events they make: it takes a while to make another."""
    process, url = server
    board = Board(process.url, url)
    yield board.organization()
    board.close()
