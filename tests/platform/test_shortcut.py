"""The short way to a handler: the same functions, and the same answers as on Litestar's own way."""

from typing import Any
from uuid import UUID

import pytest
from litestar import Litestar, Request, get, post
from litestar.config.cors import CORSConfig
from litestar.exceptions import NotAuthorizedException

from eventboard.gateway.replies import Reply
from eventboard.platform.asgi import App, Message
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.shortcut import Shortcut
from eventboard.platform.web import EXCEPTION_HANDLERS, with_options

AnyRequest = Request[Any, Any, Any]
ID = str(UUID("6f9ae42e-5344-4ae8-b2b9-2f4bd2010467"))
HOST = (b"host", b"example.com:3000")


@get("/things", opt={"operation": "list"})
async def find_all(request: AnyRequest) -> Reply:
    return _told(request)


@get("/things/{id:str}", opt={"operation": "read"})
async def find_one(request: AnyRequest) -> Reply:
    return _told(request)


@post("/things/{id:str}/break", opt={"operation": "break"})
async def break_it(request: AnyRequest) -> Reply:
    match request.scope["query_string"]:
        case b"refused":
            raise ServiceError(Code.NOT_FOUND, "There is no such thing.")
        case b"framework":
            raise NotAuthorizedException("Not you.")
        case _:
            raise ZeroDivisionError


def _told(request: AnyRequest) -> Reply:
    where = f"{request.path_params.get('id')} {request.scope['path_template']} {request.route_handler.opt['operation']}"
    return Reply(200, [(b"content-type", b"text/plain")], where.encode())


def application(cors: CORSConfig | None = None) -> Litestar:
    handlers = with_options([find_all, find_one, break_it])
    return Litestar(handlers, openapi_config=None, exception_handlers=EXCEPTION_HANDLERS, cors_config=cors)


async def asked(app: App, method: str, path: str, *headers: tuple[bytes, bytes], root_path: str = "") -> list[Message]:
    plain, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": list(headers or [HOST]),
        "client": None,
        "server": ("127.0.0.1", 3000),
        "scheme": "http",
        "http_version": "1.1",
        "state": {},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append({name: value for name, value in message.items() if name != "more_body"})

    await app(scope, receive, send)
    return [_without_correlation(message) for message in sent]


def _without_correlation(message: Message) -> Message:
    if message["type"] == "http.response.body":
        parts = message["body"].partition(b'"correlationId":"')
        return {**message, "body": parts[0] + parts[2][36:]}
    return {**message, "headers": sorted(message["headers"])}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/things"),
        ("GET", "/things/"),
        ("GET", "//things"),
        ("GET", f"/things/{ID}"),
        ("GET", "/things/short"),
        ("GET", f"/things/{ID}/"),
        ("GET", f"/things/{ID}/break"),
        ("GET", f"/things/{ID}/unknown"),
        ("GET", f"/others/{ID}"),
        ("DELETE", f"/things/{ID}"),
        ("OPTIONS", f"/things/{ID}"),
        ("POST", f"/things/{ID}/break?refused"),
        ("POST", f"/things/{ID}/break?framework"),
        ("POST", f"/things/{ID}/break?bug"),
        ("GET", "/"),
    ],
)
async def test_either_way(method: str, path: str) -> None:
    """Status, headers and body are the same."""
    litestar = application()
    assert await asked(Shortcut(litestar), method, path) == await asked(litestar, method, path)  # type: ignore[arg-type]  # Litestar's own names of ASGI's shapes


@pytest.mark.parametrize("host", [b"exa mple.com", b"a/b", b"[::1]:3000", b"", b"user@host"])
async def test_unusual_host(host: bytes) -> None:
    """Litestar judges it."""
    litestar = application()
    given = ("GET", f"/things/{ID}", (b"host", host))
    assert await asked(Shortcut(litestar), *given) == await asked(litestar, *given)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize("path", ["/things", f"/things/{ID}", f"/things/things/{ID}"])
async def test_below_another_path(path: str) -> None:
    """Where a server serves it below a path, what that path leaves is Litestar's to find."""
    litestar = application()
    given = ("GET", path)
    short = await asked(Shortcut(litestar), *given, root_path="/things")
    assert short == await asked(litestar, *given, root_path="/things")  # type: ignore[arg-type]  # likewise


async def test_page_of_another_site() -> None:
    """Where other sites may call, Litestar answers their pages, with the headers that browsers ask for."""
    shortcut = Shortcut(application(CORSConfig(allow_origins=["https://pages.example"])))
    origin = (b"origin", b"https://pages.example")
    start, _ = await asked(shortcut, "GET", f"/things/{ID}", HOST, origin)
    assert (b"access-control-allow-origin", b"https://pages.example") in start["headers"]


async def test_it_is_short() -> None:
    """What is asked for all the time goes by it: Litestar isn't called at all."""
    shortcut = Shortcut(application())
    shortcut._long_way = None  # type: ignore[assignment]  # noqa: SLF001 - the long way is cut off
    for path in ("/things", f"/things/{ID}"):
        start, _ = await asked(shortcut, "GET", path)
        assert start["status"] == 200
