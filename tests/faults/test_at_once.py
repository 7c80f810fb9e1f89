"""Many clients, one key, for as long as it takes to meet every interleaving that is likely."""

from collections.abc import Callable

import pytest

from tests.support.at_once import race
from tests.support.board import Board
from tests.support.shapes import Deployment


@pytest.mark.parametrize("shape", ["all", "gateway+auth+events+events"])
def test_hundred_rounds_of_fifty_clients(deployments: Callable[[str], Deployment], shape: str) -> None:
    """In each round one of them writes, wherever the others' requests arrive; nobody meets a failure."""
    deployment = deployments(shape)
    board = Board(deployment.public.url, deployment.database_url)
    told = race(board, board.organization(), rounds=100)
    board.close()
    assert told["executed"] == 100
