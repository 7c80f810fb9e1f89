"""How the OpenAPI document is made."""

import os
import subprocess
import sys

PROGRAM = """
from unittest.mock import sentinel
from litestar import Litestar
from litestar.testing import TestClient
from eventboard.gateway.app import gateway_controllers
from eventboard.gateway.explorers import explorer_router, explorers
from eventboard.gateway.openapi.document import openapi_config
from eventboard.web.health import health_routes

config = openapi_config("1.2.3", explorers(), openapi_router=explorer_router())
routes = [*gateway_controllers(sentinel.auth, sentinel.events), *health_routes(sentinel.checks, detailed=False)]
app = Litestar(routes, openapi_config=config)
with TestClient(app) as client:
    print(client.get("/schema/openapi.json").text)
    print(client.get("/schema/openapi.yaml").text)
    print(client.get("/schema/swagger").headers.raw)
"""


def test_the_same_bytes_at_each_start() -> None:
    """Whatever the order of Python's sets: the document, and the order of a page's headers."""
    first, second = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "3")
    )
    assert first == second
    assert b'"version":"1.2.3"' in first
    assert b"content-security-policy" in first
