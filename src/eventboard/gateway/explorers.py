"""Swagger UI, Scalar and Redoc from files of our own: a page of theirs asks no other host for anything."""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_307_TEMPORARY_REDIRECT

from eventboard.gateway.openapi import PATH as OPENAPI

SWAGGER = "/schema/swagger"
STATIC_PATH = "/schema/static"

STATIC = Path(__file__).parent / "static"
# Also the list of what is served: licences and README stay here.
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

# The bundles write styles into the page, and carry images and a font as data:. Redoc's logo, of its maker's host, has
# no switch: this alone keeps the browser from fetching it.
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
    """One tag for all files, in their paths: so a script may import its neighbour, and all may be kept for ever."""
    digest = hashlib.sha256()
    for path in _files().values():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _gzipped(name: str) -> bytes:
    """Made once: Scalar's 4 MB take 0.15 s, and become 1.2 MB."""
    return gzip.compress(_files()[name].read_bytes(), mtime=0)


def _page(name: str, *bundle: str) -> HTTPRouteHandler:
    """Links to static files and nothing inline, so that `script-src 'self'` suffices."""

    @get(f"/schema/{name}", include_in_schema=False, sync_to_thread=True)
    def page() -> Response[str]:
        static = f"{STATIC_PATH}/{_release()}"
        links = "\n".join(
            f'<link rel="stylesheet" href="{static}/{file}">'
            if file.endswith(".css")
            else f'<script src="{static}/{file}" defer></script>'
            for file in ("pages/explorer.css", *bundle)
        )
        return Response(
            f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>EventBoard</title>
<link rel="icon" href="{static}/pages/favicon.svg" type="image/svg+xml">
{links}
<script src="{static}/pages/{name}.js" type="module"></script>
</head>
<body><div id="explorer" data-openapi="{OPENAPI}"></div></body>
</html>
""",
            media_type=MediaType.HTML,
            headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
        )

    return page


def explorer_routes() -> list[HTTPRouteHandler]:
    """The pages, their files (gzipped already: a compressing middleware must leave them out), and what leads there."""

    @get(f"{STATIC_PATH}/{{release:str}}/{{name:path}}", include_in_schema=False, sync_to_thread=True)
    def static_file(release: FromPath[str], name: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
        name = name.removeprefix("/")
        if name not in _files():
            raise NotFoundException
        headers = {
            # A page from before or after a deployment asks for another release: it gets what there is, for this once.
            "Cache-Control": "public, max-age=31536000, immutable" if release == _release() else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            content = _gzipped(name)
        else:
            content = _files()[name].read_bytes()
        return Response(content, media_type=MEDIA_TYPES[_files()[name].suffix], headers=headers)

    @get(["/docs", "/api", "/schema"], include_in_schema=False, sync_to_thread=False)
    def to_swagger() -> Redirect:
        return Redirect(SWAGGER, status_code=HTTP_307_TEMPORARY_REDIRECT)

    return [
        _page("swagger", "swagger-ui/swagger-ui.css", "swagger-ui/swagger-ui-bundle.js"),
        _page("scalar", "scalar/standalone.js"),
        _page("redoc"),  # its bundle is a module, which pages/redoc.js imports
        static_file,
        to_swagger,
    ]
