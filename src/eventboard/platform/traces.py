"""What operators are told of the requests that are kept, at `/debug/traces?id=<correlation id>`."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from eventboard.platform.admin import JSON, Answer, Page, Query
from eventboard.platform.tracing import Recorder, Trace

PATH = "/debug/traces"
# The parameter of the query: a correlation id.
ID = "id"


class ToldSpan(Struct, frozen=True, rename="camel"):
    """Times are in milliseconds, from the begin of the request. `parent` is a number; that of the whole is -1."""

    number: int
    parent: int
    name: str
    begun: float
    took: float
    detail: str
    failure: str


class ToldTrace(Struct, frozen=True, rename="camel"):
    """`at` is in Unix seconds. `spans` begin with the whole, and stand in the order in which they began."""

    correlation_id: str
    trace_id: str
    at: float
    method: str
    route: str
    status: int
    spans: list[ToldSpan]


read_traces = msgspec.json.Decoder(list[ToldTrace]).decode


def trace_pages(recorder: Recorder) -> dict[str, Page]:
    async def answer(query: Query) -> Answer:
        found = recorder.find(query.get(ID, ""))
        return Answer(msgspec.json.encode([_told(trace) for trace in found]), JSON)

    return {PATH: Page(answer, _merged)}


def _merged(bodies: Sequence[bytes]) -> Answer:
    traces = [trace for body in bodies for trace in read_traces(body)]
    return Answer(msgspec.json.encode(sorted(traces, key=lambda trace: trace.at)), JSON)


def _told(trace: Trace) -> ToldTrace:
    spans = [
        ToldSpan(place, parent, name, _milliseconds(begun - trace.begun), _milliseconds(ended - begun), detail, failure)
        for place, (parent, (name, begun, ended, detail, failure)) in enumerate(
            zip(trace.tree(), trace.spans, strict=True)
        )
    ]
    spans.sort(key=lambda span: (span.parent >= 0, span.begun))
    return ToldTrace(trace.correlation_id, trace.trace_id, trace.at, trace.method, trace.route, trace.status, spans)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
