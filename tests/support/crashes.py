"""Kills a process at each point of a write, and sends the write again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support.board import Board, Organization
from tests.support.processes import PATIENCE, until_ready
from tests.support.shapes import Deployment, deployed
from tests.support.writes import WRITES, essence, happened, statuses

# How many points a write with a key has: before, in the middle of and after each statement (begin, scope and lock, look
# up the key, read the event where there is one, write, keep the outcome, commit), and around both parts of the answer.
POINTS = {name: 3 * (6 if write.state is None else 7) + 2 * 2 for name, write in WRITES.items()}
# A process without statements: around both parts of the answer.
POINTS_OF_AN_ANSWER = 2 * 2

LAUNCHER = ("-m", "tests.support.crashing")
# What is stored already is read now and then, by statements that are no part of a write.
WITHOUT_QUOTAS = {"QUOTAS_BYTES_BY_ORGANIZATION": "0", "QUOTAS_KEYS_BY_USER": "0"}


@dataclass
class Crashes:
    """Processes that die where a request tells them to; see crashing.py."""

    deployment: Deployment
    board: Board
    organization: Organization
    folder: Path

    def at_every_point(self, target: str, name: str, *, keyed: bool = True) -> int:
        """How many points the write has in that target's process; it was killed at each of them.

        Whatever the first request came to, the write happened once when the second is answered, which is the first
        one sent to the new process. Without a key there is no second: the gateway sees to it.
        """
        for point in count(1):
            if not self._at(point, target, name, keyed=keyed):
                return point - 1
        raise AssertionError

    def _at(self, point: int, target: str, name: str, *, keyed: bool) -> bool:
        write, admin, where = WRITES[name], self.organization.admin, f"crash.{target}.{point}.{uuid4().hex}"
        event_id = write.event(self.board, admin)
        before, key = happened(self.board, self.organization), where if keyed else None
        answers = []
        with suppress(httpx.TransportError):
            answers.append(write.send(admin.http, event_id, key=key, x_correlation_id=where))
        died = self._died(where)
        until_ready(self.deployment.processes[target])
        if keyed:
            answers += [write.send(admin.http, event_id, key=key) for _ in range(2)]
        said = f"{name}, {target} killed at point {point}: {statuses(*answers)}"
        # A process that isn't back in time is a 503, and leaves the rest to the second request.
        lost = [answer for answer in answers[:1] if keyed and died and answer.status_code == 503]
        told = [answer for answer in answers if answer not in lost]
        assert {answer.status_code for answer in told} == {write.success}, said
        assert all(essence(answer) == essence(told[0]) for answer in told), said
        if keyed:
            assert answers[-1].headers["idempotency-status"] == "replayed", said
            if len(told) == 3:
                assert answers[1].headers["idempotency-status"] == "replayed", said
        change = {"create": 1, "delete": -1}.get(name, 0)
        assert happened(self.board, self.organization) == (before[0] + change, before[1] + 1), said
        return died

    def _died(self, where: str) -> bool:
        """Whether the request killed the process, or came to its end."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if (self.folder / where).exists():
                return True
            if (self.folder / f"{where}.done").exists():
                return False
            time.sleep(0.001)  # it is about to say so
        raise AssertionError(f"{where}: nothing was heard of the process")


@contextmanager
def crashes(shape: str, database_url: str, folder: Path, **settings: str) -> Iterator[Crashes]:
    settings = {**WITHOUT_QUOTAS, **settings, "TEST_CRASHES": str(folder)}
    with deployed(shape, database_url, folder, program=LAUNCHER, **settings) as found:
        board = Board(found.public.url, database_url)
        yield Crashes(found, board, board.organization(), folder)
        board.close()
