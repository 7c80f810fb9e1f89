"""What a trace says of trouble between the processes."""

from uuid import uuid4

from tests.support.board import EVENT, Organization
from tests.support.services import Services
from tests.support.traces import found, traced, tree


def test_create_with_two_retries(three: Services, organization: Organization) -> None:
    """Each attempt, and each wait, has a span of its own, and so has the service's work for each attempt."""
    correlation_id = str(uuid4())
    three.to_events.cut(times=2)
    headers = {"X-Correlation-ID": correlation_id}
    assert organization.user.http.post("/events", json=EVENT, headers=headers).status_code == 201
    [trace] = traced(correlation_id, three.gateway.url, three.events.url)
    call = found(tree(trace), "Route to service")
    assert list(call) == ["Attempt 1 (LostError)", "Wait", "Attempt 2 (LostError)", "Wait #2", "Attempt 3"]
    # The first one did it; the third was given the stored outcome.
    assert "Idempotency record" in call["Attempt 1 (LostError)"]["Events Service"]
    assert "Idempotency record" not in call["Attempt 3"]["Events Service"]
    first, second = (span.milliseconds for span in trace.spans if span.step == "Wait")
    assert 180 <= first < 300
    assert 360 <= second < 480
    assert {span.context.trace_id for span in trace.spans} == {f"0x{trace.trace_id}"}


def test_service_that_is_away(three: Services, organization: Organization) -> None:
    """The attempts are recorded though nobody answered any; the answer's Server-Timing shows the waits."""
    correlation_id = str(uuid4())
    three.to_events.refuse()
    answer = organization.user.http.get(f"/events/{uuid4()}", headers={"X-Correlation-ID": correlation_id})
    assert answer.status_code == 503
    assert ", wait;dur=" in answer.headers["server-timing"]
    [trace] = traced(correlation_id, three.gateway.url)
    call = found(tree(trace), "Route to service (unavailable)")
    failed = [f"Attempt {number} (NeverReachedError)" for number in (1, 2, 3, 4)]
    assert [name for name in call if name.startswith("Attempt")] == failed[: len(call) // 2 + 1]
    assert len(call) >= 5
