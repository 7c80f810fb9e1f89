"""Limits that somebody else fills: they stop who fills them, and nobody else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.board import PASSWORD, Board
from tests.support.faces import NARROW, WRONG, Faces, at_once, near, next_address, statuses, two_faces
from tests.support.problems import assert_problem
from tests.support.processes import Process, logged_so_far, serving
from tests.support.redis import needs_redis, redis_server


@pytest.fixture(scope="module")
def both(shape: str, cluster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    with two_faces(shape, cluster_url, tmp_path_factory.mktemp("lockouts")) as faces:
        yield faces


@pytest.fixture
def faces(both: Faces) -> Faces:
    both.age()
    return both


@pytest.fixture
def address() -> str:
    return next_address()


def some_email() -> str:
    return f"{uuid4().hex}@example.com"


def sign_up(faces: Faces, address: str, email: str, **fields: Any) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, "firstName": "Nia", "lastName": "New", **fields}
    return faces.post("/auth/signup", body, address)


IMPOSSIBLE: dict[str, tuple[dict[str, Any], int]] = {
    "unknown field": ({"organizationName": "A", "nonsense": 1}, 400),
    "common password": ({"organizationName": "A", "password": "password1"}, 400),
    "no name": ({"organizationName": "!"}, 400),
    "two choices": ({"organizationName": "A", "organizationId": str(uuid4())}, 400),
    "no organization": ({"organizationId": str(uuid4())}, 403),
    "closed": ({"organizationId": "closed"}, 403),
    "taken": ({"organizationName": "taken"}, 409),
    "no invitation": ({"invitationToken": "nonsense"}, 403),
    "somebody else's": ({"invitationToken": "somebody else's"}, 403),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_sign_ups_that_cannot_succeed(faces: Faces, address: str, case: str) -> None:
    """With somebody's e-mail address, from anywhere, as many as you like: they don't use up that address' sign-ups."""
    wrong, status = IMPOSSIBLE[case]
    theirs = faces.organization
    other = theirs.admin.http.post("/invitations", json={"email": some_email(), "role": "USER"}).json()
    real = {"closed": str(theirs.id), "taken": theirs.name, "somebody else's": other["token"]}
    fields = {name: real.get(value, value) for name, value in wrong.items()}
    email = some_email()
    strangers = [sign_up(faces, near(address, number), email, **fields) for number in range(4)]
    assert statuses(strangers) == {status: 4}
    assert sign_up(faces, near(address, 9), email, organizationName=uuid4().hex).status_code == 201


def test_owner_shares_an_address(faces: Faces, address: str) -> None:
    """Others at the same address use up its log-ins: whoever logged in from there recently has as many of their own."""
    owner, other = faces.organization.user.email, faces.organization.other.email
    assert faces.log_in(owner, address).status_code == 200
    assert statuses([faces.log_in(some_email(), address, WRONG) for _ in range(20)]) == {401: 19, 429: 1}
    for _ in range(19):
        assert faces.log_in(owner, address).status_code == 200
    assert (
        faces.log_in(other, address).json()["detail"]
        == "The limit login-by-address is used up: 20 in 60 s. Retry-After says when to try again."
    )
    assert_problem(faces.log_in(owner, address), "too-many-requests")


def test_everything_at_once_against_an_owner(faces: Faces) -> None:
    """The address, its network and the account are all used up by strangers; the owner at a known address gets in."""
    owner, home = faces.organization.user.email, "2001:db8:1:1::1"
    assert faces.log_in(owner, home).status_code == 200
    strangers = [partial(faces.log_in, owner, f"2001:db8:{2 + number:x}::1", WRONG) for number in range(8)]
    assert statuses(at_once(strangers)) == {401: 6, 429: 2}
    crowd = [partial(faces.log_in, some_email(), home, WRONG) for _ in range(20)]
    crowd += [partial(faces.log_in, some_email(), "2001:db8:1:2::1", WRONG) for _ in range(20)]
    crowd += [partial(faces.log_in, some_email(), f"2001:db8:1:3:{number:x}::1", WRONG) for number in range(10)]
    assert statuses(at_once(crowd))[429] >= 10
    in_network = faces.log_in(some_email(), "2001:db8:1:4::1")
    assert (
        in_network.json()["detail"]
        == "The limit login-by-network is used up: 40 in 60 s. Retry-After says when to try again."
    )
    assert faces.log_in(owner, home).status_code == 200
    assert faces.log_in(some_email(), "2001:db8:ffff::1").status_code == 401


def test_sign_ups_of_a_network(faces: Faces) -> None:
    """Another /64 of the same /48 for each: six are looked at, as the network has twice what an address has."""
    calls = [
        partial(sign_up, faces, f"2001:db8:aaaa:{n:x}::1", some_email(), organizationId=str(uuid4())) for n in range(9)
    ]
    assert statuses(at_once(calls)) == {403: 6, 429: 3}
    assert sign_up(faces, "2001:db8:aaab::1", some_email(), organizationId=str(uuid4())).status_code == 403


def test_forms_of_one_address(faces: Faces) -> None:
    """An IPv4 address is counted as one however it is carried: who writes it otherwise has no more tries."""
    forms = [
        "198.18.0.9",
        "::ffff:198.18.0.9",
        "::198.18.0.9",
        "::ffff:0:198.18.0.9",
        "64:ff9b::198.18.0.9",
        "64:ff9b:1::198.18.0.9",
        "64:ff9b:1:c612:0:900::",
        "2002:c612:9::1",
        "2002:c612:9:ffff::1",
        # Teredo hides it: each bit is turned.
        "2001:0:c000:201::39ed:fff6",
    ]
    email = some_email()
    answers = [faces.log_in(email, form, WRONG) for form in forms]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * (len(forms) - 4)


def test_successful_log_ins(faces: Faces, address: str) -> None:
    """Thirty of one account, from however many addresses: each costs a hash. Wrong ones of others don't count."""
    email = faces.organization.other.email
    assert statuses([faces.log_in(email, near(address, number), WRONG) for number in range(5)]) == {401: 5}
    several = [partial(faces.log_in, email, near(address, number)) for number in range(16)]
    assert statuses([log_in() for log_in in several]) == {200: 16}
    assert statuses(at_once(several[:14])) == {200: 14}
    answers = [log_in() for log_in in several[:2]]
    assert statuses(answers) == {429: 2}
    assert (
        answers[-1].json()["detail"]
        == "The limit login-by-account is used up: 30 in 60 s. Retry-After says when to try again."
    )


def test_successful_password_changes(faces: Faces, address: str) -> None:
    """Five of one account, eight of one address, whatever becomes of them: each costs two hashes."""
    members = [faces.boards[0].member(faces.organization.id, "USER") for _ in range(3)]
    passwords = dict.fromkeys(range(3), (PASSWORD, f"{PASSWORD} too"))

    def change(number: int, here: str, wrong: str = "") -> httpx.Response:
        current, new = passwords[number]
        body = {"currentPassword": wrong or current, "newPassword": new}
        answer = members[number].http.post("/auth/password", json=body, headers={"x-forwarded-for": here})
        if answer.status_code == 204:
            passwords[number] = new, current
        return answer

    of_account = [change(0, near(address, number)) for number in range(7)]
    assert statuses(of_account) == {204: 5, 429: 2}
    assert (
        of_account[-1].json()["detail"]
        == "The limit password-by-account is used up: 5 in 900 s. Retry-After says when to try again."
    )
    of_address = [change(1 + number % 2, address, WRONG if number < 4 else "") for number in range(10)]
    assert statuses(of_address) == {403: 4, 204: 4, 429: 2}
    assert (
        of_address[-1].json()["detail"]
        == "The limit password-by-address is used up: 8 in 60 s. Retry-After says when to try again."
    )


@pytest.fixture
def alone(cluster_url: str, tmp_path: Path) -> Iterator[Callable[..., tuple[Process, Faces]]]:
    """One process with these settings, on a database of its own."""
    with ExitStack() as stack:

        def start(**settings: str) -> tuple[Process, Faces]:
            url = stack.enter_context(clusters.database(cluster_url))
            process = stack.enter_context(serving(url, tmp_path, **{**NARROW, **settings}))
            board = Board(process.url, url)
            stack.callback(board.close)
            faces = Faces([board])
            faces.organization = board.organization()
            faces.age()
            return process, faces

        yield start


def test_proxy_that_is_not_trusted(alone: Callable[..., tuple[Process, Faces]]) -> None:
    """One client behind it doesn't use up the log-ins of all, and the log says once what to set.

    Who sends no such header is counted by its address.
    """
    process, faces = alone(SERVER_TRUSTED_PROXIES="")
    client = faces.boards[0].client()
    assert "trusted_proxies" not in logged_so_far(process)

    def log_in(email: str, **headers: str) -> httpx.Response:
        body = {"email": email, "password": PASSWORD}
        return client.post("/auth/login", json=body, headers=headers)

    for headers in ({"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}, {"X-Real-IP": "203.0.113.9"}):
        assert statuses([log_in(some_email(), **headers) for _ in range(21)]) == {401: 21}
        assert log_in(faces.organization.user.email, **headers).status_code == 200
    assert statuses([log_in(some_email()) for _ in range(25)]) == {401: 20, 429: 5}
    assert process.stop() == 0
    (warning,) = [line for line in process.output.splitlines() if "trusted_proxies" in line]
    for part in ("WARNING", "127.0.0.1 sends the header x-forwarded-for", "EVENTBOARD_SERVER_TRUSTED_PROXIES"):
        assert part in warning


def test_trusted_proxy_that_does_not_say(faces: Faces) -> None:
    """Its own address isn't a client's: nobody is counted by it."""
    for headers in ({}, {"X-Forwarded-For": "unknown"}, {"Forwarded": "for=203.0.113.9"}):
        client = faces.boards[0].client()
        answers = [client.post("/auth/refresh", json={"refreshToken": "x"}, headers=headers) for _ in range(8)]
        assert statuses(answers) == {401: 8}


@needs_redis
def test_in_redis(alone: Callable[..., tuple[Process, Faces]], address: str) -> None:
    """The same limits, counted there."""
    with redis_server() as server:
        _, faces = alone(LIMITS_STORE_URL=server.url)
        server.age()
        owner, other = faces.organization.user.email, faces.organization.other.email
        assert faces.log_in(owner, address).status_code == 200
        assert statuses([faces.log_in(some_email(), address, WRONG) for _ in range(20)]) == {401: 19, 429: 1}
        assert faces.log_in(owner, address).status_code == 200
        assert_problem(faces.log_in(other, address), "too-many-requests")
        answers = [faces.log_in(other, near(address, number)) for number in range(32)]
        assert statuses(answers) == {200: 30, 429: 2}
