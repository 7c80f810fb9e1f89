"""What a trace says of trouble between the processes."""

from uuid import uuid4

from tests.support.board import EVENT, Organization
from tests.support.services import Services
from tests.support.traces import found, told, tree


def test_create_with_two_retries(three: Services, organization: Organization) -> None:
    """Each attempt, and each wait, has a span of its own; the service's share is in the one that was answered."""
    correlation_id = str(uuid4())
    three.to_events.cut(times=2)
    headers = {"X-Correlation-ID": correlation_id}
    assert organization.user.http.post("/events", json=EVENT, headers=headers).status_code == 201
    [trace] = told(three.gateway.url, correlation_id)
    call = found(tree(trace), "Route to service")
    assert list(call) == ["Attempt 1 (LostError)", "Wait", "Attempt 2 (LostError)", "Wait #2", "Attempt 3"]
    assert call["Attempt 1 (LostError)"] == {}
    # The first one did it; the third was told what it came to.
    assert list(call["Attempt 3"]) == ["Events Service"]
    assert "Idempotency record" not in call["Attempt 3"]["Events Service"]
    first, second = (span["took"] for span in trace["spans"] if span["name"] == "Wait")
    assert 180 <= first < 300
    assert 360 <= second < 480
    # The service has a tree of its own for each attempt that reached it, all of them in the client's trace.
    shares = told(three.events.url, correlation_id)
    assert len(shares) == 3
    assert {share["traceId"] for share in shares} == {trace["traceId"]}
    assert "Idempotency record" in tree(shares[0])["Events Service"]


def test_service_that_is_away(three: Services, organization: Organization) -> None:
    """The attempts are told though nobody answered any; the answer's Server-Timing tells the waits."""
    correlation_id = str(uuid4())
    three.to_events.refuse()
    answer = organization.user.http.get(f"/events/{uuid4()}", headers={"X-Correlation-ID": correlation_id})
    assert answer.status_code == 503
    assert ", wait;dur=" in answer.headers["server-timing"]
    [trace] = told(three.gateway.url, correlation_id)
    call = found(tree(trace), "Route to service (unavailable)")
    failed = [f"Attempt {number} (NeverReachedError)" for number in (1, 2, 3, 4)]
    assert [name for name in call if name.startswith("Attempt")] == failed[: len(call) // 2 + 1]
    assert len(call) >= 5
