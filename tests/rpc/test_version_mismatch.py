"""Contracts that differ, on a clock of the test's."""

from collections.abc import Iterator

import pytest
from loguru import logger

from eventboard.rpc.version_mismatch import SHOWN_FOR, VersionMismatch


class World:
    """`told` is what was logged."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.mismatch = VersionMismatch("events", "ours", lambda: self.now)

    def meet(self, *contracts: str) -> None:
        for contract in contracts:
            self.mismatch.record(contract)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    sink = logger.add(world.told.append, format="{message}")
    yield world
    logger.remove(sink)


def test_none(world: World) -> None:
    """Nothing is told, and nothing shows."""
    world.meet("ours", "ours")
    assert world.told == []
    assert world.mismatch.state() == {}


def test_one(world: World) -> None:
    """It is told once, and shows as long as nothing else is met."""
    world.meet("older", "older")
    world.now += 100 * SHOWN_FOR
    assert world.mismatch.state() == {"contract": "older there, ours here"}
    world.meet("older")
    assert world.told == [
        "events has contract older, this process ours: one is being upgraded; if not, deploy the same version of both\n"
    ]


def test_in_turns(world: World) -> None:
    """Replicas of both versions: it is told once still, and doesn't flicker."""
    for _ in range(20):
        world.meet("older", "ours")
        assert world.mismatch.state() == {"contract": "older there, ours here"}
        world.now += SHOWN_FOR - 1
    assert len(world.told) == 1


def test_over(world: World) -> None:
    """It shows no longer when only its own kind has been met for a while; and isn't told anew."""
    world.meet("older")
    world.now += SHOWN_FOR
    world.meet("ours")
    assert world.mismatch.state() == {}
    world.meet("older")
    assert world.mismatch.state() == {"contract": "older there, ours here"}
    assert len(world.told) == 1


def test_two_others(world: World) -> None:
    """Each is told, and both show."""
    world.meet("older", "newer")
    assert len(world.told) == 2
    assert world.mismatch.state() == {"contract": "newer, older there, ours here"}
    world.now += SHOWN_FOR
    world.meet("newer")
    assert world.mismatch.state() == {"contract": "newer there, ours here"}
