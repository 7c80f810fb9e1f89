"""The process dies in the middle of a write; `make test-faults` does it with every write, in each shape."""

from pathlib import Path

from tests.support.crashes import POINTS, crashes


def test_killed_at_every_point_of_a_creation(database_url: str, tmp_path: Path) -> None:
    """The request is sent again with its key to the process that came back, and the write has happened once."""
    with crashes("all", database_url, tmp_path) as found:
        assert found.at_every_point("all", "create") == POINTS["create"]
