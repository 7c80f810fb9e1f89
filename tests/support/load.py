"""Calls timed, at once, or again and again while something happens."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

import httpx

from tests.support.stopwatch import Stopwatch

Call = Callable[[], httpx.Response]
# How often what a busy machine disturbs is measured.
TRIES = 5


@dataclass
class Timed:
    """`begun` is on time.monotonic()'s clock; `own` are the seconds without those that a busy machine added."""

    answer: httpx.Response
    begun: float
    seconds: float
    own: float

    @property
    def stalled(self) -> float:
        return self.seconds - self.own

    @property
    def status(self) -> int:
        return self.answer.status_code


def timed(call: Call) -> Timed:
    stopwatch = Stopwatch()
    answer = call()
    seconds = time.monotonic() - stopwatch.begun
    return Timed(answer, stopwatch.begun, seconds, seconds - stopwatch.stalled)


def gateway_seconds(answer: httpx.Response) -> float:
    """How long it took by the gateway's clock: without what clients in one process take from each other."""
    return float(answer.headers["server-timing"].partition("gateway;dur=")[2].partition(",")[0]) / 1000


def quickest(call: Call, within: float) -> Timed:
    """The call, repeated until it took no longer than this, or TRIES times: a busy machine makes some slow, a fault
    of the program all of them."""
    found = timed(call)
    for _ in range(TRIES):
        if found.own < within:
            break
        found = timed(call)
    return found


def at_once(calls: Sequence[Call]) -> list[Timed]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(timed, calls))


@dataclass
class Load:
    """What came of the calls so far: answers by their status, and those that brought no answer.

    `seconds` are without those that a busy machine added.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def total(self) -> int:
        return sum(self.statuses.values()) + len(self.failures)

    def slower_than(self, seconds: float) -> int:
        """How many answers took longer."""
        return sum(taken > seconds for taken in self.seconds)

    def run(self, call: Call) -> None:
        stopwatch = Stopwatch()
        try:
            answer = call()
        except httpx.HTTPError as error:
            with self._lock:
                self.failures.append(repr(error))
            return
        with self._lock:
            self.seconds.append(stopwatch.seconds)
            self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
            if answer.status_code >= 400:
                self.failures.append(f"{answer.request.method} {answer.request.url}: {answer.text}")


@contextmanager
def load(calls: Sequence[Call]) -> Iterator[Load]:
    """Each call is repeated, by a thread of its own, until the block ends."""
    found, over = Load(), Event()

    def repeat(call: Call) -> None:
        while not over.is_set():
            found.run(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(repeat, call) for call in calls]
        try:
            yield found
        finally:
            over.set()
    for thread in running:
        thread.result()
