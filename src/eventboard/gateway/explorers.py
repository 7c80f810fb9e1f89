"""Swagger UI, Scalar and Redoc from vendored files: their pages load nothing from other hosts."""

import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread
from litestar import Controller, MediaType, Request, Router, get
from litestar.enums import OpenAPIMediaType
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath
from litestar.response import Response, Stream

from eventboard.core import request_context
from eventboard.gateway.openapi.document import completed
from eventboard.web.response_pacing import PIECE

SCHEMA = "/schema"
STATIC_PATH = f"{SCHEMA}/static"

STATIC = Path(__file__).parent / "static"
# Other files, such as licences, aren't served.
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

# The bundles write styles into the page, and have images and a font as data: URLs. Redoc loads its logo from its
# maker's host, and has no option against it: this policy keeps the browser from doing so.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _files() -> dict[str, Path]:
    paths = (path for path in sorted(STATIC.rglob("*")) if path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): path for path in paths}


@cache
def _release() -> str:
    """A hash of all files, which is part of their paths, so that browsers may cache them for good."""
    digest = hashlib.sha256()
    for path in _files().values():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def static_file(name: str) -> str:
    """The path of a file, as clients see it."""
    return f"{request_context.current().prefix}{STATIC_PATH}/{_release()}/{name}"


@cache
def _content(name: str, *, gzipped: bool) -> bytes:
    """Cached, since to gzip Scalar's 4 MB takes 0.15 s; the result has 1.2 MB."""
    content = _files()[name].read_bytes()
    return gzip.compress(content, mtime=0) if gzipped else content


class Explorer(OpenAPIRenderPlugin):
    """A page that has links to static files and no inline script, so that `script-src 'self'` suffices.

    The pages of Litestar's plugins have inline scripts and the whole document in them, and their options can't keep all
    three explorers from loading something from other hosts.
    """

    def __init__(self, name: str, *bundle: str) -> None:
        super().__init__(path=f"/{name}")
        self._name = name
        self._bundle = bundle

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        prefix = request_context.current().prefix
        links = "\n".join(
            f'<link rel="stylesheet" href="{static_file(file)}">'
            if file.endswith(".css")
            else f'<script src="{static_file(file)}" defer></script>'
            for file in ("pages/explorer.css", *self._bundle)
        )
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{openapi_schema["info"]["title"]}</title>
<link rel="icon" href="{static_file("pages/favicon.svg")}" type="image/svg+xml">
{links}
<script src="{static_file(f"pages/{self._name}.js")}" type="module"></script>
</head>
<body><div id="explorer" data-openapi="{prefix}{self.get_openapi_json_route(request)}"></div></body>
</html>
""".encode()


class Document(OpenAPIRenderPlugin):
    """The document, as JSON or YAML. It is made once; with a path prefix its links begin with that."""

    def __init__(self, path: str, media_type: OpenAPIMediaType | MediaType, encode: Callable[[Any], bytes]) -> None:
        super().__init__(path=path, media_type=media_type)
        self._encode = encode
        self._made = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        self._made = self._made or self._encode(completed(openapi_schema))
        prefix = request_context.current().prefix.encode()
        if not prefix:
            return self._made
        document = re.sub(rb'("?url"?: ?"?)/(?=["\n])', rb"\1" + prefix, self._made, count=1)
        return re.sub(rb'(?<=["( ])/problems', prefix + b"/problems", document)


def explorers() -> list[OpenAPIRenderPlugin]:
    """The first is also at `/schema`."""
    return [
        Explorer("swagger", "swagger-ui/swagger-ui.css", "swagger-ui/swagger-ui-bundle.js"),
        Explorer("scalar", "scalar/standalone.js"),
        Explorer("redoc"),  # its bundle is a module, which pages/redoc.js imports
        Document("/openapi.json", MediaType.JSON, msgspec.json.encode),
        Document("/openapi.yaml", OpenAPIMediaType.OPENAPI_YAML, msgspec.yaml.encode),
    ]


async def _after_request(response: Response[Any]) -> Response[Any]:
    """Litestar's router has an HTML page for unknown paths; here they are a problem, as elsewhere.

    The headers are set here since `response_headers` is a set to Litestar: each process would send its own order.
    """
    if response.status_code == NotFoundException.status_code:
        raise NotFoundException
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "no-cache"
    return response


def explorer_router() -> Router:
    """The router that Litestar adds the explorers to."""
    return Router(SCHEMA, route_handlers=[], include_in_schema=False, after_request=_after_request)


class StaticFilesController(Controller):
    """The explorers' files. Litestar's static files are read from disk and compressed for each request."""

    path = STATIC_PATH
    include_in_schema = False

    @get("/{release:str}/{name:path}")
    async def file(self, release: FromPath[str], name: FromPath[str], request: Request[Any, Any, Any]) -> Stream:
        name = name.removeprefix("/")
        if name not in _files():
            raise NotFoundException
        gzipped = "gzip" in request.headers.get("Accept-Encoding", "")
        content = await to_thread.run_sync(partial(_content, name, gzipped=gzipped))
        headers = {
            # A page of the release before or after this one gets these files, once.
            "Cache-Control": "public, max-age=31536000, immutable" if release == _release() else "no-cache",
            "Content-Length": str(len(content)),
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if gzipped else {}),
        }
        media_type = MEDIA_TYPES[_files()[name].suffix]
        return Stream(_pieces(content), headers=headers, media_type=media_type)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """One `content` for all clients: none of them holds more than a piece of its own."""
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]
