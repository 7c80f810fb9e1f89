"""What is between the gateway and events forgets their connections, as a router does: no end, no reset."""

from tests.support.board import EVENT, Organization
from tests.support.load import at_once
from tests.support.services import Services

# As many as were used at once before.
CONNECTIONS = 12


def test_one_request_at_most(three: Services, organization: Organization) -> None:
    """The first call that gets no answer takes the other idle connections with it."""
    event = organization.user.create()

    def read() -> int:
        return organization.user.http.get(f"/events/{event['id']}").status_code

    at_once([lambda: organization.user.http.get("/events")] * CONNECTIONS)
    assert three.to_events.open > 1
    three.to_events.swallow()
    answers = [read() for _ in range(CONNECTIONS)]
    assert answers.count(504) <= 1
    assert answers.count(200) >= CONNECTIONS - 1


def test_write(three: Services, organization: Organization) -> None:
    """Nothing is written twice, nor is it said that it wasn't."""
    at_once([lambda: organization.user.http.get("/events")] * CONNECTIONS)
    three.to_events.swallow()
    created = [organization.user.http.post("/events", json=EVENT).status_code for _ in range(3)]
    assert created in ([504, 201, 201], [201, 201, 201])
    assert organization.user.http.get("/events").json()["meta"]["total"] == created.count(201)
