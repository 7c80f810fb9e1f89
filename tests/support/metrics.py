"""What `/metrics` tells, read as Prometheus reads it, and what a test makes of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.plain_http import NO_TLS
from tests.support.processes import PATIENCE, Process, admin_of

Numbers = dict[str, float]

# What processes ask each other at times of their own: keys, sessions, blocks of a limit.
BACKGROUND = ("auth.keys", "auth.validateUser", "auth.lease")


def parsed(text: str) -> Numbers:
    """Each series, with its labels in order, and its value. A label without a value is as none at all."""
    numbers: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            numbers[series_of(sample.name, **sample.labels)] = sample.value
    return numbers


def series_of(name: str, **labels: str) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()) if value)
    return f"{name}{{{pairs}}}" if pairs else name


def foreground(numbers: Numbers) -> Numbers:
    return {series: value for series, value in numbers.items() if not any(each in series for each in BACKGROUND)}


def scraped(*processes: Process) -> Numbers:
    """The sum of what these processes tell, each on its admin port."""
    total: Numbers = {}
    for process in processes:
        answer = httpx.get(f"{admin_of(process)}/metrics", verify=NO_TLS, timeout=PATIENCE)
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
        """Of these families alone, by series, without what processes ask each other in the background."""
        return {series: by for series, by in foreground(self.moved).items() if series.partition("{")[0] in families}


@contextmanager
def moves(processes: Sequence[Process]) -> Iterator[Moves]:
    before, moves = scraped(*processes), Moves()
    yield moves
    after = scraped(*processes)
    moves.moved = {series: by for series in after if (by := after[series] - before.get(series, 0))}
