"""Limits over HTTP, with two of the processes that clients reach."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from uuid import uuid4

import httpx
import pytest

from eventboard.modules.auth.limits import key_of
from tests.support import cluster as clusters
from tests.support.board import EVENT, PASSWORD, Board, Member, Organization
from tests.support.faces import NARROW, OFF, WRONG, Faces, at_once, near, next_address, statuses, two_faces
from tests.support.ports import free_port
from tests.support.problems import assert_problem
from tests.support.processes import serving
from tests.support.redis import RedisServer, needs_redis, redis_server


@pytest.fixture(scope="module")
def both(shape: str, cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    with two_faces(shape, cluster_url, tmp_path_factory.mktemp("limits")) as faces:
        yield faces


@pytest.fixture
def faces(both: Faces) -> Faces:
    both.age()
    return both


@pytest.fixture
def address() -> str:
    """Of a network that no other test has; `near` gives others of it."""
    return next_address()


def test_log_ins_of_one_address(faces: Faces, address: str) -> None:
    """Twenty go on, whatever became of them; another address isn't concerned; then it is over."""
    email = faces.organization.user.email
    for _ in range(20):
        assert faces.log_in(email, address).status_code == 200
    refused = faces.log_in(email, address)
    assert_problem(refused, "too-many-requests")
    assert (
        refused.json()["detail"]
        == "The limit login-by-address is used up: 20 in 60 s. Retry-After says when to try again."
    )
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert faces.log_in(email, near(address)).status_code == 200
    faces.age()
    assert faces.log_in(email, address).status_code == 200


def test_many_at_once_of_one_address(faces: Faces, address: str) -> None:
    """In two processes exactly twenty are tried; each for another account, so that no other limit counts."""
    answers = at_once([lambda: faces.log_in(f"{uuid4().hex}@example.com", address, WRONG)] * 30)
    assert statuses(answers) == {401: 20, 429: 10}


@pytest.mark.parametrize("known", [True, False], ids=["account", "no account"])
def test_wrong_passwords(faces: Faces, address: str, known: bool) -> None:
    """Exactly four are tried, of many at once, whether there is such an account or not; then not even the right one.

    From another address it is let in: a stranger can't lock anybody out.
    """
    email = faces.organization.user.email if known else f"{uuid4().hex}@example.com"
    assert statuses(at_once([lambda: faces.log_in(email, address, WRONG)] * 12)) == {401: 4, 429: 8}
    refused = faces.log_in(email, address)
    assert_problem(refused, "too-many-requests")
    assert (
        refused.json()["detail"]
        == "The limit login-failures is used up: 4 in 900 s. Retry-After says when to try again."
    )
    assert 0 < int(refused.headers["retry-after"]) <= 900
    assert faces.log_in(email, near(address)).status_code == (200 if known else 401)
    faces.age()
    assert faces.log_in(email, address).status_code == (200 if known else 401)


def test_right_password(faces: Faces, address: str) -> None:
    """It counts as no failure, however often; nor does it take back those that were."""
    email = faces.organization.user.email
    for password in (PASSWORD, WRONG) * 4:
        assert faces.log_in(email, address, password).status_code == (200 if password == PASSWORD else 401)
    assert_problem(faces.log_in(email, address), "too-many-requests")


def test_many_addresses_try_one_account(faces: Faces, address: str) -> None:
    """Six are tried, and then no new address; an address with a success of late still is, whatever strangers do."""
    email = faces.organization.user.email
    assert faces.log_in(email, address).status_code == 200
    strangers = [partial(faces.log_in, email, near(address, number), WRONG) for number in range(10)]
    assert statuses(at_once(strangers)) == {401: 6, 429: 4}
    refused = faces.log_in(email, near(address, 10))
    assert (
        refused.json()["detail"]
        == "The limit login-failures-by-account is used up: 6 in 3600 s. Retry-After says when to try again."
    )
    assert refused.headers["ratelimit"].count('"login-failures-by-account";r=0;t=') == 1
    assert faces.log_in(email, address).status_code == 200
    # There, wrong ones are counted as ever.
    assert statuses([faces.log_in(email, address, WRONG) for _ in range(5)]) == {401: 4, 429: 1}


def test_present_password(faces: Faces) -> None:
    """Whoever holds somebody's token may try four; then not even the right one changes it."""
    member = faces.boards[0].member(faces.organization.id, "USER")

    def change(current: str) -> httpx.Response:
        return member.http.post("/auth/password", json={"currentPassword": current, "newPassword": f"{PASSWORD} 2"})

    assert statuses([change(WRONG) for _ in range(4)]) == {403: 4}
    refused = change(PASSWORD)
    assert_problem(refused, "too-many-requests")
    assert (
        refused.json()["detail"]
        == "The limit password-failures is used up: 4 in 900 s. Retry-After says when to try again."
    )
    faces.age()
    assert change(PASSWORD).status_code == 204


def test_sign_ups(faces: Faces, address: str) -> None:
    """Three of an address are looked at, two of an e-mail address, of many at once."""
    body = {"password": PASSWORD, "firstName": "Nia", "lastName": "New", "organizationName": "Taken by nobody"}

    def sign_up(email: str, here: str) -> httpx.Response:
        return faces.post("/auth/signup", {**body, "email": email, "organizationName": uuid4().hex}, here)

    of_address = at_once([lambda: sign_up(f"{uuid4().hex}@example.com", address)] * 8)
    assert statuses(of_address) == {201: 3, 429: 5}
    email = f"{uuid4().hex}@example.com"
    of_email = at_once([partial(sign_up, email, near(address, number)) for number in range(6)])
    assert statuses(of_email) == {201: 1, 409: 1, 429: 4}
    told = [answer.headers["ratelimit"] for answer in of_email if answer.status_code != 429]
    # Of what an account has left nothing is told.
    assert all(re.fullmatch(r'"signup-by-address";r=2;t=\d+', text) for text in told), told


def test_refreshes(faces: Faces, address: str) -> None:
    """Three of a person, five of an address; a refused one has not spent its token."""

    def refresh(token: str, here: str) -> httpx.Response:
        return faces.post("/auth/refresh", {"refreshToken": token}, here)

    session = faces.log_in(faces.organization.user.email, address).json()
    for _ in range(3):
        answer = refresh(session["refreshToken"], address)
        assert answer.status_code == 200, answer.text
        session = answer.json()
    assert_problem(refresh(session["refreshToken"], near(address)), "too-many-requests")
    assert statuses(at_once([lambda: refresh("unknown", near(address, 1))] * 9)) == {401: 5, 429: 4}
    faces.age()
    assert refresh(session["refreshToken"], address).status_code == 200


def test_requests_of_a_user(faces: Faces) -> None:
    """Through two processes forty pass, and at most a block of five for each beyond; nobody else is concerned."""
    member = faces.boards[0].member(faces.organization.id, "USER")
    clients = [board.client(member.token) for board in faces.boards]
    answers = [client.get("/events") for client in itertools.islice(itertools.cycle(clients), 60)]
    assert set(statuses(answers)) == {200, 429}
    assert 40 - 2 * 5 <= statuses(answers)[200] <= 40 + 2 * 5
    assert_problem(answers[-1], "too-many-requests")
    assert answers[-1].headers["ratelimit-policy"] == '"user";q=40;w=60'
    assert re.fullmatch(r'"user";r=0;t=\d+', answers[-1].headers["ratelimit"])
    # Of whatever the user sends, and before anything else of it is looked at.
    assert_problem(clients[-1].post("/events", json={"nonsense": 1}), "too-many-requests")
    assert faces.boards[1].client(faces.organization.admin.token).get("/events").status_code == 200


def test_headers(faces: Faces, address: str) -> None:
    """On answers and problems where a limit applied, in the words of the IETF's draft; on no others."""
    admin = faces.organization.admin
    for answer in (
        admin.http.get("/auth/me"),
        admin.http.get(f"/events/{uuid4()}"),
        admin.http.post("/events", json={}),
        admin.http.post("/events", json=EVENT),
    ):
        assert answer.headers.get_list("ratelimit-policy") == ['"user";q=40;w=60']
        assert re.fullmatch(r'"user";r=\d+;t=\d+', answer.headers["ratelimit"])
    logged_in = faces.log_in(admin.email, address)
    assert logged_in.headers["ratelimit-policy"] == '"login-by-address";q=20;w=60, "login-failures";q=4;w=900'
    assert re.fullmatch(
        r'"login-by-address";r=19;t=(5\d|60), "login-failures";r=3;t=(89\d|900)', logged_in.headers["ratelimit"]
    )
    assert logged_in.json().keys() == {"user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    anonymous = faces.boards[0].client()
    for path in ("/auth/me", "/nowhere", "/health/live", "/.well-known/jwks.json", "/schema/openapi.json"):
        assert "ratelimit" not in anonymous.get(path).headers


def test_address_in_a_body(faces: Faces, address: str) -> None:
    """No client says where it comes from."""
    for path, body in (
        ("/auth/login", {"email": "a@example.com", "password": PASSWORD}),
        ("/auth/refresh", {"refreshToken": "x"}),
    ):
        answer = faces.post(path, {**body, "address": "192.0.2.1"}, address)
        assert_problem(answer, "invalid-request", "/address")


def test_spoofed_address(board: Board, organization: Organization) -> None:
    """Where no proxy is trusted, as it is by default, a connection's other end is what counts."""
    email, spoofed = organization.user.email, "203.0.113.77"
    for name, value in (("X-Forwarded-For", spoofed), ("Forwarded", f"for={spoofed}"), ("X-Real-IP", spoofed)):
        body = {"email": email, "password": PASSWORD}
        assert board.client().post("/auth/login", json=body, headers={name: value}).status_code == 200
    known = {row[0] for row in board.sql("SELECT key FROM auth.counters")}
    assert key_of("login-failures", email, "127.0.0.1") in known
    assert key_of("login-by-address", spoofed) not in known
    assert key_of("login-failures", email, spoofed) not in known


@pytest.fixture
def narrow_on(cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Board]]:
    """One process with these settings, on a database of its own."""
    with ExitStack() as stack:

        def start(**settings: str) -> Board:
            url = stack.enter_context(clusters.database(cluster_url))
            folder = tmp_path_factory.mktemp("narrow")
            board = Board(stack.enter_context(serving(url, folder, **{**NARROW, **settings})).url, url)
            stack.callback(board.close)
            return board

        yield start


@needs_redis
def test_redis(narrow_on: Callable[..., Board], address: str) -> None:
    """The same limits, counted there; when it is away, log-ins and sign-ups are refused, and all else goes on."""
    with redis_server() as server:
        board = narrow_on(LIMITS_STORE_URL=server.url)
        faces, organization = Faces([board]), board.organization()
        assert statuses(at_once([lambda: faces.log_in(organization.user.email, address, WRONG)] * 9)) == {
            401: 4,
            429: 5,
        }
        assert not board.sql("SELECT FROM auth.counters")
        assert statuses([organization.user.http.get("/events") for _ in range(60)]).keys() == {200, 429}
        session = faces.log_in(organization.other.email, address).json()
        _kill(server)
        assert_problem(faces.log_in(organization.other.email, address), "unavailable")
        body = {"email": "a@example.com", "password": PASSWORD, "firstName": "A", "lastName": "B"}
        assert_problem(faces.post("/auth/signup", {**body, "organizationName": "A"}, address), "unavailable")
        answer = faces.post("/auth/refresh", {"refreshToken": session["refreshToken"]}, address)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
        assert statuses([organization.admin.http.get("/events") for _ in range(60)]) == {200: 60}
        metrics = _metrics(board)
        assert metrics['eventboard_unlimited_total{limit="refresh-by-address"}'] == 1
        assert metrics['eventboard_unlimited_total{limit="user"}'] > 0
        assert metrics['eventboard_rejected_total{limit="login-failures"}'] == 5
        assert metrics['eventboard_rejected_total{limit="user"}'] > 0


def _kill(server: RedisServer) -> None:
    server.popen.kill()
    server.popen.wait()


def _metrics(board: Board) -> dict[str, float]:
    lines = board.client().get("/metrics").raise_for_status().text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_no_limits(narrow_on: Callable[..., Board], address: str) -> None:
    """0 turns each of them off: nothing is told of it, and nobody is asked, not even a store that isn't there."""
    board = narrow_on(**OFF, LIMITS_STORE_URL=f"redis://127.0.0.1:{free_port()}")
    faces, organization = Faces([board]), board.organization()
    member: Member = organization.user
    assert statuses([faces.log_in(member.email, address, WRONG) for _ in range(10)]) == {401: 10}
    answer = faces.log_in(member.email, address)
    assert answer.status_code == 200
    answers = [answer, *(member.http.get("/auth/me") for _ in range(60))]
    assert statuses(answers) == {200: 61}
    assert not any("ratelimit" in answer.headers for answer in answers)
