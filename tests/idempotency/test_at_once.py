"""Many clients, one key."""

from tests.support.at_once import CLIENTS, race
from tests.support.board import Board, Organization


def test_fifty_clients(board: Board, organization: Organization) -> None:
    """One of them writes, and all are told the same; `make test-faults` repeats it a hundred times, in each shape."""
    assert race(board, organization, rounds=5) == {"executed": 5, "replayed": 5 * (CLIENTS - 1)}
