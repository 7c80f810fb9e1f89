"""The short way to a handler: what Litestar does for any handler, less what ours have no use for.

Our handlers take the request and return an ASGI answer. Litestar's way to one (a trie, a model of its arguments,
dependencies, hooks) takes about as long as a read in the database. Here is a table, made from Litestar's own routes, so
that there is one truth of what is served; it leads to the same functions, and whatever is out of the ordinary takes
the long way: paths that aren't written plainly, other methods, strange hosts, requests of other sites' pages.
"""

import inspect
import re
from typing import Any, NamedTuple, cast

from litestar import Litestar, Request
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from eventboard.platform.asgi import App, Receive, Scope, Send
from eventboard.platform.errors import ServiceError
from eventboard.platform.web import EXCEPTION_HANDLERS

# What is written otherwise (another form of address, say) is Litestar's to judge.
_PLAIN_HOST = re.compile(rb"[A-Za-z0-9.-]+(:[0-9]+)?")
# Characters of a UUID: what else a path holds in its place is no id of anything, and need not be fast.
_ID_LENGTH = 36
# Where an id is in a path: /events/{id}, /events/{id}/approve.
_PLACE = 2


class _Found(NamedTuple):
    handler: HTTPRouteHandler
    run: Any
    template: str
    parameter: str


class Shortcut:
    """An ASGI application around Litestar's."""

    def __init__(self, litestar: Litestar) -> None:
        self._litestar = litestar
        self._long_way = cast("App", litestar)
        self._cors = litestar.cors_config is not None
        self._plain: dict[tuple[str, str], _Found] = {}
        self._by_id: dict[tuple[str, ...], _Found] = {}
        for route in litestar.routes:
            if isinstance(route, HTTPRoute):
                self._add(route)

    def _add(self, route: HTTPRoute) -> None:
        for method, (handler, _) in route.route_handler_map.items():
            if "operation" not in handler.opt or list(inspect.signature(handler.fn).parameters) != ["request"]:
                continue
            parts = route.path_format.split("/")
            parameters = [place for place, part in enumerate(parts) if part.startswith("{")]
            if not parameters:
                self._plain[method, route.path_format] = _Found(handler, handler.fn, route.path_format, "")
            elif parameters == [_PLACE] and set(route.path_parameters) == {"id"}:
                del parts[_PLACE]
                self._by_id[method, *parts] = _Found(handler, handler.fn, route.path_format, "id")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._long_way(scope, receive, send)
            return
        scope["litestar_app"] = self._litestar
        scope["route_handler"] = found.handler
        scope["path_template"] = found.template
        request: Request[Any, Any, Any] = Request(scope, receive, send)  # type: ignore[arg-type]  # the same shapes
        try:
            answer = await found.run(request)
        except Exception as error:  # noqa: BLE001 - told as Litestar would tell it, by the same functions
            answer = self._told(request, error)
        await answer(scope, receive, send)

    def _find(self, scope: Scope) -> _Found | None:
        path: str = scope["path"]
        found = self._plain.get((scope["method"], path))
        if found is not None:
            scope["path_params"] = {}
        else:
            parts = path.split("/")
            if len(parts) <= _PLACE or len(parts[_PLACE]) != _ID_LENGTH:
                return None
            id_ = parts.pop(_PLACE)
            found = self._by_id.get((scope["method"], *parts))
            if found is None:
                return None
            scope["path_params"] = {found.parameter: id_}
        if scope.get("root_path"):
            return None
        for name, value in scope["headers"]:
            if (name == b"host" and not _PLAIN_HOST.fullmatch(value)) or (name == b"origin" and self._cors):
                return None
        return found

    def _told(self, request: Request[Any, Any, Any], error: Exception) -> App:
        kind = next(kind for kind in (ServiceError, HTTPException, Exception) if isinstance(error, kind))
        response = EXCEPTION_HANDLERS[kind](request, error)
        return cast("App", response.to_asgi_response(None, request))
