"""Counters, gauges and histograms, told in Prometheus' text format.

A number is a double at a place of its own in memory. Workers map one memory and write to their own parts of it, so
that whichever is asked adds up all of them. A part outlives its worker: who takes the place goes on counting there.
One request's histogram costs less than a microsecond (docs/decisions/0013-metrics-in-shared-memory.md).
"""

import mmap
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
from loguru import logger
from msgspec import Struct

from eventboard.platform.admin import Answer, Page, Query
from eventboard.platform.group import PART, Place

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. OpenTelemetry's buckets for HTTP, and two below: a read by key takes a millisecond.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# Half of a worker's part are numbers; the other half says whose they are, a line for each series, after its length.
_NUMBERS = PART // 2 // 8
_LENGTH = 8

Labels = tuple[str, ...]
Kind = TypeVar("Kind", bound="Family")
_MERGES: Mapping[str, Callable[[Sequence[float]], float]] = {"sum": sum, "max": max, "min": min}


class _Series(Struct, frozen=True, array_like=True):
    """A line of the directory: `size` numbers from `index` on."""

    name: str
    labels: Labels
    index: int
    size: int


class Family:
    """All series of one name. The values of `labels` are texts of a small set: never an id, never a client's words."""

    def __init__(self, metrics: "Metrics", name: str, help_: str, labels: Labels) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self._metrics = metrics
        self._numbers = metrics.numbers
        self._at: dict[tuple[str | int, ...], int] = {}

    kind = "untyped"
    size = 1

    def merge(self, values: Sequence[float]) -> float:
        return sum(values)

    def lines(self, labels: Labels, values: Sequence[float]) -> Iterator[str]:
        yield _line(self.name, self.labels, labels, values[0])

    def index(self, values: tuple[str | int, ...]) -> int:
        """Where the series' numbers begin; it is made when it is first asked for."""
        found = self._at.get(values)
        if found is None:
            found = self._at[values] = self._metrics.place(self, tuple(map(str, values)))
        return found


class Counter(Family):
    kind = "counter"

    def add(self, *labels: str | int, by: float = 1.0) -> None:
        self._numbers[self._at[labels] if labels in self._at else self.index(labels)] += by


class Gauge(Family):
    """`of_workers` says how several workers' values become one."""

    kind = "gauge"
    of_workers: Literal["sum", "max", "min"] = "sum"

    def set(self, value: float, *labels: str | int) -> None:
        self._numbers[self.index(labels)] = value

    def merge(self, values: Sequence[float]) -> float:
        return _MERGES[self.of_workers](values)


class Histogram(Family):
    """Of durations in seconds."""

    kind = "histogram"
    size = len(BOUNDS) + 2

    def __init__(self, metrics: "Metrics", name: str, help_: str, labels: Labels) -> None:
        super().__init__(metrics, name, help_, labels)
        # By a series' labels what observes for it, `at["GET", 200](seconds)`: there are fewer calls than by `observe`.
        self.at = _Observers(self)

    def observe(self, seconds: float, *labels: str | int) -> None:
        self.at[labels](seconds)

    def observer(self, labels: tuple[str | int, ...]) -> "Observe":
        numbers, index = self._numbers, self.index(labels)

        def observe(seconds: float) -> None:
            numbers[index + bisect_left(BOUNDS, seconds)] += 1.0
            numbers[index + _SUM] += seconds

        return observe

    def lines(self, labels: Labels, values: Sequence[float]) -> Iterator[str]:
        total = 0.0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), values, strict=False):
            total += count
            yield _line(f"{self.name}_bucket", (*self.labels, "le"), (*labels, bound), total)
        yield _line(f"{self.name}_sum", self.labels, labels, values[_SUM])
        yield _line(f"{self.name}_count", self.labels, labels, total)


_SUM = len(BOUNDS) + 1
Observe = Callable[[float], None]


class _Observers(dict[tuple[str | int, ...], Observe]):
    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self._histogram = histogram

    def __missing__(self, labels: tuple[str | int, ...]) -> Observe:
        observe = self[labels] = self._histogram.observer(labels)
        return observe


class Metrics:
    """Without a `place` in a group, of this process alone. Only the event loop's thread counts."""

    def __init__(self, place: Place | None = None) -> None:
        memory = memoryview(mmap.mmap(-1, PART) if place is None else place.map())
        self._parts = [memory[start : start + PART] for start in range(0, len(memory), PART)]
        mine = self._parts[0 if place is None else place.number]
        self.numbers = mine[: _NUMBERS * 8].cast("d")
        self._directory = mine[_NUMBERS * 8 :]
        self._families: dict[str, Family] = {}
        self._samples: list[Callable[[], None]] = []
        # What the one before, in this place, has counted.
        self._left = {(series.name, series.labels): series for series in _entries(mine)}
        self._next = max((series.index + series.size for series in self._left.values()), default=0)
        self._full = False

    def counter(self, name: str, help_: str, labels: Labels = ()) -> Counter:
        return self._family(Counter, name, help_, labels)

    def gauge(
        self, name: str, help_: str, labels: Labels = (), *, of_workers: Literal["sum", "max", "min"] = "sum"
    ) -> Gauge:
        gauge = self._family(Gauge, name, help_, labels)
        gauge.of_workers = of_workers
        # It says what is, not what was: nothing of it outlives a worker.
        for series in self._left.values():
            if series.name == name:
                self.numbers[series.index] = 0.0
        return gauge

    def histogram(self, name: str, help_: str, labels: Labels = ()) -> Histogram:
        return self._family(Histogram, name, help_, labels)

    def sampling(self, sample: Callable[[], None]) -> None:
        """`sample` sets gauges; it is called before this process tells them, and every second."""
        self._samples.append(sample)

    def sample(self) -> None:
        for sample in self._samples:
            sample()

    def place(self, family: Family, labels: Labels) -> int:
        left = self._left.get((family.name, labels))
        if left is not None and left.size == family.size:
            return left.index
        index, self._next = self._next, self._next + family.size
        line = msgspec.json.encode(_Series(family.name, labels, index, family.size)) + b"\n"
        used = int.from_bytes(self._directory[:_LENGTH], "little")
        end = _LENGTH + used + len(line)
        if self._next > _NUMBERS - Histogram.size or end > len(self._directory):
            # Of a bounded number of series this can't be; a mistake there must cost no request. Counted for nobody.
            self._next = index
            if not self._full:
                self._full = True
                logger.error("there is no room for another metric: {} {}", family.name, labels)
            return _NUMBERS - Histogram.size
        # The length last: who reads meanwhile sees whole lines.
        self._directory[_LENGTH + used : end] = line
        self._directory[:_LENGTH] = (used + len(line)).to_bytes(_LENGTH, "little")
        return index

    def text(self) -> bytes:
        """Of all workers."""
        self.sample()
        found: defaultdict[str, defaultdict[Labels, list[Sequence[float]]]] = defaultdict(lambda: defaultdict(list))
        for part in self._parts:
            numbers = part[: _NUMBERS * 8].cast("d")
            for series in _entries(part):
                values = numbers[series.index : series.index + series.size].tolist()
                found[series.name][series.labels].append(values)
        lines: list[str] = []
        for name, family in sorted(self._families.items()):
            lines += (f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}")
            for labels, workers in sorted(found[name].items()):
                lines += family.lines(labels, [family.merge(values) for values in zip(*workers, strict=True)])
        return "".join(f"{line}\n" for line in lines).encode()

    def _family(self, kind: type[Kind], name: str, help_: str, labels: Labels) -> Kind:
        known = self._families.get(name)
        if known is None:
            known = self._families[name] = kind(self, name, help_, labels)
            if not labels:
                # What has never happened is 0, and not unknown.
                known.index(())
        if not isinstance(known, kind) or known.labels != labels:
            raise TypeError(f"{name} is a {known.kind} by {', '.join(known.labels)} already")
        return known


def metrics_page(metrics: Metrics) -> Page:
    async def answer(_: Query) -> Answer:
        return Answer(metrics.text(), MEDIA_TYPE)

    return Page(answer)


def rejections(metrics: Metrics) -> Counter:
    """What is refused because there is too much of it, by the limit that refused."""
    return metrics.counter("eventboard_rejected_total", "Refused for being too much, by the limit.", ("limit",))


def unlimited(metrics: Metrics) -> Counter:
    """What went on although its limit could not be asked about."""
    return metrics.counter(
        "eventboard_unlimited_total", "Went on because its limit could not be asked about, by the limit.", ("limit",)
    )


def _entries(part: memoryview) -> list[_Series]:
    directory = part[_NUMBERS * 8 :]
    length = int.from_bytes(directory[:_LENGTH], "little")
    lines = bytes(directory[_LENGTH : _LENGTH + length]).splitlines()
    return [msgspec.json.decode(line, type=_Series) for line in lines]


def _line(name: str, names: Labels, values: Labels, number: float) -> str:
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(names, values, strict=True) if value)
    shown = repr(int(number)) if number.is_integer() else repr(number)
    return f"{name}{{{pairs}}} {shown}" if pairs else f"{name} {shown}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
