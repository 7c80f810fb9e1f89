"""What a client sees is the same in every shape, to the byte."""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import pytest

from tests.shapes.alike import differences
from tests.shapes.recording import Exchange, Recording
from tests.shapes.walk import problems, walk, walk_in_trouble
from tests.support import cluster as clusters
from tests.support.proxy import proxied
from tests.support.shapes import ALL, SHAPES, Deployment, deployed

# What no client can bring about in a deployment that is well, or by one whole request after the other.
OF_OTHERS = {
    "internal",
    "answer-too-large",
    "not-implemented",
    "unavailable",
    "deadline-exceeded",
    "request-in-progress",
    "request-timeout",
    # Of large organizations; tests/behaviour/test_quotas.py brings them about in every shape.
    "quota-exceeded",
    "search-too-broad",
}

# Differences that a failure shows: an id that is missing puts all after it out of step.
SHOWN = 20


@pytest.fixture(scope="session")
def recorded(deployments: Callable[[str], Deployment]) -> Callable[[str], Recording]:
    """The walk through a shape, gone once."""
    known: dict[str, Recording] = {}

    def recording(shape: str) -> Recording:
        if shape not in known:
            known[shape] = walk(deployments(shape), shape)
        return known[shape]

    return recording


def assert_alike(reference: Recording, other: Recording) -> None:
    found = differences(reference, other)
    assert not found, "\n".join([f"{len(found)} differences", *found[:SHOWN]])


@pytest.mark.parametrize("other", [name for name in SHAPES if name != ALL])
def test_every_answer(recorded: Callable[[str], Recording], other: str) -> None:
    """Status, headers and body of the whole walk are those of the one process."""
    assert_alike(recorded(ALL), recorded(other))


def test_trouble_with_the_database(cluster_url: str, tmp_path: Path) -> None:
    """The end of a budget, of waiting for the first request with a key, and of the database are told alike, too."""
    # A log-in has the time that a busy machine takes for it.
    settings = {"BUDGETS_AUTH": "2", "BUDGETS_READ": "1", "BUDGETS_LIST": "1", "BUDGETS_WRITE": "1"}
    # A Unix socket, as tests' clusters have: a database that can be cut off is one behind a proxy.
    [folder] = parse_qs(urlsplit(cluster_url).query)["host"]
    recordings = []
    for shape in SHAPES:
        with clusters.database(cluster_url) as url, proxied(Path(folder, ".s.PGSQL.5432")) as way:
            through = f"postgresql://eventboard@127.0.0.1:{way.port}{urlsplit(url).path}"
            with deployed(shape, through, tmp_path, **settings) as deployment:
                recordings.append(walk_in_trouble(deployment, shape, way))
    assert {"504", "409", "503"} <= {exchange.status.split()[1] for exchange in recordings[0].exchanges}
    for recording in recordings[1:]:
        assert_alike(recordings[0], recording)


def test_walk_is_whole(recorded: Callable[[str], Recording]) -> None:
    """It meets every operation of the API, with success, and every problem that a client brings about; no failure."""
    exchanges = recorded(ALL).exchanges

    def requested(path: str) -> Exchange:
        return next(exchange for exchange in exchanges if f" GET {path} " in exchange.request)

    succeeded = [exchange.request for exchange in exchanges if exchange.status.split()[1].startswith("2")]
    for path, operations in json.loads(requested("/schema/openapi.json").body)["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", r"[^/? ]+", re.escape(path))
        for method in operations:
            pattern_here = rf" {method.upper()} {pattern}[? ]"
            assert any(re.search(pattern_here, request) for request in succeeded), (method, path)

    refused = [exchange for exchange in exchanges if exchange.header("content-type") == "application/problem+json"]
    met = {json.loads(exchange.body)["code"] for exchange in refused if exchange.body}
    assert met == set(problems(requested("/problems"))) - OF_OTHERS
    assert not [exchange.request for exchange in exchanges if exchange.status.split()[1].startswith("5")]


# ---------------------------------------------------------------------------------------------------------------------
# The comparison itself: what a shape makes may differ, and nothing else.

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def made(shape: str, seed: int, **change: str | Callable[[str], str]) -> Recording:
    """What a shape would answer; another `seed` is another time and other ids. `change` is of one part's text."""
    at = NOW + timedelta(hours=seed)
    id_, user = (str(UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 1 << 63 | seed * 10 + n)) for n in (1, 2))
    correlation_id = str(UUID(int=seed, version=4))
    claims = {"sub": user, "role": "USER", "iat": int(at.timestamp()), "exp": int(at.timestamp()) + 3600}
    parts = (json.dumps({"alg": "ES256", "typ": "at+jwt"}), json.dumps(claims, separators=(",", ":")))
    texts = {
        "request": f"user: POST /events/{id_}/submit",
        "status": "HTTP/1.1 200 OK",
        "headers": f"date: {at:%a, %d %b %Y %H:%M:%S GMT}\nlocation: /events/{id_}\ncontent-length: LENGTH\n"
        f"x-correlation-id: {correlation_id}\nvary: walk.1",
        "token": ".".join([*(_packed(part.encode()) for part in parts), f"{seed}" * 86]),
        "cursor": _packed(msgspec.msgpack.encode([b"finger", 2, at, id_])),
        "body": f'{{"id":"{id_}","by":"{user}","createdAt":"{at:%FT%T}.00000{seed}Z",'
        f'"updatedAt":"{at:%FT%T}.1{seed:05}Z",'
        '"startDate":"2030-01-01T00:00:00Z","nextCursor":"CURSOR","accessToken":"TOKEN",'
        f'"refreshToken":"{str(seed) * 43}","expiresAt":"{at + timedelta(days=7):%FT%T}.00000{seed}Z"}}',
    }
    for name, how in change.items():
        texts[name] = how if isinstance(how, str) else how(texts[name])
    body = texts["body"].replace("CURSOR", texts["cursor"]).replace("TOKEN", texts["token"])
    headers = texts["headers"].replace("LENGTH", str(len(body)))
    exchange = Exchange(
        texts["request"],
        texts["status"],
        tuple((name, value) for name, _, value in (line.partition(": ") for line in headers.splitlines())),
        body.encode(),
    )
    return Recording(shape, [exchange], begun=at.timestamp(), ended=at.timestamp() + 1)


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _repacked(change: Callable[[Any], Any]) -> Callable[[str], str]:
    def repack(cursor: str) -> str:
        content = base64.urlsafe_b64decode(cursor + "==")
        return _packed(msgspec.msgpack.encode(change(msgspec.msgpack.decode(content))))

    return repack


def test_same_answer_at_another_time() -> None:
    """Ids, times, signatures and all that is made of them differ by their nature."""
    assert not differences(made("one", 1), made("two", 2))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        pytest.param("status", "HTTP/1.1 201 Created", id="status"),
        pytest.param("status", "HTTP/1.1 200 Fine", id="reason"),
        pytest.param("headers", lambda text: text.replace("walk.1", "walk.2"), id="value of a header"),
        pytest.param("headers", lambda text: text.replace("vary", "Vary"), id="case of a header's name"),
        pytest.param("headers", lambda text: "\n".join(reversed(text.splitlines())), id="order of headers"),
        pytest.param("headers", lambda text: text.replace("vary: walk.1", ""), id="header left out"),
        pytest.param("headers", lambda text: text + "\nvia: two", id="header put in"),
        pytest.param("headers", lambda text: text + "\nvary: walk.1", id="header twice"),
        pytest.param("headers", lambda text: text.replace("LENGTH", "1"), id="wrong length"),
        pytest.param("headers", lambda text: text.replace("GMT", "UTC"), id="form of the date"),
        pytest.param("headers", lambda text: re.sub("/events/.*", f"/events/{UUID(int=9, version=4)}", text), id="id"),
        pytest.param("body", lambda text: text.replace(":", ": ", 1), id="white space"),
        pytest.param("body", lambda text: text.replace("by", "at"), id="name of a field"),
        pytest.param("body", lambda text: text.replace("2030", "2031"), id="time that a client gave"),
        pytest.param("body", lambda text: text.replace(".1", ".0"), id="same time where there were two"),
        pytest.param("body", lambda text: text.replace('Z","up', '+00:00","up'), id="form of a time"),
        pytest.param("body", lambda text: re.sub(r'"by":"[^"]+', lambda by: by[0].upper(), text), id="form of an id"),
        pytest.param("body", lambda text: text + "\n", id="a byte too many"),
        pytest.param("body", "", id="no body"),
        pytest.param("body", lambda text: text.replace("22222", "2222", 1), id="form of a refresh token"),
        pytest.param("body", lambda text: text.replace("2027-01-22", "2027-01-21"), id="another lifetime"),
        pytest.param("token", lambda text: text[:-1], id="form of a signature"),
        pytest.param("token", lambda text: f"{_packed(b'{}')}.{text.partition('.')[2]}", id="header of a token"),
        pytest.param("cursor", _repacked(lambda place: [place[0], 3, *place[2:]]), id="page in a cursor"),
        pytest.param("cursor", _repacked(lambda place: [b"other!", *place[1:]]), id="fingerprint in a cursor"),
        pytest.param("cursor", _repacked(lambda place: [*place[:3], str(UUID(int=3))]), id="id in a cursor"),
    ],
)
def test_planted_difference(part: str, change: str | Callable[[str], str]) -> None:
    """One that nature doesn't make is found, and told with the request and the shape."""
    (told, *_) = differences(made("one", 1), made("two", 2, **{part: change}))
    where = "body" if part in ("token", "cursor") else part
    assert re.match(rf"1\. user: POST /events/<id 0>/submit in two: {where}: .+ became .+", told)


def test_answer_that_is_missing() -> None:
    """A walk that ended early isn't alike."""
    short = made("two", 2)
    short.exchanges.clear()
    assert "in two" in differences(made("one", 1), short)[0]
