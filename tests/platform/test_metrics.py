"""Numbers in a memory that workers share: what is told of them, and what outlives a worker."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from eventboard.platform.group import PART, Sharing
from eventboard.platform.metrics import BOUNDS, Metrics
from tests.support.metrics import parsed


@pytest.fixture
def sharing() -> Iterator[Sharing]:
    with closing(Sharing(2)) as sharing:
        yield sharing


def numbers(metrics: Metrics) -> dict[str, float]:
    return parsed(metrics.text().decode())


def test_format() -> None:
    """Prometheus' text format: help and type before a family, buckets that add up, texts escaped."""
    metrics = Metrics()
    metrics.counter("c_total", "Counts.", ("what",)).add('a "b"\n\\', by=2)
    metrics.gauge("g", "Is.").set(0.5)
    histogram = metrics.histogram("h_seconds", "Lasts.", ("how", "why"))
    for seconds in (0.001, 0.0011, 0.3, 99):
        histogram.observe(seconds, "so", "")
    text = metrics.text().decode()
    assert text.startswith("# HELP c_total Counts.\n# TYPE c_total counter\n" + r'c_total{what="a \"b\"\n\\"} 2')
    assert "# HELP g Is.\n# TYPE g gauge\ng 0.5\n" in text
    told = parsed(text)
    buckets = [told[f'h_seconds_bucket{{how="so",le="{bound}"}}'] for bound in (*BOUNDS, "+Inf")]
    assert buckets == [1, *[2] * (BOUNDS.index(0.5) - 1), *[3] * (len(BOUNDS) - BOUNDS.index(0.5)), 4]
    assert told['h_seconds_count{how="so"}'] == 4
    assert told['h_seconds_sum{how="so"}'] == pytest.approx(99.3021)


def test_never_counted() -> None:
    """What has no labels is 0 from the beginning, and not unknown."""
    metrics = Metrics()
    metrics.counter("c_total", "Counts.")
    metrics.histogram("h_seconds", "Lasts.")
    assert numbers(metrics)["c_total"] == 0
    assert numbers(metrics)["h_seconds_count"] == 0


def test_two_workers(sharing: Sharing) -> None:
    """Either tells of both: counts are added up, and a gauge says how it is made one."""
    workers = [Metrics(sharing.place(number)) for number in range(2)]
    for number, metrics in enumerate(workers):
        # In another order, so at other places.
        names = ("a", "b") if number else ("b", "a")
        for name in names:
            metrics.counter("c_total", "Counts.", ("name",)).add(name, by=number + 1)
        metrics.histogram("h_seconds", "Lasts.").observe(number)
        metrics.gauge("sum", "Is.").set(number + 1)
        metrics.gauge("max", "Is.", of_workers="max").set(number + 1)
        metrics.gauge("min", "Is.", of_workers="min").set(number + 1)
    assert numbers(workers[0]) == numbers(workers[1])
    told = numbers(workers[0])
    assert [told['c_total{name="a"}'], told['c_total{name="b"}']] == [3, 3]
    assert [told["sum"], told["max"], told["min"]] == [3, 2, 1]
    assert [told["h_seconds_count"], told["h_seconds_sum"], told['h_seconds_bucket{le="0.001"}']] == [2, 1, 1]


def test_worker_replaced(sharing: Sharing) -> None:
    """Who takes a place goes on counting where the one before has ended; what that one was is forgotten."""
    before = Metrics(sharing.place(0))
    before.counter("c_total", "Counts.", ("name",)).add("a", by=5)
    before.histogram("h_seconds", "Lasts.").observe(1)
    before.gauge("g", "Is.").set(7)
    other = Metrics(sharing.place(1))
    after = Metrics(sharing.place(0))
    # What it would have declared already when it is asked, in another order.
    after.gauge("g", "Is.")
    after.histogram("h_seconds", "Lasts.").observe(1)
    counter = after.counter("c_total", "Counts.", ("name",))
    counter.add("b")
    counter.add("a")
    for metrics in (other, after):
        metrics.counter("c_total", "Counts.", ("name",))
        metrics.histogram("h_seconds", "Lasts.")
        metrics.gauge("g", "Is.")
        told = numbers(metrics)
        assert [told['c_total{name="a"}'], told['c_total{name="b"}']] == [6, 1]
        assert [told["h_seconds_count"], told["h_seconds_sum"], told["g"]] == [2, 2, 0]


def test_same_name_again() -> None:
    """Several parts may count in one family; another kind, or other labels, is a mistake."""
    metrics = Metrics()
    metrics.counter("c_total", "Counts.", ("name",)).add("a")
    metrics.counter("c_total", "Counts.", ("name",)).add("a")
    assert numbers(metrics)['c_total{name="a"}'] == 2
    with pytest.raises(TypeError):
        metrics.gauge("c_total", "Counts.", ("name",))
    with pytest.raises(TypeError):
        metrics.counter("c_total", "Counts.", ("what",))


def test_too_many_series() -> None:
    """A mistake that makes series without end costs what comes last, and nothing else."""
    metrics = Metrics()
    first = metrics.counter("first_total", "Counts.")
    histogram = metrics.histogram("h_seconds", "Lasts.", ("id",))
    for number in range(PART // 2 // 8):
        histogram.observe(1, str(number))
    first.add()
    told = numbers(metrics)
    assert told["first_total"] == 1
    assert {value for series, value in told.items() if series.startswith("h_seconds_count")} == {1}


def test_samples_before_it_tells() -> None:
    """A gauge that is looked up says what is so now."""
    metrics = Metrics()
    gauge = metrics.gauge("g", "Is.")
    values = iter((1, 2))
    metrics.sampling(lambda: gauge.set(next(values)))
    assert [numbers(metrics)["g"], numbers(metrics)["g"]] == [1, 2]
