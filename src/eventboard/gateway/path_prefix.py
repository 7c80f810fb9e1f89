"""The path below which clients see the API, such as /board of https://example.com/board/."""

import re
from collections.abc import Awaitable, Sequence
from urllib.parse import urlsplit

from eventboard.core.asgi import App, Receive, Scope, Send
from eventboard.core.ip import Network, canonical, is_in, parse_address
from eventboard.web.request_context import PATH_PREFIX

# Proxies send the prefix in it, whether they have removed it from the path or not.
HEADER = b"x-forwarded-prefix"
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


def prefix_of(public_url: str) -> str:
    """The path of a URL (or a path alone), without a slash at its end. Raises ValueError."""
    parts = urlsplit(public_url)
    relative = not parts.scheme and parts.path and not parts.path.startswith("/")
    if bool(parts.scheme) != bool(parts.netloc) or parts.scheme not in ("", "http", "https") or relative:
        raise ValueError("it is neither a URL, as in https://example.com/board, nor a path, as in /board")
    if parts.query or parts.fragment or not _PREFIX.fullmatch(parts.path):
        raise ValueError("its path may have letters, digits and ._~- between slashes, and nothing may follow it")
    return parts.path.rstrip("/")


class PathPrefixMiddleware:
    """Removes the prefix from the path, if it is there: some proxies do so themselves.

    It is what a `trusted` proxy's header says, else `default`. Litestar's handling of `root_path` doesn't fit: it
    removes that wherever it is in the path.
    """

    def __init__(self, app: App, default: str, trusted: Sequence[Network]) -> None:
        self._app = app
        self._default = default
        self._trusted = trusted

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            prefix = (self._trusted and self._forwarded(scope)) or self._default
            if prefix:
                scope[PATH_PREFIX] = prefix
                scope["path"] = _below(scope["path"], prefix)
                scope["raw_path"] = _below(scope["raw_path"].decode("latin-1"), prefix).encode("latin-1")
        return self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> str:
        """A trusted proxy's header; "" if there is none, or it isn't valid."""
        values = [value for name, value in scope["headers"] if name == HEADER]
        if len(values) != 1 or not self._is_trusted(scope):
            return ""
        text = values[0].decode("latin-1")
        return text.rstrip("/") if _PREFIX.fullmatch(text) else ""

    def _is_trusted(self, scope: Scope) -> bool:
        address = parse_address(scope["client"][0]) if scope["client"] else None
        return address is not None and is_in(canonical(address), self._trusted)


def _below(path: str, prefix: str) -> str:
    if path == prefix:
        return "/"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
