"""What Litestar's documentation says of a route holds for ours: whatever is put on one is honoured."""

from typing import Any
from unittest.mock import sentinel
from uuid import uuid4

import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.params import JSONBody
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from eventboard.core.errors import Code, ServiceError
from eventboard.gateway.app import gateway_controllers
from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest
from eventboard.gateway.request_body import StrictDTO
from eventboard.gateway.responses import private_response
from eventboard.identity.access_tokens import Principal, Role
from eventboard.web.exception_handlers import EXCEPTION_HANDLERS
from eventboard.web.head_and_options import HeadAndOptionsMiddleware


class Page(Struct, frozen=True, kw_only=True):
    limit: int = 10


async def moderators(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.user.role is not Role.MODERATOR:
        raise ServiceError(Code.FORBIDDEN, "Only moderators may.")


async def closed(request: Request[Any, Any, Any]) -> Response[str] | None:
    return Response("closed", status_code=503) if "x-closed" in request.headers else None


class Stamp(ASGIMiddleware):
    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"own")]
            await send(message)

        await next_app(scope, receive, stamped)


class Things(AuthenticatedController):
    """As somebody would add it."""

    path = "/things"

    @get("/guarded", guards=[moderators])
    async def guarded(self, request: GatewayRequest) -> Response[dict[str, str]]:
        return private_response({"token": request.auth})

    @get("/hooked", before_request=closed)
    async def hooked(self) -> dict[str, str]:
        return {"open": "yes"}

    @get("/stamped", middleware=[Stamp()])
    async def stamped(self) -> dict[str, str]:
        return {}

    @get("/paged", takes_query=True)
    async def paged(self, request: GatewayRequest) -> Page:
        return request.filters(Page)

    @post("/", dto=StrictDTO[Page])
    async def create(self, data: JSONBody[Page]) -> Page:
        return data


async def authentication(connection: ASGIConnection[Any, Any, Any, Any]) -> tuple[Principal, str]:
    role = Role(connection.headers.get("x-role", "USER"))
    caller = Principal(
        user_id=uuid4(), organization_id=uuid4(), session_id=uuid4(), role=role, name="Nia", expires_at=0
    )
    return caller, "a token"


@pytest.fixture
def client() -> TestClient[Litestar]:
    litestar = Litestar(
        [*gateway_controllers(sentinel.auth, sentinel.events), Things],
        state=State({"authentication": authentication}),
        request_class=GatewayRequest,
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
    )
    return TestClient(HeadAndOptionsMiddleware(litestar, litestar.routes))  # type: ignore[arg-type]  # the same shapes


def test_guard(client: TestClient[Litestar]) -> None:
    """Who isn't let in meets a problem; who is has passed our own guard, too."""
    assert client.get("/things/guarded").json()["code"] == "forbidden"
    assert client.get("/things/guarded", headers={"x-role": "MODERATOR"}).json() == {"token": "a token"}


def test_before_request(client: TestClient[Litestar]) -> None:
    """What it answers is the answer."""
    assert client.get("/things/hooked").json() == {"open": "yes"}
    answer = client.get("/things/hooked", headers={"x-closed": "1"})
    assert (answer.status_code, answer.text) == (503, "closed")


def test_middleware(client: TestClient[Litestar]) -> None:
    """It is around its route, for HEAD as well."""
    assert client.get("/things/stamped").headers["x-stamp"] == "own"
    assert client.head("/things/stamped").headers["x-stamp"] == "own"
    assert "x-stamp" not in client.get("/things/hooked").headers


def test_strict_query(client: TestClient[Litestar]) -> None:
    """Nothing is converted but whole numbers, and no other parameter is taken."""
    assert client.get("/things/paged?limit=5").json() == {"limit": 5}
    assert client.get("/things/paged?limit=5.0").json()["errors"][0]["pointer"] == "/limit"
    assert client.get("/things/paged?colour=red").json()["errors"][0]["pointer"] == "/colour"
    assert client.get("/things/guarded?colour=red", headers={"x-role": "MODERATOR"}).status_code == 400


def test_strict_body(client: TestClient[Litestar]) -> None:
    """Every wrong field is named at once; what isn't JSON, or nothing, is refused."""
    assert client.post("/things", json={"limit": 5}).json() == {"limit": 5}
    pointers = [error["pointer"] for error in client.post("/things", json={"limit": "5", "a": 1}).json()["errors"]]
    assert pointers == ["/limit", "/a"]
    assert client.post("/things", content=b"limit=5", headers={"content-type": "text/plain"}).status_code == 415
    empty = client.post("/things", headers={"content-type": "application/json"})
    assert (empty.status_code, empty.json()["detail"]) == (400, "The body is empty. Send a JSON object.")
