"""Signing keys that are removed, changed, lost or stolen, while everything runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from eventboard.core.errors import Code, ServiceError
from eventboard.modules.auth import keys
from eventboard.modules.events.contract import EventQuery, Events, FindEvents
from tests.support import cluster as clusters
from tests.support.board import PASSWORD, Board, Member, Organization
from tests.support.problems import assert_problem
from tests.support.rpc import calling
from tests.support.shapes import CREDENTIAL, Deployment, deployed
from tests.support.stopwatch import Stopwatch

# Seconds between two times that each process asks for the keys; and within which auth has seen the folder besides.
REFRESH = 0.5
WITHIN = REFRESH + keys.READ_EVERY + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing-keys")


@pytest.fixture(scope="module")
def deployment(cluster_url: str, shape: str, folder: Path) -> Iterator[Deployment]:
    key_file = folder / shape
    settings = {"TOKENS_KEY_FILE": str(key_file), "TOKENS_KEYS_REFRESH": str(REFRESH), "TOKENS_LIFETIME": "600"}
    with clusters.database(cluster_url) as url, deployed(shape, url, folder, **settings) as found:
        yield found


@pytest.fixture
def key_folder(folder: Path, shape: str) -> Path:
    return folder / shape


@pytest.fixture
def board(deployment: Deployment) -> Iterator[Board]:
    with closing(Board(deployment.public.url, deployment.database_url)) as board:
        yield board


def until(happened: Callable[[], bool]) -> None:
    waited = Stopwatch()
    while not happened():
        assert waited.seconds < WITHIN
        time.sleep(0.02)  # between two looks at other processes


def published(board: Board) -> set[str]:
    return {key["kid"] for key in board.client().get("/.well-known/jwks.json").json()["keys"]}


async def lets_in(events: Events, token: str) -> bool:
    try:
        await events.find_all(FindEvents(actor=token, query=EventQuery()))
    except ServiceError as error:
        if error.code is not Code.INVALID_TOKEN:
            raise
        return False
    return True


def log_in(board: Board, member: Member) -> str:
    answer = board.client().post("/auth/login", json={"email": member.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["accessToken"]
    return token


def stolen(key: keys.SigningKey, token: str, **claims: Any) -> str:
    """What whoever has the key makes of a token."""
    said = jwt.decode(token, options={"verify_signature": False})
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return jwt.encode({**said, **claims}, pem, "ES256", headers={"typ": "at+jwt", "kid": key.kid})


def test_token_that_lives_too_long(board: Board, organization: Organization, key_folder: Path) -> None:
    """Whoever stole a key can't make a token that lives longer than auth's do."""
    (key,) = keys.load(key_folder)
    now = int(time.time())
    for lifetime, lets_in in ((600, True), (601, False), (10 * 365 * 86_400, False)):
        token = stolen(key, organization.user.token, iat=now, exp=now + lifetime)
        answer = board.client(token).get("/events")
        if lets_in:
            assert answer.status_code == 200
        else:
            assert_problem(answer, "invalid-token")


async def test_removed_key(board: Board, organization: Organization, key_folder: Path, deployment: Deployment) -> None:
    """Its tokens end, those too that every process has seen before; another key's go on."""
    user = organization.user
    (old,) = keys.load(key_folder)
    new = keys.rotate(key_folder)
    until(lambda: published(board) == {old.kid, new.kid})
    event = user.create()["id"]
    for path in ("/events", "/auth/me"):
        assert user.http.get(path).status_code == 200
    old.path.unlink()
    gone = Stopwatch()
    # Nothing but the tokens that are known already is shown to anybody.
    until(lambda: user.http.get(f"/events/{event}").status_code == 401)
    assert gone.seconds < WITHIN
    for path in ("/events", "/auth/me"):
        assert_problem(user.http.get(path), "invalid-token")
    if "events" in deployment.processes:
        # Past the gateway, which has its own keys.
        async with calling(Events, [deployment.processes["events"].url], credential=CREDENTIAL) as (events, _):
            while await lets_in(events, user.token):
                assert gone.seconds < WITHIN
    again = board.client(log_in(board, user))
    until(lambda: again.get(f"/events/{event}").status_code == 200)


@pytest.mark.parametrize("how", ["emptied", "deleted"])
def test_last_key_is_removed(board: Board, key_folder: Path, how: str) -> None:
    """Nobody is let in, whatever they show, until there is a key again."""
    organization = board.organization()
    user = organization.user
    (key,) = keys.load(key_folder)
    content = key.path.read_bytes()
    until(lambda: user.http.get("/events").status_code == 200)
    key.path.write_bytes(b"") if how == "emptied" else key.path.unlink()
    until(lambda: user.http.get("/events").status_code == 503)
    assert_problem(user.http.get("/auth/me"), "unavailable")
    body = {"email": user.email, "password": PASSWORD}
    assert_problem(board.client().post("/auth/login", json=body), "unavailable")
    key.path.write_bytes(content)
    until(lambda: user.http.get("/events").status_code == 200)


def test_key_that_cannot_be_read(board: Board, organization: Organization, key_folder: Path) -> None:
    """A file in the middle of being written, and a broken one beside it, take nobody's token away."""
    (key,) = keys.load(key_folder)
    content = key.path.read_bytes()
    key.path.write_bytes(content[:40])
    (key_folder / "broken.pem").write_bytes(b"not a key")
    other = keys.rotate(key_folder)
    until(lambda: published(board) == {key.kid, other.kid})
    assert organization.user.http.get("/events").status_code == 200
    assert board.client(log_in(board, organization.user)).get("/events").status_code == 200
    other.path.unlink()
    until(lambda: published(board) == {key.kid})
    key.path.write_bytes(content)
    (key_folder / "broken.pem").unlink()
