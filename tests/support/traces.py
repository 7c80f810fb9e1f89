"""What a process tells of a request, as a tree of names; and requests without a process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from eventboard.platform import context, tracing
from eventboard.platform.context import Context, new_ids
from eventboard.platform.tracing import Recorder, Trace

Tree = dict[str, Any]


def told(url: str, correlation_id: str) -> list[dict[str, Any]]:
    """Every trace that is kept under this id; `url` is an admin port's, or in development the main one's."""
    answer = httpx.get(f"{url}/debug/traces", params={"id": correlation_id})
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def tree(trace: dict[str, Any]) -> Tree:
    """Names inside of names, in the order in which they began; a name that comes again has its number behind it.

    What an attempt or a call is about is part of its name. So is what it failed with.
    """
    whole, *others = trace["spans"]

    def inside(number: int) -> Tree:
        found: Tree = {}
        for span in others:
            if span["parent"] == number:
                name = span["name"] if span["name"] != "Attempt" else f"Attempt {span['detail']}"
                name += f" ({span['failure']})" if span["failure"] else ""
                times = sum(1 for known in found if known.split(" #")[0] == name)
                found[f"{name} #{times + 1}" if times else name] = inside(span["number"])
        return found

    for span in others:
        assert span["took"] >= 0
        assert span["begun"] >= whole["begun"]
        assert span["begun"] + span["took"] <= whole["took"] + 0.01  # rounded
    return {whole["name"]: inside(whole["number"])}


def found(tree: Tree, name: str) -> Tree:
    """What is inside of the first span of this name, however deep it is."""
    for each, inside in tree.items():
        if each == name:
            return dict(inside)
        if deeper := _anywhere(inside, name):
            return deeper[0]
    raise AssertionError(f"{name} isn't in {tree}")


def _anywhere(tree: Tree, name: str) -> list[Tree]:
    here = [dict(inside) for each, inside in tree.items() if each == name]
    return here + [deeper for inside in tree.values() for deeper in _anywhere(inside, name)]


@contextmanager
def request(
    recorder: Recorder,
    correlation_id: str = "walk.1",
    traceparent: str = "",
    *,
    status: int = 200,
    took: float | None = None,
    path: str = "/events/1",
) -> Iterator[Trace]:
    """What runs inside is a request. `took` is in seconds, and told instead of the time that it takes."""
    trace = recorder.begin(correlation_id, traceparent, new_ids(), time.time(), tracing.now())
    with context.use(Context(correlation_id, trace=trace)):
        yield trace
    ended = tracing.now() if took is None else trace.begun + took
    recorder.end(trace, "GET", "/events/{id}", status, ended, path)
