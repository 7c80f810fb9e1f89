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

from bench.parts import ALONE, APPROVE, CREATE, DEEP, KEYED, LIST, LOGIN, MIX, READ, SEARCH, Bench, Measured
from bench.servers import BARE, ONE, THREE, TWO_WORKERS, USUAL
from bench.telemetry import ALL, ALL_TRACED, OFF, OFF_BESIDE

RESULTS = Path(__file__).parent / "results"

_SHOWN = (
    ("per second", "per_second", 0),
    ("p50, ms", "p50", 2),
    ("p95, ms", "p95", 2),
    ("p99, ms", "p99", 2),
    ("processor time of the server, µs", "cpu_microseconds", 0),
    ("processor time of PostgreSQL, µs", "database_cpu_microseconds", 0),
)


class Target(Struct, frozen=True):
    """`of` makes a measure for each pair of turns; the median of them is held against the limit."""

    said: str
    part: str
    load: str
    pair: tuple[str, str]
    limit: float
    at_most: bool = False
    figure: str = "per_second"
    of: Callable[[float, float], float] = lambda one, other: one / other
    unit: str = ""


TEN_THOUSAND, A_MILLION = "10,000 events", "1,000,000 events"

TARGETS = (
    Target("`GET /events/{id}` against bare", "reads", READ, (ONE, BARE), 0.85),
    Target("list of 10 at 100,000 events against bare", "reads", LIST, (ONE, BARE), 0.70),
    Target("`POST /events` with a key against bare", "writes", KEYED, (ONE, BARE), 0.50),
    Target("`GET /events/{id}` against usual", "reads", READ, (ONE, USUAL), 3.0),
    Target("list of 10 at 100,000 events against usual", "reads", LIST, (ONE, USUAL), 3.0),
    Target("`POST /events` against usual", "writes", CREATE, (ONE, USUAL), 1.5),
    Target("`POST /events` with a key against usual", "writes", KEYED, (ONE, USUAL), 1.5),
    Target("approve against usual", "writes", APPROVE, (ONE, USUAL), 1.5),
    Target("mix of 80 % read, 15 % list, 5 % create against usual", "writes", MIX, (ONE, USUAL), 1.5),
    Target("three processes on one core against one: read", "shapes", READ, (THREE, ONE), 0.40),
    Target("three processes on one core against one: list", "shapes", LIST, (THREE, ONE), 0.40),
    Target("three processes on one core against one: create with a key", "shapes", KEYED, (THREE, ONE), 0.40),
    Target(
        "three processes, median added at one connection", "shapes", ALONE, (THREE, ONE), 1.5,
        at_most=True, figure="p50", of=lambda three, one: three - one, unit=" ms",
    ),
    Target(
        "two workers against one, processor time of a read", "workers", READ, (TWO_WORKERS, ONE), 1.1,
        at_most=True, figure="cpu_microseconds",
    ),
    *(
        Target(
            f"{load} at 1,000,000 events against 10,000", "growth", load, (A_MILLION, TEN_THOUSAND), 1.3,
            at_most=True, figure="p50",
        )
        for load in (LIST, DEEP, SEARCH)
    ),
    Target("login against Argon2 alone", "login", LOGIN, (ONE, "Argon2 alone"), 0.9),
    Target("logs, metrics and 1 % traces against all off", "telemetry", READ, (ALL, OFF), 0.90),
    Target("logs, metrics and all traces against all off", "telemetry", READ, (ALL_TRACED, OFF_BESIDE), 0.75),
    Target(
        "start to ready", "reads", READ, (ONE, ONE), 2.5, at_most=True, figure="ready_after",
        of=lambda one, _: one, unit=" s",
    ),
    Target(
        "memory of the process after the load", "reads", SEARCH, (ONE, ONE), 130, at_most=True, figure="memory",
        of=lambda one, _: one, unit=" MiB",
    ),
    Target(
        "memory of the largest of three processes", "shapes", ALONE, (THREE, THREE), 130, at_most=True,
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
        "| measure | target | measured | |",
        "| --- | --- | --- | --- |",
    ]
    for target in TARGETS:
        values = list(_pairs(target))
        if not values:
            continue
        median = statistics.median(values)
        held = median <= target.limit if target.at_most else median >= target.limit
        lines.append(
            f"| {target.said} | {'≤' if target.at_most else '≥'} {target.limit:g}{target.unit} |"
            f" {_spread(values, 2)}{target.unit} | {'holds' if held else '**missed**'} |"
        )
    return "\n".join(lines) + "\n"


def _pairs(target: Target) -> Iterator[float]:
    try:
        loads = json.loads((RESULTS / f"{target.part}.json").read_text())["loads"]
        one, other = (loads[target.load][name] for name in target.pair)
    except (FileNotFoundError, KeyError):
        return
    for left, right in zip(one, other, strict=True):
        yield target.of(_largest(left[target.figure]), _largest(right[target.figure]))


def _largest(value: Any) -> float:
    return max(value) if isinstance(value, list) else value


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


def _cells(servers: Mapping[str, Sequence[Mapping[str, float]]], figure: str, digits: int) -> Iterator[str]:
    first, *others = [[turn[figure] for turn in turns if figure in turn] for turns in servers.values()]
    for values in (first, *others):
        yield _spread(values, digits) if values else ""
    for values in others:
        yield _spread([one / other for one, other in zip(first, values, strict=True)], 2) if values else ""


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
