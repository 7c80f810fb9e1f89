"""What `/metrics` tells, read as Prometheus reads it, and what a test makes of it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.support.processes import Process, admin_of

_LINE = re.compile(r"(?P<series>[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{.*\})?) (?P<value>\S+)")

Numbers = dict[str, float]


def parsed(text: str) -> Numbers:
    """Each series, as it is written, and its value. A line that is none of the format's is an error."""
    numbers: Numbers = {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            continue
        found = _LINE.fullmatch(line)
        assert found, line
        assert found["series"] not in numbers, line
        numbers[found["series"]] = float(found["value"])
    return numbers


def scraped(*processes: Process) -> Numbers:
    """The sum of what these processes tell, each on its admin port."""
    total: Numbers = {}
    for process in processes:
        answer = httpx.get(f"{admin_of(process)}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        for series, value in parsed(answer.text).items():
            total[series] = total.get(series, 0) + value
    return total


@dataclass
class Moves:
    """What has moved between the block's beginning and its end, of counters and counts."""

    moved: Numbers = field(default_factory=dict)

    def of(self, *families: str) -> Numbers:
        """Of these families alone, by series."""
        return {series: by for series, by in self.moved.items() if series.partition("{")[0] in families}


@contextmanager
def moves(processes: Sequence[Process]) -> Iterator[Moves]:
    before, moves = scraped(*processes), Moves()
    yield moves
    after = scraped(*processes)
    moves.moved = {series: by for series in after if (by := after[series] - before.get(series, 0))}
