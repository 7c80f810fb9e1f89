"""Pages for people: what each problem means. `type` of a problem leads here."""

from html import escape

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from eventboard.platform.errors import HTTP, Code, ServiceError

# What a client can do about it.
MEANINGS: dict[Code, str] = {
    Code.INVALID_REQUEST: (
        "The request breaks a rule of the API. `errors` names each field by a JSON Pointer; mend them and "
        "send it again."
    ),
    Code.INVALID_CURSOR: (
        "The cursor was not made by this list, or the list has other filters or another order now. Begin "
        "again without a cursor."
    ),
    Code.INVALID_IDEMPOTENCY_KEY: (
        "`Idempotency-Key` is one header with 1 to 255 visible ASCII characters, bare or in double quotes."
    ),
    Code.INVALID_TOKEN: (
        "The call needs an access token, and none that is valid was sent. Log in, and send it as "
        "`Authorization: Bearer …`."
    ),
    Code.INVALID_CREDENTIALS: (
        "No account has this e-mail address with this password. Which of the two is wrong is not told."
    ),
    Code.FORBIDDEN: (
        "The caller is known, and may not do this: the role, the ownership or the state of the event forbids it."
    ),
    Code.NOT_FOUND: "There is no such thing, or the caller may not see it: the answer is the same for both.",
    Code.METHOD_NOT_ALLOWED: "The path exists, with other methods: `Allow` lists them.",
    Code.TOO_LARGE: "The body has more bytes than the server takes.",
    Code.UNSUPPORTED_MEDIA_TYPE: (
        "Bodies are JSON: `Content-Type: application/json` (for PATCH also `application/merge-patch+json`), "
        "without a content encoding."
    ),
    Code.WRONG_STATE: (
        "The event is in a state that doesn't allow this command; `detail` names it. Read the event again."
    ),
    Code.ALREADY_EXISTS: "The e-mail address, or the organization's name, is taken.",
    Code.LAST_ADMIN: "The last active ADMIN of an organization can't be demoted or switched off. Name another first.",
    Code.REQUEST_IN_PROGRESS: (
        "The first request with this idempotency key has not ended yet. Send it again after `Retry-After` seconds "
        "with the same key: it is then answered with the first one's outcome."
    ),
    Code.IDEMPOTENCY_KEY_REUSED: (
        "An idempotency key belongs to one request: the same operation, on the same event, with the same content. "
        "`detail` says which differs. Use a new key for a new request."
    ),
    Code.VERSION_CHANGED: (
        "The event has changed since the version that `If-Match` names. Read it again, and decide anew."
    ),
    Code.TOO_MANY_REQUESTS: (
        "A limit is used up; `detail` says which. Nothing was done. Try again after `Retry-After` seconds. Log-ins, "
        "sign-ups and refreshes are limited by account and by address, other calls by user."
    ),
    Code.INTERNAL: "An error of ours. It was logged under the correlation id; nothing of the request was kept.",
    Code.NOT_IMPLEMENTED: (
        "The service behind the gateway is older than the gateway and doesn't know this operation yet. It is "
        "being upgraded."
    ),
    Code.UNAVAILABLE: (
        "A part of the service can't be reached now. Try again after `Retry-After` seconds; where `retryable` "
        "is false, look first whether the request was carried out."
    ),
    Code.DEADLINE_EXCEEDED: (
        "The request was not done within its time. Where `retryable` is false, look first whether it was carried out."
    ),
}


def problem_pages() -> list[HTTPRouteHandler]:
    @get("/problems/{code:str}", media_type=MediaType.HTML, include_in_schema=False)
    async def page(code: FromPath[str]) -> Response[str]:
        if code not in MEANINGS:
            raise ServiceError(Code.NOT_FOUND, "There is no such problem.")
        status, title = HTTP[Code(code)]
        return _page(f"{status} {title}", f"<p><code>{code}</code></p>\n<p>{_marked(MEANINGS[Code(code)])}</p>")

    @get("/problems", media_type=MediaType.HTML, include_in_schema=False)
    async def index() -> Response[str]:
        rows = "\n".join(
            f'<li>{HTTP[code][0]} <a href="/problems/{code}"><code>{code}</code></a> {escape(HTTP[code][1])}</li>'
            for code in MEANINGS
        )
        return _page("Problems of the EventBoard API", f"<ul>\n{rows}\n</ul>")

    return [index, page]


def _page(title: str, content: str) -> Response[str]:
    return Response(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<h1>{escape(title)}</h1>\n{content}\n</html>\n",
        media_type=MediaType.HTML,
    )


def _marked(text: str) -> str:
    """Text between backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
