"""What tests/faults/test_history_checker.py does comes from its seed."""

from itertools import islice
from typing import Any

from tests.support.storm import ACTIONS, CLIENTS, faults, steps

PARTS = ("auth", "events", "events 2", "gateway")


def plan(seed: int) -> list[Any]:
    return [
        *(list(islice(steps(seed, client), 200)) for client in range(CLIENTS)),
        list(islice(faults(seed, PARTS), 50)),
    ]


def test_same_seed() -> None:
    """The same commands of each client, and the same faults, in the same order."""
    assert plan(7) == plan(7)
    assert all(ours != others for ours, others in zip(plan(7), plan(8), strict=True))


def test_everything_is_tried() -> None:
    """Every command, with a key and without, by every role; every part, killed, frozen and stopped, and PostgreSQL."""
    *clients, weather = plan(7)
    all_steps = [step for client in clients for step in client]
    assert {(step.action, step.keyed) for step in all_steps} == {
        (action, keyed) for action in ACTIONS for keyed in (True, False)
    }
    assert {step.role for step in all_steps} == {"user", "other", "moderator", "admin"}
    befallen = {what for fault in weather for what in fault.what}
    assert befallen == {(part, how) for part in PARTS for how in ("killed", "frozen", "stopped")} | {
        ("postgres", "ended at once")
    }
