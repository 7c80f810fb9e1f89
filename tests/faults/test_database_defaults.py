"""A database whose administrator has changed what sessions begin with: the API answers as ever."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.support import cluster as clusters
from tests.support.board import EVENT, Board
from tests.support.crowd import Call, crowd
from tests.support.shapes import ALL, SHAPES, deployed

# Whatever an administrator may set for a database or an account, and changes how statements are read, what they
# return, or when they fail.
DEFAULTS = {
    "default_transaction_isolation": "'repeatable read'",
    "default_transaction_deferrable": "on",
    "lock_timeout": "'20ms'",
    "idle_session_timeout": "'200ms'",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "row_security": "off",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "search_path": "nowhere",
    "timezone": "'Asia/Kathmandu'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "client_encoding": "latin1",
    "synchronous_commit": "off",
    "plan_cache_mode": "force_custom_plan",
    "check_function_bodies": "off",
    "extra_float_digits": "-15",
    "enable_indexscan": "off",
    "enable_hashjoin": "off",
    "jit": "on",
    "jit_above_cost": "0",
    "quote_all_identifiers": "on",
    "client_min_messages": "debug1",
}


async def change(url: str, where: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name, value in DEFAULTS.items():
            await connection.execute(f"ALTER {where} SET {name} = {value}")
    finally:
        await connection.close()


@pytest.mark.parametrize("shape", [ALL, SHAPES[1]])
def test_defaults_of_the_database(cluster_url: str, shape: str, tmp_path: Path) -> None:
    """No answer differs: whoever writes at once, waits for a lock, repeats a key, or searches."""
    with clusters.database(cluster_url) as url:
        asyncio.run(change(url, f"DATABASE {urlsplit(url).path[1:]}"))
        with deployed(shape, url, tmp_path) as deployment:
            board = Board(deployment.public.url, url)
            try:
                walk(board)
            finally:
                board.close()


def walk(board: Board) -> None:
    name = uuid4().hex
    person = {
        "email": f"{name}@example.com",
        "password": "Zq8!mountain-lake",
        "firstName": "Ann",
        "lastName": "O'Hara",
        "organizationName": f"Ann's \\ {name}",
    }
    signed_up = board.client().post("/auth/signup", json=person)
    assert signed_up.status_code == 201, signed_up.text
    refreshed = board.client().post("/auth/refresh", json={"refreshToken": signed_up.json()["refreshToken"]})
    assert refreshed.status_code == 200, refreshed.text
    taken = board.client().post("/auth/signup", json=person)
    assert taken.json()["code"] == "already-exists"

    organization = board.organization()
    client = organization.user.http
    text = EVENT | {"description": "A quote ', a backslash \\, and É."}
    key = {"Idempotency-Key": name}
    created, again = (client.post("/events", json=text, headers=key) for _ in range(2))
    assert created.status_code == 201, created.text
    assert again.content == created.content
    event = created.json()
    for number in range(3):
        assert client.post("/events", json=EVENT | {"title": f"Number {number}"}).status_code == 201

    with crowd(board.url, 12) as clients:
        path = f"/events/{event['id']}"
        calls = [Call(organization.user, "PATCH", path, {"title": f"Title {number}"}) for number in range(12)]
        assert {reply.status for reply in clients.at_once(calls)} == {200}

    def found(**query: str) -> list[str]:
        answer = client.get("/events", params=query)
        assert answer.status_code == 200, answer.text
        return [each["description"] for each in answer.json()["data"]]

    assert len(found()) == 4
    assert found(search="é") == [text["description"]]
    assert len(found(search="friend")) == 3
    assert len(client.get(f"{path}/history").json()["data"]) == 13
