"""How the OpenAPI document is made."""

import os
import subprocess
import sys

import pytest
from litestar import Litestar, get

from eventboard.platform.openapi import Answer, Operation, document

PROGRAM = """
from unittest.mock import sentinel
from litestar import Litestar
from litestar.testing import TestClient
from eventboard.gateway.app import gateway_routes

routes = gateway_routes(
    sentinel.auth, sentinel.events, sentinel.verify, version="1.2.3", limit=None, address_of=sentinel.address_of
)
with TestClient(Litestar(routes, openapi_config=None)) as client:
    print(client.get("/schema/openapi.json").text)
"""


def test_the_same_bytes_at_each_start() -> None:
    """Whatever the order of Python's sets: a document can be compared, kept and cached."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    )
    assert first == second
    assert b'"version":"1.2.3"' in first


def test_route_that_says_nothing() -> None:
    """A route nobody described can't be forgotten: there is no document."""

    @get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(TypeError, match="/forgotten states no operation"):
        document(Litestar([forgotten], openapi_config=None).routes)


def test_path_parameter_that_nobody_described() -> None:
    """A description that names other path parameters than the path has is refused."""

    described = Operation(
        id="getThing", summary="-", description="-", tag="-", answers={200: Answer(description="-")}, path=()
    )

    @get("/things/{id:str}", operation=described)
    async def thing() -> None: ...

    with pytest.raises(TypeError, match=r"describes other parameters than those of /things/\{id\}"):
        document(Litestar([thing], openapi_config=None).routes)
