"""HTML pages: redirects to the explorer, what each problem means, and what browsers see where nothing is."""

from collections.abc import Callable
from html import escape
from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.status_codes import HTTP_307_TEMPORARY_REDIRECT, HTTP_404_NOT_FOUND
from msgspec.structs import replace

from eventboard.core import request_context
from eventboard.core.errors import HTTP, Code, FieldError, ServiceError
from eventboard.core.problems import MEDIA_TYPE, problem
from eventboard.gateway.explorers import static_file
from eventboard.gateway.openapi.examples import CORRELATION_ID
from eventboard.gateway.problem_pages import MEANINGS
from eventboard.web.exception_handlers import http_exception_handler, service_error_handler

SWAGGER = "/schema/swagger"
DOCUMENT = "/schema/openapi.json"
# Pages load one style sheet and an icon, and run nothing.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PagesController(Controller):
    include_in_schema = False

    @get(["/", "/docs", "/api"], status_code=HTTP_307_TEMPORARY_REDIRECT)
    async def redirect_to_explorer(self) -> Redirect:
        return Redirect(f"{request_context.current().prefix}{SWAGGER}", status_code=HTTP_307_TEMPORARY_REDIRECT)

    @get("/api-json", status_code=HTTP_307_TEMPORARY_REDIRECT)
    async def redirect_to_document(self) -> Redirect:
        """NestJS' address of the OpenAPI document, which clients of the original have."""
        return Redirect(f"{request_context.current().prefix}{DOCUMENT}", status_code=HTTP_307_TEMPORARY_REDIRECT)

    @get("/problems/{code:str}")
    async def problem(self, request: Request[Any, Any, Any], code: FromPath[str]) -> Response[Any]:
        if code not in MEANINGS:
            return page_or_problem(request, ServiceError(Code.NOT_FOUND, "There is no such problem."))
        meaning, (status, title) = MEANINGS[Code(code)], HTTP[Code(code)]
        return _page(
            f"{status} {title}",
            f"<p><code>{code}</code></p>",
            f"<h2>What it means</h2>\n<p>{_markup(meaning.text)}</p>",
            f"<h2>What to do</h2>\n<p>{_markup(meaning.advice)}</p>",
            f"<h2>Example</h2>\n<pre>{escape(_example(Code(code)))}</pre>",
        )

    @get("/problems")
    async def problems(self) -> Response[str]:
        prefix = request_context.current().prefix
        rows = "\n".join(
            f'<tr><td>{status}<td><a href="{prefix}/problems/{code}"><code>{code}</code></a><td>{escape(title)}'
            for status, code, title in sorted((HTTP[code][0], code, HTTP[code][1]) for code in MEANINGS)
        )
        return _page(
            "Problems of the EventBoard API",
            "<p>Every error is a problem of RFC 9457; its <code>type</code> leads to one of these pages.</p>",
            f"<table>\n<tr><th>Status<th>Code<th>Title\n{rows}\n</table>",
        )


def page_or_problem(request: Request[Any, Any, Any], error: ServiceError | NotFoundException) -> Response[Any]:
    """For an unknown address: a page for a browser, a problem for a program."""
    handler: Callable[..., Response[Any]] = (
        service_error_handler if isinstance(error, ServiceError) else http_exception_handler
    )
    answer = handler(request, error)
    if "text/html" in request.headers.get("accept", ""):
        answer = _page("Page not found", "<p>There is no page at this address.</p>", status=HTTP_404_NOT_FOUND)
    answer.headers["Vary"] = "Accept"
    return answer


def _page(title: str, *content: str, status: int = 200) -> Response[str]:
    prefix = request_context.current().prefix
    text = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f'<link rel="icon" href="{static_file("pages/favicon.svg")}" type="image/svg+xml">',
            f'<link rel="stylesheet" href="{static_file("pages/page.css")}">',
            f'<nav><a href="{prefix}{SWAGGER}">The API</a> <a href="{prefix}/problems">All problems</a></nav>',
            f"<h1>{escape(title)}</h1>",
            *content,
            "</html>\n",
        ]
    )
    headers = {"Content-Security-Policy": POLICY}
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=headers)


def _markup(text: str) -> str:
    """Text between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _example(code: Code) -> str:
    """A whole response."""
    errors = (FieldError("/title", "It must have at least 3 characters."),) if code is Code.INVALID_REQUEST else ()
    # Nothing was done, so it may be sent again.
    shed = code in (Code.TOO_MANY_REQUESTS, Code.REQUEST_TIMEOUT, Code.REQUEST_IN_PROGRESS)
    error = ServiceError(code, MEANINGS[code].detail, errors, shed=shed)
    with request_context.use(replace(request_context.current(), correlation_id=CORRELATION_ID)):
        status, _, body = problem(error, safe=False)
    return f"HTTP/1.1 {status}\nContent-Type: {MEDIA_TYPE}\n\n{msgspec.json.format(body, indent=2).decode()}"
