"""Auth is slow, and answers: what was meant to be short must not close the way to it for what has more time."""

import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.load import at_once, timed
from tests.support.problems import assert_problem
from tests.support.services import Services, services
from tests.support.stopwatch import Stopwatch

# Seconds: more than a session check is waited for, and far less than a log-in may take.
SLOW = 0.3
# Seconds: the budget of a call here, how late an answer may be, and how soon a change takes effect.
BUDGET, LATE, WITHIN = 2.0, 0.1, 5.0
# Requests of a user, and how many are counted together.
MOST, BLOCK = 60, 10


@pytest.fixture(scope="module")
def own(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """With the breaker that production has."""
    budgets = {f"BUDGETS_{kind}": str(BUDGET) for kind in ("AUTH", "READ", "LIST", "WRITE")}
    folder = tmp_path_factory.mktemp("slow-auth")
    with (
        clusters.database(cluster_url) as url,
        services(url, folder, LIMITS_REQUESTS=str(MOST), LIMITS_BLOCK=str(BLOCK), **budgets) as three,
    ):
        yield three


@pytest.fixture
def three(own: Services) -> Iterator[Services]:
    yield own
    own.mend()


def log_in(member: Member) -> httpx.Response:
    return member.http.post("/auth/login", json={"email": member.email, "password": PASSWORD})


def breaker(three: Services) -> str:
    state: str = httpx.get(f"{three.gateway.url}/health").json()["parts"]["auth"]["breaker"]
    return state


def test_log_in_beside_session_checks(three: Services, board: Board, organization: Organization) -> None:
    """Session checks and limit leases that come too late for their requests are no evidence against auth."""
    user = organization.user
    tokens = [log_in(user).json()["accessToken"] for _ in range(30)]
    clients = [board.client(token) for token in tokens]
    three.to_auth.delay = SLOW
    # Each session is asked about by the gateway and by events, and each 15 requests of their user take a block.
    calls = at_once([partial(client.get, "/events") for client in clients])
    assert {call.status for call in calls} == {200}
    logged_in = timed(lambda: log_in(user))
    assert logged_in.status == 200
    assert logged_in.seconds >= SLOW
    assert logged_in.own < BUDGET
    assert breaker(three) == "closed"


def test_change_takes_effect(three: Services, organization: Organization) -> None:
    """An answer that its request didn't wait for counts for the next one: a slow auth keeps nobody in."""
    draft, moderator = organization.admin.create()["id"], organization.moderator.http
    three.to_auth.delay = SLOW
    assert moderator.get(f"/events/{draft}").status_code == 200
    path = f"/members/{organization.moderator.id}"
    assert organization.admin.http.patch(path, json={"role": "USER"}).status_code == 200
    began = Stopwatch()
    while (answer := moderator.get(f"/events/{draft}")).status_code != 404:
        assert answer.status_code == 200
        assert began.seconds < WITHIN
        time.sleep(0.1)  # the limit would be used up


def test_limit_is_counted(three: Services, organization: Organization) -> None:
    """A block that its request didn't wait for counts for the next ones."""
    three.to_auth.delay = SLOW
    begun, codes = Stopwatch(), list[int]()
    while 429 not in codes:
        codes.append(organization.user.http.get("/events").status_code)
        assert begun.seconds < WITHIN
    assert codes.count(200) <= MOST + BLOCK


def test_waits_before_a_call_are_part_of_its_budget(three: Services, organization: Organization) -> None:
    """Auth hangs: the session check is waited for, a block of the limit, then the call; all within the one budget."""
    user = organization.user
    three.to_auth.stall()
    for call in at_once([lambda: user.http.get("/auth/me")] * 15):
        assert_problem(call.answer, "deadline-exceeded")
        assert call.seconds >= BUDGET - LATE
        assert call.own <= BUDGET + LATE


def test_hung_auth_opens_the_breaker(three: Services, board: Board, organization: Organization) -> None:
    """What gets no answer within its own budget is evidence: then nobody waits any more, and it closes by itself."""
    user = organization.user
    clients = [board.client(log_in(user).json()["accessToken"]) for _ in range(20)]
    three.to_auth.stall()
    begun = Stopwatch()
    # While it is open they are answered at once, but for a few that probe. The log-ins before were answers.
    while 503 not in {call.status for call in at_once([lambda: log_in(user)] * 5)}:
        at_once([partial(client.get, "/events") for client in clients])
        assert begun.seconds < 12
    three.mend()
    mended = Stopwatch()
    while log_in(user).status_code != 200:
        assert mended.seconds < 5
