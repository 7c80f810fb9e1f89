"""What an operator asks a process, on a port of its own: a raw ASGI application of a few pages.

Workers share the port, so whichever answers asks the others too, where the page says how answers become one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl

from msgspec import Struct

from eventboard.platform.asgi import App, Receive, Scope, Send

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

# The names and values of a request's query, the last of a name.
Query = Mapping[str, str]
# Asks the other workers for the same path and query; None for those that don't answer in time.
Ask = Callable[[str], Awaitable[Sequence[bytes | None]]]


class Answer(Struct, frozen=True):
    body: bytes
    media_type: str = TEXT
    status: int = 200


class Page(Struct, frozen=True):
    """`answer` is of this process alone. Without `merge` any worker's is right; its first body is of this process.

    `silent` stands for a worker that doesn't answer in time; without it such a one is left out.
    """

    answer: Callable[[Query], Awaitable[Answer]]
    merge: Callable[[Sequence[bytes]], Answer] | None = None
    silent: bytes | None = None


class Admin:
    """`pages` by their path. Without `ask` it tells of this process alone."""

    def __init__(self, pages: Mapping[str, Page], ask: Ask | None = None) -> None:
        self._pages = pages
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page, more = self._pages.get(scope["path"]), list[tuple[bytes, bytes]]()
        if page is None:
            answer = Answer(f"here are {', '.join(sorted(self._pages))}\n".encode(), status=404)
        elif scope["method"] not in ("GET", "HEAD"):
            answer = Answer(b"GET is all that can be done here\n", status=405)
            more = [(b"allow", b"GET, HEAD")]
        else:
            scope["path_template"] = scope["path"]
            answer = await self._answer(page, scope)
        headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            *more,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _answer(self, page: Page, scope: Scope) -> Answer:
        query: bytes = scope["query_string"]
        asked = page.answer(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))
        if page.merge is None or self._ask is None:
            return await asked
        same = scope["path"] + (f"?{query.decode('latin-1')}" if query else "")
        own, others = await asyncio.gather(asked, self._ask(same))
        told = [page.silent if body is None else body for body in (own.body, *others)]
        return page.merge([body for body in told if body is not None])


def beside(app: App, admin: App, paths: Sequence[str]) -> App:
    """`admin` for these paths and what is below them, `app` for the rest: development has them on the main port."""
    below = tuple(f"{path}/" for path in paths)

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and (scope["path"] in paths or scope["path"].startswith(below))
        await (admin if inside else app)(scope, receive, send)

    return both
