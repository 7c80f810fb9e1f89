"""The public API's OpenAPI document: what no single route says, and what several routes share."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from eventboard.platform.errors import Code, FieldError, ServiceError
from eventboard.platform.openapi import Parameter, document

PATH = "/schema/openapi.json"

DESCRIPTION = """\
Organizations draft, submit and approve events: a member drafts an event and submits it, a moderator approves or rejects
it, and what is approved is on everybody's list.

Start with **log in**: execute its example, copy the `accessToken` of the answer, and give it to **Authorize**. Without
an account, **sign up** founds an organization with you as its ADMIN.

Every error is a problem of RFC 9457, whose `type` leads to [a page](/problems) that explains it. Times are RFC 3339
with an offset, and come back in UTC.
"""

TAGS = {
    "Accounts": "Who is calling: sign-up, log-in, and the keys that verify access tokens.",
    "Members": "What an ADMIN does: members, invitations, the organization itself.",
    "Events": "An organization's events.",
    "Approval": "The life of an event. A command in the wrong state is a 409, and its `detail` names the state.",
    "Health": "Whether the service works.",
}

EVENT_ID = Parameter("id", "The event's id.", {"type": "string", "format": "uuid"})

KEY_IN_PATH = Parameter(
    "key",
    "The key, percent-encoded.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
)

_TAG = r'((W/)?"[!#-~\x80-\xff]*")?'  # a place of a list may be empty
_ENTITY_TAGS = {"type": "string", "pattern": rf"^[ \t]*(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)[ \t]*$"}
IF_MATCH = Parameter("If-Match", "Go ahead only if the event still has this `ETag`; else 412.", _ENTITY_TAGS)
IF_NONE_MATCH = Parameter("If-None-Match", "The `ETag` of what you have; 304 if it is still so.", _ENTITY_TAGS)
ETAG = Parameter(
    "ETag", "Names this version of the event, for `If-Match`.", {"type": "string", "pattern": '^"[0-9]+"$'}
)
LOCATION = Parameter("Location", "The new event's address.", {"type": "string", "format": "uri-reference"})

UNKNOWN_PARAMETER = ServiceError(
    Code.INVALID_REQUEST, "Not valid: /color.", (FieldError("/color", "There is no such field."),)
)
# Of every operation that calls a module.
CALL_PROBLEMS = (
    ServiceError(Code.UNAVAILABLE, "The database can't be reached now.", retry_after=1),
    ServiceError(Code.NOT_IMPLEMENTED, "This service doesn't know the operation."),
    ServiceError(Code.DEADLINE_EXCEEDED, "The call was not done within its 10 s."),
)


def openapi_route(version: str) -> HTTPRouteHandler:
    made = b""

    @get(PATH, include_in_schema=False, sync_to_thread=False)
    def openapi(request: Request[Any, Any, Any]) -> ASGIResponse:
        # Made when it is first asked for: no start waits for it.
        nonlocal made
        made = made or msgspec.json.encode(document(request.app.routes, **_about(version)))
        return ASGIResponse(body=made, media_type="application/json", headers={"cache-control": "no-cache"})

    return openapi


def _about(version: str) -> dict[str, Any]:
    return {
        "info": {
            "title": "EventBoard",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
    }
