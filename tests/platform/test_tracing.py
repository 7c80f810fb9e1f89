"""The spans of a request, and the trace that they belong to."""

import asyncio
import re
import time

import pytest

from eventboard.platform import context, tracing
from eventboard.platform.context import Context, new_ids
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.tracing import ATTEMPT, MOST, SLOW, STAYS, Attempt, Recorder, Span, Trace, parsed
from tests.support.traces import request

TRACE, SPAN = "a" * 32, "b" * 16


def recorded(recorder: Recorder, correlation_id: str = "walk.1") -> Trace:
    [trace] = recorder.find(correlation_id)
    return trace


def told(trace: Trace) -> list[tuple[str, str, str, str]]:
    """Of each span its name, that of the one around it, its detail and its failure."""
    return [
        (name, trace.spans[parent][0] if parent >= 0 else "", detail, failure)
        for parent, (name, _, _, detail, failure) in zip(trace.tree(), trace.spans, strict=True)
    ]


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
    with request(recorder, traceparent=text):
        pass
    assert recorded(recorder).parent == 0


def test_tree(recorder: Recorder) -> None:
    """Each span is inside of another by its time; the whole comes last, since it ends last."""
    with request(recorder), Span("outer", "detail"):
        with Span("inner"):
            pass
        with Span("second"):
            pass
    trace = recorded(recorder)
    assert told(trace) == [
        ("inner", "outer", "", ""),
        ("second", "outer", "", ""),
        ("outer", "Gateway", "detail", ""),
        ("Gateway", "", "", ""),
    ]
    for _, begun, end, _, _ in trace.spans:
        assert trace.begun <= begun <= end <= trace.spans[-1][2]
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
    with request(recorder), pytest.raises(type(error)), Span("failing"):
        raise error
    assert told(recorded(recorder)) == [("failing", "Gateway", "", failure), ("Gateway", "", "", "")]


def test_since(recorder: Recorder) -> None:
    """A span that is told of when it has ended; one that is too short isn't, where that is asked for."""
    with request(recorder):
        with Span("outer"):
            tracing.since(tracing.now(), "inner", "detail")
        tracing.since(tracing.now(), "short", least=60)
        tracing.since(tracing.now(), "failing", error=ValueError("secret"))
    assert told(recorded(recorder)) == [
        ("inner", "outer", "detail", ""),
        ("outer", "Gateway", "", ""),
        ("failing", "Gateway", "", "ValueError"),
        ("Gateway", "", "", ""),
    ]


async def test_work_of_its_own(recorder: Recorder) -> None:
    """What has a context of its own is in no trace, even where it runs while a span is under way."""

    async def work(name: str) -> None:
        with Span(name):
            await asyncio.sleep(0)
            with Span(f"in {name}"):
                await asyncio.sleep(0)

    async def elsewhere() -> None:
        with context.use(Context("other")):
            await work("elsewhere")

    with request(recorder):
        await asyncio.gather(work("a"), elsewhere())
    assert [name for name, *_ in told(recorded(recorder))] == ["in a", "a", "Gateway"]


async def test_requests_side_by_side(recorder: Recorder) -> None:
    """Each task has its own request, and its spans are in no other's trace."""

    async def one(name: str) -> None:
        with request(recorder, name), Span(name):
            await asyncio.sleep(0)
            with Span(f"in {name}"):
                await asyncio.sleep(0)

    await asyncio.gather(one("a"), one("b"))
    for name in "ab":
        assert [span[:2] for span in told(recorded(recorder, name))] == [
            (f"in {name}", name),
            (name, "Gateway"),
            ("Gateway", ""),
        ]


def test_outside_any_request() -> None:
    """Nothing is recorded, and nothing fails."""
    with Span("lonely"), Attempt(ATTEMPT, "1") as attempt:
        assert attempt.traceparent() == ""
        attempt.adopt("[]")
    tracing.since(0.0, "lonely")
    tracing.be("name", "detail")
    assert (tracing.trace_id(), tracing.reply()) == ("", b"")


def test_many_spans(recorder: Recorder) -> None:
    """A request that goes on and on is recorded up to a bound."""
    with request(recorder):
        for _ in range(2 * MOST):
            tracing.since(tracing.now(), "again")
            with Span("again"):
                pass
    assert [name for name, *_ in told(recorded(recorder))] == ["again"] * MOST + ["Gateway"]


def test_bounded_buffer(recorder: Recorder) -> None:
    """The last ones are kept; those nobody will ask about push none of them out."""
    for number in range(5):
        with request(recorder, f"walk.{number}", status=500):
            pass
    for _ in range(5):
        with request(recorder, "health", status=500, path="/health/ready"):
            pass
    assert [len(recorder.find(f"walk.{number}")) for number in range(5)] == [0, 0, 1, 1, 1]
    assert recorder.find("health") == []


def test_remarkable_ones() -> None:
    """What failed or was slow isn't pushed out by what was neither."""
    recorder = Recorder("Gateway", keep=2)
    for number in range(2):
        with request(recorder, "failed", status=500 + number):
            pass
        for _ in range(2):
            with request(recorder, "ordinary", took=0.0):
                pass
    assert [trace.status for trace in recorder.find("failed")] == [500, 501]
    with request(recorder, "slow", took=2 * SLOW):
        pass
    assert [len(recorder.find(name)) for name in ("failed", "slow", "ordinary")] == [1, 1, 2]


def test_more_in_ten_seconds_than_are_kept() -> None:
    """The first ones are kept, and those that are exported: the others would push each other out."""
    exported: list[bytes] = []
    recorder = Recorder("Gateway", keep=2, export=exported.append)
    for number in range(4):
        with request(recorder, str(number), took=0.0):
            pass
    assert [len(recorder.find(str(number))) for number in range(4)] == [1, 1, 0, 0]
    with request(recorder, "sampled", f"00-{TRACE}-{SPAN}-01", took=0.0):
        pass
    assert len(exported) == len(recorder.find("sampled")) == 1
    unexported = Recorder("Gateway", keep=1)
    for name in ("first", "sampled"):
        with request(unexported, name, f"00-{TRACE}-{SPAN}-01", took=0.0):
            pass
    assert [len(unexported.find(name)) for name in ("first", "sampled")] == [1, 0]
    with request(recorder, "later", took=0.0) as trace:
        trace.begun += STAYS
    assert len(recorder.find("later")) == 1


def test_reply_is_adopted() -> None:
    """A service's spans are inside of the attempt that they came back to, with the times they took."""
    there, here = Recorder("Events Service", keep=1), Recorder("Gateway", keep=1)
    with request(here), Span("Route to service"):
        with Attempt(ATTEMPT, "1") as lost:
            lost.traceparent()
        with Attempt(ATTEMPT, "2") as attempt:
            attempt.adopt(_reply_of(there, attempt.traceparent()).decode())
        with Span("after"):
            pass
    trace, far = recorded(here), recorded(there)
    assert [span[:3] for span in told(trace)] == [
        (ATTEMPT, "Route to service", "1"),
        ("Database query", "Events Service", "SELECT events.events"),
        ("Events Service", ATTEMPT, ""),
        (ATTEMPT, "Route to service", "2"),
        ("after", "Route to service", ""),
        ("Route to service", "Gateway", ""),
        ("Gateway", "", ""),
    ]
    ids = trace.ids()
    # What came back is exported by where it came from.
    assert ids.keys() == {0, 3, 4, 5, 6}
    assert len(set(ids.values())) == len(ids)
    assert (far.trace_id, far.parent) == (trace.trace_id, ids[3])


def _reply_of(recorder: Recorder, traceparent: str) -> bytes:
    with request(recorder, traceparent=traceparent):
        with Span("Database query", "SELECT events.events"):
            pass
        return tracing.reply()


@pytest.mark.parametrize(
    "reply",
    [
        *(None, "", "x", "[1]", '[["a"]]', "{}", "\xe4", "[" * 10_000),
        '[[1,-1,"of another version",0,1,"",""]]',
        '[["begun before it came",-1,1,"",""]]',
        f'[["never ended",0,1{"0" * 400},"",""]]',
    ],
)
def test_reply_that_cannot_be_read(recorder: Recorder, reply: str | None) -> None:
    """It is left alone: the answer that it came with is good."""
    with request(recorder), Attempt(ATTEMPT, "1") as attempt:
        attempt.adopt(reply)
    assert [name for name, *_ in told(recorded(recorder))] == [ATTEMPT, "Gateway"]


def test_reply_of_another_clock(recorder: Recorder) -> None:
    """Of a service that says it took longer than its answer, no span ends after the attempt."""
    with request(recorder), Attempt(ATTEMPT, "1") as attempt:
        attempt.adopt('[["Database query",3000000,9000000,"",""],["Events Service",0,9000000,"",""]]')
    assert [span[:2] for span in told(recorded(recorder))] == [
        ("Database query", "Events Service"),
        ("Events Service", ATTEMPT),
        (ATTEMPT, "Gateway"),
        ("Gateway", ""),
    ]


def test_reply_of_a_span_that_ended_before_it_began(recorder: Recorder) -> None:
    """It took no time, and is inside of the attempt."""
    with request(recorder) as trace, Attempt(ATTEMPT, "1") as attempt:
        attempt.adopt('[["Database query",9000000,1,"",""],["Events Service",0,9000000,"",""]]')
        timing = tracing.server_timing(trace, parts=True)
    assert b"db" not in timing
    assert [span[:2] for span in told(recorded(recorder))] == [
        ("Database query", "Events Service"),
        ("Events Service", ATTEMPT),
        (ATTEMPT, "Gateway"),
        ("Gateway", ""),
    ]


def test_server_timing(recorder: Recorder) -> None:
    """The whole, and each part with the sum of its spans that took a tenth of a millisecond; or the whole alone."""
    with request(recorder) as whole:
        now = time.perf_counter()
        whole.begun = now - 0.3
        for name, milliseconds in (
            ("Database query", 1.26),
            ("JWT validation", 0.049),
            ("Database commit", 0.5),
            ("Events Service", 150.04),
            ("of another version", 7),
        ):
            whole.spans.append((name, now, now + milliseconds / 1000, "", ""))
        every, alone = (tracing.server_timing(whole, parts=parts) for parts in (True, False))
    assert re.fullmatch(rb"gateway;dur=3\d\d\.\d, db;dur=1\.8, events;dur=150\.0", every)
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
        with request(recorder, traceparent=traceparent), Attempt(ATTEMPT, "1") as attempt:
            assert attempt.traceparent().endswith("-01" if is_sampled else "-00")
        assert bool(exported) is is_sampled
    some = Recorder("Gateway", keep=1, ratio=0.1, export=exported.append)
    exported.clear()
    for _ in range(4000):
        with request(some):
            pass
    # Five standard deviations of 4,000 such throws are 95.
    assert 305 < len(exported) < 495


def test_trace_id_of_a_request_that_begins_here(recorder: Recorder) -> None:
    """Without its dashes, the correlation id that EventBoard gave it."""
    ids = new_ids()
    trace = recorder.begin(ids.correlation_id, "", ids, time.time(), tracing.now())
    recorder.end(trace, "GET", "/", 200, tracing.now(), "/")
    assert recorded(recorder, ids.correlation_id).trace_id == ids.correlation_id.replace("-", "")


def test_ids_differ() -> None:
    """Traces and spans have ids of their own, none of zeros alone."""
    recorder = Recorder("Gateway", keep=200)
    for number in range(200):
        with request(recorder, str(number)):
            for _ in range(MOST // 2):
                with Span("again"), Attempt(ATTEMPT, "1") as attempt:
                    attempt.traceparent()
    traces = [recorded(recorder, str(number)) for number in range(200)]
    assert len({trace.trace_id for trace in traces} - {"0" * 32}) == 200
    assert len({id_ for trace in traces for id_ in trace.ids().values()} - {0}) == 200 * (MOST + 1)
