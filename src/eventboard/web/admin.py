"""The admin port's application: a few pages for operators."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl

from msgspec import Struct

from eventboard.core.asgi import App, Receive, Scope, Send
from eventboard.observability.trace_provider import RecentTraces

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

# A request's query parameters; of one that is given twice, the last value.
Query = Mapping[str, str]


class Answer(Struct, frozen=True):
    body: bytes
    media_type: str = TEXT
    status: int = 200


Page = Callable[[Query], Awaitable[Answer]]


class Admin:
    """`pages` by path; `/metrics` is an ASGI application of its own."""

    def __init__(self, pages: Mapping[str, Page], metrics: App) -> None:
        self._pages = pages
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, page = scope["path"], self._pages.get(scope["path"])
        allow = list[tuple[bytes, bytes]]()
        if page is None and path != "/metrics":
            answer = Answer(f"The pages here: {', '.join(sorted([*self._pages, '/metrics']))}\n".encode(), status=404)
        elif scope["method"] not in ("GET", "HEAD"):
            answer = Answer(b"This page has the methods GET and HEAD.\n", status=405)
            allow = [(b"allow", b"GET, HEAD")]
        else:
            scope["path_template"] = path
            if page is None:
                await self._metrics(scope, receive, send)
                return
            answer = await page(dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)))
        headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            *allow,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


class AdminPathsMiddleware:
    """Serves these paths, and what is below them, from the admin application too. Only for development."""

    def __init__(self, app: App, admin: App, paths: Sequence[str]) -> None:
        self._app = app
        self._admin = admin
        self._paths = frozenset(paths)
        self._below = tuple(f"{path}/" for path in paths)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        found = scope["type"] == "http" and (scope["path"] in self._paths or scope["path"].startswith(self._below))
        return (self._admin if found else self._app)(scope, receive, send)


def trace_page(recent: RecentTraces) -> dict[str, Page]:
    """`/debug/traces?id=<correlation id>`: the request's recent spans, in the SDK's own JSON."""

    async def answer(query: Query) -> Answer:
        spans = [span.to_json(indent=None) for span in recent.find(query.get("id", ""))]
        return Answer(f"[{','.join(spans)}]".encode(), JSON)

    return {"/debug/traces": answer}
