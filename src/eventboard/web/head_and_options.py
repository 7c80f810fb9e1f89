"""HEAD and OPTIONS for every path, from the methods that its handlers have."""

from collections import defaultdict
from collections.abc import Awaitable, Iterable

from litestar.routes import BaseRoute, HTTPRoute

from eventboard.core.asgi import App, Message, Receive, Scope, Send


def allowed_methods(methods: set[str]) -> str:
    """The value of `Allow`, always in the same order."""
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


class HeadAndOptionsMiddleware:
    """HEAD is GET without the body, and OPTIONS names all methods of a path.

    Litestar has no HEAD for a GET handler, and its OPTIONS names the methods of the handler that was registered first.
    """

    def __init__(self, app: App, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        methods: defaultdict[str, set[str]] = defaultdict(set)
        for route in routes:
            if isinstance(route, HTTPRoute):
                methods[route.path_format] |= route.methods
        self._allow = {path: allowed_methods(of_path).encode() for path, of_path in methods.items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            return self._head(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return self._options(scope, receive, send)
        return self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_body(message: Message) -> None:
            # uvicorn reads it here, and would wait for the body.
            scope["method"] = "HEAD"
            await send(message if message["type"] == "http.response.start" else {**message, "body": b""})

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"

    async def _options(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_allow(message: Message) -> None:
            allow = self._allow.get(scope.get("path_template", ""))
            if message["type"] == "http.response.start" and message["status"] == 204 and allow is not None:
                others = [header for header in message["headers"] if header[0].lower() != b"allow"]
                message["headers"] = [*others, (b"allow", allow)]
            await send(message)

        await self._app(scope, receive, send_with_allow)
