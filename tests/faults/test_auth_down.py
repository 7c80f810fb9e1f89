"""Auth is away. Whoever has a token works on; who needs auth is told to come back, and never that the token is bad."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx

from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.load import at_once, quickest, timed
from tests.support.problems import assert_problem
from tests.support.processes import address_of, spawned
from tests.support.services import Services
from tests.support.stopwatch import Stopwatch

# Seconds: each call's budget here, and how late an answer may be.
BUDGET, LATE = 2.0, 0.1


def test_valid_token(three: Services, organization: Organization) -> None:
    """Events work, at full speed; log-in is 503 inside the budget; the gateway goes on being ready."""
    event = organization.user.create()
    three.to_auth.refuse()
    user = organization.user.http
    for call in (
        quickest(lambda: user.post("/events", json=EVENT), LATE),
        quickest(lambda: user.get(f"/events/{event['id']}"), LATE),
        quickest(lambda: user.get("/events"), LATE),
    ):
        assert call.answer.is_success
        assert call.own < LATE
    assert httpx.get(f"{three.gateway.url}/health/ready").status_code == 200
    assert httpx.get(f"{three.gateway.url}/health").json()["parts"]["auth"]["status"] == "down"
    login = timed(lambda: user.post("/auth/login", json={"email": organization.user.email, "password": PASSWORD}))
    me = timed(lambda: user.get("/auth/me"))
    for call in (login, me):
        assert_problem(call.answer, "unavailable")
        assert call.answer.headers["retry-after"] == "1"
        assert call.own < BUDGET
    three.to_auth.mend()
    assert user.get("/auth/me").status_code == 200


def test_auth_hangs(three: Services, organization: Organization) -> None:
    """It takes nobody along: gateway and events each wait a quarter of a second to hear whether the caller stands."""
    three.to_auth.stall()
    written = timed(lambda: organization.user.http.post("/events", json=EVENT))
    assert written.status == 201
    assert written.own < 2 * 0.25 + LATE


def test_gateway_starts_without_auth(three: Services, organization: Organization) -> None:
    """It knows no keys: not ready, 503 for a valid token however many ask at once; and it recovers by itself."""
    three.to_auth.refuse()
    with fresh_gateway(three, organization.user) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        for call in at_once([lambda: client.get("/events")] * 20):
            assert_problem(call.answer, "unavailable")
            assert call.answer.headers["retry-after"] == "1"
            assert call.own < BUDGET + LATE
        three.to_auth.mend()
        mended = Stopwatch()
        while client.get("/health/ready").status_code != 200:
            assert mended.seconds < BUDGET
        assert client.get("/events").status_code == 200


def test_gateway_starts_while_auth_hangs(three: Services, organization: Organization) -> None:
    """The same, and no later than the budget."""
    three.to_auth.stall()
    with fresh_gateway(three, organization.user) as client:
        for call in at_once([lambda: client.get("/events")] * 20):
            assert_problem(call.answer, "unavailable")
            assert call.own < BUDGET + LATE


def test_events_starts_without_auth(three: Services, organization: Organization) -> None:
    """It knows no keys either, and says so instead of refusing the token."""
    event = organization.user.create()
    three.to_auth.refuse()
    three.events.stop()
    three.events.launch()
    asked = timed(lambda: organization.user.http.get(f"/events/{event['id']}"))
    assert_problem(asked.answer, "unavailable")
    assert asked.own < BUDGET + LATE
    three.to_auth.mend()
    assert organization.user.http.get(f"/events/{event['id']}").status_code == 200


@contextmanager
def fresh_gateway(three: Services, member: Member) -> Iterator[httpx.Client]:
    """The member's client of another gateway, which is up and not necessarily ready."""
    with (
        spawned(
            "serve", "--target", "gateway", **{**three.gateway.settings, "SERVER_PORT": "0", "SERVER_ADMIN_PORT": "0"}
        ) as gateway,
        closing(Board(address_of(gateway), three.database_url)) as board,
    ):
        yield board.client(member.token)
