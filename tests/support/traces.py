"""The trees of a request, from the spans that its processes keep."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from eventboard.commands.trace import Span, read_spans
from tests.support.plain_http import NO_TLS

Tree = dict[str, Any]


class Traced(msgspec.Struct):
    """One request as one process served it; `spans` are its own and those inside it, the first to begin first."""

    whole: Span
    spans: list[Span]

    @property
    def trace_id(self) -> str:
        return self.whole.context.trace_id.removeprefix("0x")

    @property
    def status(self) -> Any:
        return self.whole.attributes["http.response.status_code"]

    @property
    def route(self) -> Any:
        return self.whole.attributes["http.route"]


def spans_of(urls: Sequence[str], correlation_id: str) -> list[Span]:
    """Every span that is kept under this id; the URLs are admin ports', or in development the main ones'."""
    found: dict[str, Span] = {}
    for url in urls:
        answer = httpx.get(f"{url}/debug/traces", params={"id": correlation_id}, verify=NO_TLS)
        assert answer.status_code == 200, answer.text
        found |= {span.context.span_id: span for span in read_spans(answer.content)}
    return sorted(found.values(), key=lambda span: span.start_time)


def traced(correlation_id: str, *urls: str) -> list[Traced]:
    """The requests under this id, as the first of the processes served them, with what the others know of them."""
    (first, *_) = urls
    wholes = [span for span in spans_of([first], correlation_id) if _whole(span, correlation_id)]
    spans = spans_of(urls, correlation_id)
    return [Traced(whole, _below(whole, spans)) for whole in wholes]


def _whole(span: Span, correlation_id: str) -> bool:
    return span.attributes.get("eventboard.correlation_id") == correlation_id


def _below(whole: Span, spans: Sequence[Span]) -> list[Span]:
    inside = {whole.context.span_id}
    found = [whole]
    for span in spans:
        if span.parent_id in inside:
            inside.add(span.context.span_id)
            found.append(span)
    return found


def tree(trace: Traced) -> Tree:
    """Steps inside of steps, in the order in which they began; a name that comes again has its number behind it.

    Which attempt it is, is part of its name. So is what it failed with.
    """

    def inside(of: Span) -> Tree:
        found: Tree = {}
        for span in trace.spans:
            if span.parent_id == of.context.span_id:
                name = _name(span)
                times = sum(1 for known in found if known.split(" #")[0] == name)
                found[f"{name} #{times + 1}" if times else name] = inside(span)
        return found

    return {_name(trace.whole, whole=True): inside(trace.whole)}


def _name(span: Span, *, whole: bool = False) -> str:
    name = span.step if span.step != "Attempt" else f"Attempt {span.attributes['eventboard.attempt']}"
    failure = "" if whole else span.attributes.get("error.type")
    return f"{name} ({failure})" if failure else name


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
