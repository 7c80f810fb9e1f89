"""Results in words and numbers: a file for each part, and the table of targets from all that there are."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench.limit import BUN, FASTIFY
from bench.parts import ALONE, APPROVE, CREATE, DEEP, KEYED, LIST, LOGIN, READ, SEARCH, Bench, Measured
from bench.servers import BARE, ONE, THREE, USUAL
from bench.telemetry import ALL, OFF

RESULTS = Path(__file__).parent / "results"
# Between these lines of the document are the tables that are written here.
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- {} -->", "<!-- end -->"

_SHOWN = (
    ("per second", "per_second", 0),
    ("p50, ms", "p50", 2),
    ("p95, ms", "p95", 2),
    ("p99, ms", "p99", 2),
    ("processor time of the server, µs", "cpu_microseconds", 0),
    ("processor time of PostgreSQL, µs", "database_cpu_microseconds", 0),
)


class Target(Struct, frozen=True):
    """`of` makes a measure for each pair of turns; the median of them is held against the floor, and the aim."""

    name: str
    part: str
    load: str
    pair: tuple[str, str]
    floor: float
    aim: float | None = None
    at_most: bool = False
    figure: str = "per_second"
    of: Callable[[float, float], float] = lambda one, other: one / other
    unit: str = ""

    def verdict(self, median: float) -> str:
        if not self._held(median, self.floor):
            return "**missed**"
        return "floor" if self.aim is not None and not self._held(median, self.aim) else "holds"

    def limit(self, value: float | None) -> str:
        return "" if value is None else f"{'≤' if self.at_most else '≥'} {value:g}{self.unit}"

    def _held(self, median: float, limit: float) -> bool:
        return median <= limit if self.at_most else median >= limit


TEN_THOUSAND, A_MILLION = "10,000 events", "1,000,000 events"

TARGETS = (
    Target("`GET /events/{id}` against bare", "reads", READ, (ONE, BARE), 0.60, 0.75),
    Target("list of 10 at 100,000 events against bare", "reads", LIST, (ONE, BARE), 0.60, 0.75),
    Target("`POST /events` with a key against bare", "writes", KEYED, (ONE, BARE), 0.30, 0.40),
    Target("`GET /events/{id}` against usual", "reads", READ, (ONE, USUAL), 4.0, 5.0),
    Target("list of 10 at 100,000 events against usual", "reads", LIST, (ONE, USUAL), 3.5, 4.5),
    Target("`POST /events` against usual", "writes", CREATE, (ONE, USUAL), 2.5, 3.0),
    Target("approve against usual", "writes", APPROVE, (ONE, USUAL), 2.5, 3.0),
    *(
        Target(
            f"processor time of `GET /events/{{id}}`, times {limit}'s", "reads", READ, (ONE, limit), floor, aim,
            at_most=True, figure="cpu_microseconds",
        )
        for limit, floor, aim in ((FASTIFY, 4.0, 3.0), (BUN, 9.0, 6.0))
    ),
    Target("three processes on one core against one: read", "shapes", READ, (THREE, ONE), 0.35, 0.45),
    Target(
        "three processes, median added at one connection", "shapes", ALONE, (THREE, ONE), 1.2, 0.8,
        at_most=True, figure="p50", of=lambda three, one: three - one, unit=" ms",
    ),
    *(
        Target(
            f"{load} at 1,000,000 events against 10,000", "growth", load, (A_MILLION, TEN_THOUSAND), 1.3,
            at_most=True, figure="p50",
        )
        for load in (LIST, DEEP, SEARCH)
    ),
    Target("login against Argon2 alone", "login", LOGIN, (ONE, "Argon2 alone"), 0.85, 0.90),
    Target("logs, metrics and 1 % traces against all off", "telemetry", READ, (ALL, OFF), 0.75, 0.85),
    Target(
        "start to ready", "reads", READ, (ONE, ONE), 2.0, at_most=True, figure="ready_after",
        of=lambda one, _: one, unit=" s",
    ),
    Target(
        "memory of the process after the load", "reads", LIST, (ONE, ONE), 150, at_most=True, figure="memory",
        of=lambda one, _: one, unit=" MiB",
    ),
    Target(
        "memory of the largest of three processes", "shapes", ALONE, (THREE, THREE), 150, at_most=True,
        figure="memory", of=lambda three, _: three, unit=" MiB",
    ),
)  # fmt: skip


def write(part: str, measured: Measured, bench: Bench, *, load_before: float, took: float) -> None:
    RESULTS.mkdir(exist_ok=True)
    result = {
        **about(bench.data.version, load_before),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "took_seconds": round(took),
        "loads": measured,
    }
    (RESULTS / f"{part}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"{part}.md").write_text("\n".join(_lines(part, result)) + "\n")
    (RESULTS / "targets.md").write_text(targets())
    document = DOCUMENT.read_text()
    for name, table in (("targets", _table()), ("times", _times())):
        before, begin, rest = document.partition(BEGIN.format(name))
        _, end, after = rest.partition(END)
        document = f"{before}{begin}\n{table}\n{end}{after}"
    DOCUMENT.write_text(document)


def about(postgres: str, load_before: float) -> dict[str, Any]:
    """Of what, when and on what it was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _said("git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": f"Python {sys.version.split()[0]}, PostgreSQL {postgres}",
        "load_before": round(load_before, 2),
    }


def targets() -> str:
    lines = [
        "# Targets",
        "",
        "Medians (least to most) of the ratios within each pair of turns; what each turn measured is beside this file.",
        "",
        _table(),
    ]
    return "\n".join(lines) + "\n"


def _table() -> str:
    lines = ["| measure | floor | aim | measured | |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(row for target in TARGETS if (row := _row(target)))])


# Each with its part, its load and its server.
_COSTS = (
    ("read by key", "reads", READ, ONE),
    ("list of 10", "reads", LIST, ONE),
    ("create", "writes", CREATE, ONE),
    ("create with a key", "writes", KEYED, ONE),
    ("approve", "writes", APPROVE, ONE),
    ("read by key, three processes", "shapes", READ, THREE),
    ("read by key, bare", "reads", READ, BARE),
    ("read by key, usual", "reads", READ, USUAL),
    ("read by key, Fastify", "reads", READ, FASTIFY),
    ("read by key, Bun", "reads", READ, BUN),
)


def _times() -> str:
    lines = ["| | a second | server, µs | PostgreSQL, µs |", "| --- | ---: | ---: | ---: |"]
    for name, part, load, server in _COSTS:
        turns = [turn for turn in _turns(part, load, server) if "failed" not in turn]
        figures = ("per_second", "cpu_microseconds", "database_cpu_microseconds")
        cells = [f"{statistics.median(turn[figure] for turn in turns):,.0f}" for figure in figures if turns]
        lines += [f"| {name} | {' | '.join(cells)} |"] if cells else []
    return "\n".join(lines)


def _turns(part: str, load: str, server: str) -> list[dict[str, Any]]:
    """Empty where it was never measured."""
    try:
        turns: list[dict[str, Any]] = json.loads((RESULTS / f"{part}.json").read_text())["loads"][load][server]
    except (FileNotFoundError, KeyError):
        return []
    return turns


def _row(target: Target) -> str:
    """Empty where it was never measured."""
    one, other = (_turns(target.part, target.load, name) for name in target.pair)
    if not one or not other:
        return ""
    start = f"| {target.name} | {target.limit(target.floor)} | {target.limit(target.aim)} |"
    values = [target.of(_largest(left), _largest(right)) for left, right in _both(one, other, target.figure)]
    if not values:
        return f"{start} not measured: each turn failed | |"
    failed = len(one) - len(values)
    remark = f" {failed} of {len(one)} turns failed" if failed else ""
    return f"{start} {_spread(values, 2)}{target.unit}{remark} | {target.verdict(statistics.median(values))} |"


def _both(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], figure: str) -> Iterator[Any]:
    """The figures of each pair of turns in which neither server failed."""
    for left, right in zip(one, other, strict=True):
        if "failed" not in left and "failed" not in right and figure in left and figure in right:
            yield left[figure], right[figure]


def _largest(value: Any) -> float:
    return float(max(value) if isinstance(value, list) else value)


def _lines(part: str, result: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {part.capitalize()}"
    yield ""
    yield (
        f"{result['at']}, revision {result['revision']}; {result['machine']}, {result['versions']};"
        f" load average before: {result['load_before']}."
    )
    yield f"{result['rounds']} turns of {result['seconds']:g} s for each. Median (least to most)."
    for load, servers in result["loads"].items():
        first, *others = servers
        yield ""
        yield f"| {load} | {' | '.join([*servers, *(f'{first} / {other}' for other in others)])} |"
        yield "|" + " --- |" * (1 + len(servers) + len(others))
        for label, figure, digits in _SHOWN:
            if any(figure in turn for turns in servers.values() for turn in turns):
                yield f"| {label} | {' | '.join(_cells(servers, figure, digits))} |"
        yield from _failures(servers)


def _cells(servers: Mapping[str, Sequence[Mapping[str, Any]]], figure: str, digits: int) -> Iterator[str]:
    first, *others = servers.values()
    for turns in (first, *others):
        if values := [turn[figure] for turn in turns if figure in turn]:
            yield _spread(values, digits)
        else:
            yield "failed" if any("failed" in turn for turn in turns) else ""
    for turns in others:
        ratios = [one / other for one, other in _both(first, turns, figure)]
        yield _spread(ratios, 2) if ratios else ""


def _failures(servers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for name, turns in servers.items():
        if reasons := [turn["failed"] for turn in turns if "failed" in turn]:
            yield ""
            yield f"{name} failed in {len(reasons)} of {len(turns)} turns, which don't count: {reasons[0]}"


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
