"""How soon an end, or another role, is felt: on two gateways and two replicas of events, and while auth is away."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import cycle
from uuid import UUID, uuid4

import httpx
import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.modules.events.contract import Events, FindEvent
from tests.support import cluster as clusters
from tests.support.board import Board, Organization
from tests.support.problems import assert_problem
from tests.support.rpc import calling
from tests.support.services import Replicas, Services, replicas
from tests.support.shapes import CREDENTIAL
from tests.support.stopwatch import Stopwatch

# Seconds: promised.
WITHIN = 5.0


@pytest.fixture(scope="module")
def deployed(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("session-check")
    with clusters.database(cluster_url) as url, replicas(url, folder, events=2, gateways=2) as deployed:
        yield deployed


@pytest.fixture
def boards(deployed: Replicas) -> Iterator[list[Board]]:
    """The same board, by each of its gateways."""
    first, second = (Board(gateway.url, deployed.database_url) for gateway in deployed.gateways)
    with closing(first), closing(second):
        yield [first, second]


@pytest.fixture
def organization(boards: list[Board]) -> Organization:
    return boards[0].organization()


def demoted(organization: Organization) -> None:
    path = f"/members/{organization.moderator.id}"
    assert organization.admin.http.patch(path, json={"role": "USER"}).status_code == 200


def deactivated(organization: Organization) -> None:
    path = f"/members/{organization.moderator.id}"
    assert organization.admin.http.patch(path, json={"active": False}).status_code == 200


def logged_out_everywhere(organization: Organization) -> None:
    assert organization.moderator.http.post("/auth/logout-all").status_code == 204


Change = Callable[[Organization], None]
CHANGES = (demoted, deactivated, logged_out_everywhere)
# Whether a replica lets the moderator see a draft of somebody else's.
Look = Callable[[], Awaitable[bool]]


@pytest.mark.parametrize("change", CHANGES)
async def test_every_replica(deployed: Replicas, organization: Organization, change: Change) -> None:
    """Refused by each gateway, and by each replica of events that is asked past them, within five seconds."""
    draft = organization.user.create()["id"]
    async with looks(deployed, organization.moderator.token, UUID(draft)) as every:
        for _ in range(2):
            assert [await look() for look in every.values()] == [True] * 4
        change(organization)
        changed, felt = Stopwatch(), dict[str, float]()
        while felt.keys() != every.keys():
            for name in every.keys() - felt.keys():
                if not await every[name]():
                    felt[name] = changed.seconds
            assert changed.seconds < WITHIN, f"still let in by {every.keys() - felt.keys()}"
        assert [await look() for look in every.values()] == [False] * 4
    print(f"{change.__name__}: felt after", {name: round(felt[name], 2) for name in sorted(felt)}, "s")


@asynccontextmanager
async def looks(deployed: Replicas, token: str, event_id: UUID) -> AsyncIterator[dict[str, Look]]:
    async with AsyncExitStack() as stack:
        found: dict[str, Look] = {}
        for number, gateway in enumerate(deployed.gateways, start=1):
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.url))
            found[f"gateway {number}"] = through(client, token, event_id)
        for number, service in enumerate(deployed.events, start=1):
            events, _ = await stack.enter_async_context(calling(Events, [service.url], credential=CREDENTIAL))
            found[f"events {number}"] = past(events, token, event_id)
        yield found


def through(client: httpx.AsyncClient, token: str, event_id: UUID) -> Look:
    async def look() -> bool:
        answer = await client.get(f"/events/{event_id}", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code in (200, 401, 404), answer.text
        return answer.status_code == 200

    return look


def past(events: Events, token: str, event_id: UUID) -> Look:
    async def look() -> bool:
        try:
            await events.find_one(FindEvent(actor=token, event_id=event_id))
        except ServiceError as error:
            if error.code not in (Code.INVALID_TOKEN, Code.NOT_FOUND):
                raise
            return False
        return True

    return look


@pytest.mark.parametrize(("change", "code"), [(demoted, "forbidden"), (deactivated, "invalid-token")])
def test_same_key_afterwards(boards: list[Board], organization: Organization, change: Change, code: str) -> None:
    """What was written with a key before isn't told again to who may not write it now, on any gateway."""
    event = organization.event_in("SUBMITTED")
    key = {"idempotency-key": uuid4().hex}
    clients = [board.client(organization.moderator.token) for board in boards]
    for client, status in zip(clients, ("executed", "replayed"), strict=True):
        answer = client.post(f"/events/{event['id']}/approve", headers=key)
        assert (answer.status_code, answer.headers["idempotency-status"]) == (200, status)
    change(organization)
    changed = Stopwatch()
    refused = 0
    # In turns by each gateway, which ask the replicas of events in turns.
    for client in cycle(clients):
        answer = client.post(f"/events/{event['id']}/approve", headers=key)
        if answer.status_code == 200:
            assert changed.seconds < WITHIN
            refused = 0
            continue
        assert_problem(answer, code)
        assert "idempotency-status" not in answer.headers
        refused += 1
        if refused == 8:
            break


def test_auth_is_away(three: Services, board: Board) -> None:
    """What was known last holds, older than it may be otherwise; of whom nothing is known, the token says it."""
    organization, unseen = board.organization(), board.organization()
    draft, unseen_draft = organization.user.create()["id"], unseen.user.create()["id"]
    moderator = organization.moderator.http
    assert moderator.get(f"/events/{draft}").status_code == 200
    demoted(organization)
    began = Stopwatch()
    while moderator.get(f"/events/{draft}").status_code != 404:
        assert began.seconds < WITHIN
    demoted(unseen)
    three.to_auth.refuse()
    away = time.monotonic()
    # Nobody has asked for the other one since the answers of their log-in, which no gateway was told.
    assert unseen.moderator.http.get(f"/events/{unseen_draft}").status_code == 200
    while time.monotonic() < away + WITHIN + 1:
        assert moderator.get(f"/events/{draft}").status_code == 404
    three.to_auth.mend()
    began = Stopwatch()
    while unseen.moderator.http.get(f"/events/{unseen_draft}").status_code != 404:
        assert began.seconds < WITHIN
