"""The spans of a request, and the trace that they belong to."""

import asyncio
import re
import time

import pytest

from eventboard.platform import tracing
from eventboard.platform.context import new_ids
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.tracing import MOST, Leaf, Recorder, Span, Trace, parsed

TRACE, SPAN = "a" * 32, "b" * 16


def recorded(recorder: Recorder, correlation_id: str = "walk.1") -> Trace:
    [trace] = recorder.find(correlation_id)
    return trace


def beginning(recorder: Recorder, correlation_id: str = "walk.1", traceparent: str = "") -> Trace:
    return recorder.begin(correlation_id, traceparent, new_ids(), tracing.now())


def ended(recorder: Recorder, whole: Trace, *, keep: bool = True) -> None:
    recorder.end(whole, "GET", "/events/{id}", 200, tracing.now(), keep=keep)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder("Gateway", keep=3)


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("form", ["00-{}-{}-{}", "01-{}-{}-{}", "cc-{}-{}-{}-what.ever"])
def test_traceparent(form: str, flags: str) -> None:
    """Continued, with its flag; a later version is read as far as it is known."""
    parent = parsed(form.format(TRACE, SPAN, flags))
    assert parent is not None
    assert (parent.trace_id, f"{parent.span_id:x}", parent.flags) == (TRACE, SPAN, int(flags))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-xx",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_no_traceparent(text: str) -> None:
    """Whoever sends this gets a trace that begins here."""
    assert parsed(text) is None
    recorder = Recorder("Gateway", keep=1)
    ended(recorder, beginning(recorder, traceparent=text))
    assert recorded(recorder).parent == 0


def test_tree(recorder: Recorder) -> None:
    """Each span knows what it is inside of; the whole is number 0 and comes last, since it ends last."""
    whole = beginning(recorder)
    with Span("outer", "detail"):
        with Span("inner"):
            pass
        with Span("second"):
            pass
    ended(recorder, whole)
    trace = recorded(recorder)
    assert [(number, parent, name, detail) for number, parent, name, _, _, detail, _ in trace.spans] == [
        (2, 1, "inner", ""),
        (3, 1, "second", ""),
        (1, 0, "outer", "detail"),
        (0, -1, "Gateway", ""),
    ]
    for _, _, _, begun, end, _, _ in trace.spans:
        assert trace.begun <= begun <= end <= trace.spans[-1][4]
    assert (trace.method, trace.route, trace.status) == ("GET", "/events/{id}", 200)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ServiceError(Code.NOT_FOUND, "Secret."), "not-found"),
        (ValueError("secret"), "ValueError"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
def test_failure(recorder: Recorder, error: BaseException, failure: str) -> None:
    """A span ends with an error's code or its class, and never with its words."""
    whole = beginning(recorder)
    with pytest.raises(type(error)), Span("failing"):
        raise error
    ended(recorder, whole)
    assert [(span[2], span[6]) for span in recorded(recorder).spans] == [("failing", failure), ("Gateway", "")]


def test_leaf(recorder: Recorder) -> None:
    """Nothing is inside of it. What is too short to be told is left out where that is asked for."""
    whole = beginning(recorder)
    with Span("outer"), Leaf("inner", "detail"):
        pass
    tracing.since(tracing.now(), "short", least=60)
    with pytest.raises(ValueError, match="secret"), Leaf("failing"):
        raise ValueError("secret")
    ended(recorder, whole)
    told = [
        (number, parent, name, detail, failure)
        for number, parent, name, _, _, detail, failure in recorded(recorder).spans
    ]
    assert told == [
        (2, 1, "inner", "detail", ""),
        (1, 0, "outer", "", ""),
        (3, 0, "failing", "", "ValueError"),
        (0, -1, "Gateway", "", ""),
    ]


async def test_apart(recorder: Recorder) -> None:
    """What is apart is in no trace, even where it runs while a span is under way."""

    async def work(name: str) -> None:
        with Span(name):
            await asyncio.sleep(0)
            with Span(f"in {name}"):
                await asyncio.sleep(0)

    async def elsewhere() -> None:
        with tracing.apart():
            await work("elsewhere")

    whole = beginning(recorder)
    await asyncio.gather(work("a"), elsewhere())
    ended(recorder, whole)
    names = {number: name for number, _, name, *_ in recorded(recorder).spans}
    inside = {name: names.get(parent) for _, parent, name, *_ in recorded(recorder).spans}
    assert inside == {"a": "Gateway", "in a": "a", "Gateway": None}


async def test_requests_side_by_side(recorder: Recorder) -> None:
    """Each task has its own request, and its spans are in no other's trace."""

    async def request(name: str) -> None:
        whole = beginning(recorder, name)
        with Span(name):
            await asyncio.sleep(0)
            with Span(f"in {name}"):
                await asyncio.sleep(0)
        ended(recorder, whole)

    await asyncio.gather(request("a"), request("b"))
    for name in "ab":
        told = [(number, parent, name) for number, parent, name, *_ in recorded(recorder, name).spans]
        assert told == [(2, 1, f"in {name}"), (1, 0, name), (0, -1, "Gateway")]


def test_outside_any_request() -> None:
    """Nothing is recorded, and nothing fails."""
    with Span("lonely") as span:
        assert span.traceparent() == ""
        span.adopt("[]")
    tracing.since(0.0, "lonely")
    tracing.be("name", "detail")
    assert (tracing.trace_id(), tracing.reply()) == ("", b"")


def test_many_spans(recorder: Recorder) -> None:
    """A request that goes on and on is recorded up to a bound."""
    whole = beginning(recorder)
    for _ in range(2 * MOST):
        with Span("again"), Span("inside"):
            pass
    ended(recorder, whole)
    assert len(recorded(recorder).spans) == MOST + 1


def test_bounded_buffer(recorder: Recorder) -> None:
    """The last ones are kept; those nobody will ask about push none of them out."""
    for number in range(5):
        ended(recorder, beginning(recorder, f"walk.{number}"))
    for _ in range(5):
        ended(recorder, beginning(recorder, "health"), keep=False)
    assert [len(recorder.find(f"walk.{number}")) for number in range(5)] == [0, 0, 1, 1, 1]
    assert recorder.find("health") == []


def test_reply_is_adopted() -> None:
    """A service's spans are inside of the attempt that they came back to, with the times they took."""
    there, here = Recorder("Events Service", keep=1), Recorder("Gateway", keep=1)
    whole = beginning(here)
    with Span("Attempt", "1") as attempt:
        traceparent = attempt.traceparent()
        task_of_there = _reply_of(there, traceparent)
        attempt.adopt(task_of_there.decode())
    with Span("after"):
        pass
    ended(here, whole)
    trace, far = recorded(here), recorded(there)
    assert (far.trace_id, far.parent) == (trace.trace_id, trace.id_of(1))
    by_name = {span[2]: span for span in (*trace.spans, *trace.remote)}
    assert by_name["Events Service"][1] == by_name["Attempt"][0]
    assert by_name["Database query"][1] == by_name["Events Service"][0]
    assert len({span[0] for span in by_name.values()}) == len(by_name)
    for name in ("Events Service", "Database query"):
        assert by_name["Attempt"][3] <= by_name[name][3] <= by_name[name][4] <= by_name["Attempt"][4]


def _reply_of(recorder: Recorder, traceparent: str) -> bytes:
    whole = beginning(recorder, traceparent=traceparent)
    with Span("Database query", "SELECT events.events"):
        pass
    reply = tracing.reply()
    ended(recorder, whole)
    return reply


@pytest.mark.parametrize("reply", [None, "", "x", "[1]", '[["a"]]', "{}", "\xe4", "[" * 10_000])
def test_reply_that_cannot_be_read(recorder: Recorder, reply: str | None) -> None:
    """It is left alone: the answer that it came with is good."""
    whole = beginning(recorder)
    with Span("Attempt") as attempt:
        attempt.adopt(reply)
    ended(recorder, whole)
    assert recorded(recorder).remote == []


def test_server_timing(recorder: Recorder) -> None:
    """The whole, and each part with the sum of its spans that took a tenth of a millisecond; or the whole alone."""
    whole = beginning(recorder)
    now = time.perf_counter()
    whole.begun = now - 0.3
    for number, (name, milliseconds) in enumerate(
        (
            ("Database query", 1.26),
            ("JWT validation", 0.049),
            ("Database commit", 0.5),
            ("Events Service", 150.04),
            ("of another version", 7),
        )
    ):
        whole.spans.append((number + 1, 0, name, now, now + milliseconds / 1000, "", ""))
    told, alone = (tracing.server_timing(whole, parts=parts) for parts in (True, False))
    ended(recorder, whole)
    assert re.fullmatch(rb"gateway;dur=3\d\d\.\d, db;dur=1\.8, events;dur=150\.0", told)
    assert re.fullmatch(rb"gateway;dur=3\d\d\.\d", alone)


def test_sampling() -> None:
    """By chance where the trace begins here, by the parent's flag where not; nothing else is exported."""
    exported: list[bytes] = []
    every, none = (Recorder("Gateway", keep=1, ratio=ratio, export=exported.append) for ratio in (1.0, 0.0))
    for recorder, traceparent, is_sampled in (
        (every, "", True),
        (none, "", False),
        (none, f"00-{TRACE}-{SPAN}-01", True),
        (every, f"00-{TRACE}-{SPAN}-00", False),
    ):
        exported.clear()
        whole = beginning(recorder, traceparent=traceparent)
        with Span("Attempt") as span:
            assert span.traceparent().endswith("-01" if is_sampled else "-00")
        ended(recorder, whole)
        assert bool(exported) is is_sampled
    some = Recorder("Gateway", keep=1, ratio=0.1, export=exported.append)
    exported.clear()
    for _ in range(4000):
        ended(some, beginning(some))
    # Five standard deviations of 4,000 such throws are 95.
    assert 305 < len(exported) < 495


def test_trace_id_of_a_request_that_begins_here(recorder: Recorder) -> None:
    """Without its dashes, the correlation id that EventBoard gave it."""
    ids = new_ids()
    ended(recorder, recorder.begin(ids.correlation_id, "", ids, tracing.now()))
    assert recorded(recorder, ids.correlation_id).trace_id == ids.correlation_id.replace("-", "")


def test_ids_differ() -> None:
    """Traces and spans have ids of their own, none of zeros alone."""
    recorder = Recorder("Gateway", keep=200)
    for number in range(200):
        ended(recorder, beginning(recorder, str(number)))
    traces = [recorded(recorder, str(number)) for number in range(200)]
    assert len({trace.trace_id for trace in traces} - {"0" * 32}) == 200
    assert len({trace.id_of(number) for trace in traces for number in range(MOST + 1)} - {0}) == 200 * (MOST + 1)
