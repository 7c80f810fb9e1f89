"""What each problem means. A problem's `type` is the URL of a page with this text."""

from msgspec import Struct

from eventboard.core.errors import Code
from eventboard.modules.events.contract import NO_SUCH_EVENT


class Meaning(Struct, frozen=True):
    """`advice` is what a client can do, and `detail` that of an example. Text between backquotes is code."""

    text: str
    advice: str
    detail: str


MEANINGS: dict[Code, Meaning] = {
    Code.INVALID_REQUEST: Meaning(
        "The request breaks a rule of the API. `errors` names each wrong field by a JSON Pointer.",
        "Correct the fields that `errors` names, and send the request again.",
        "Not valid: /title.",
    ),
    Code.INVALID_CURSOR: Meaning(
        "The cursor is not of this list, or the list has other filters or another order now.",
        "Begin again without a cursor, and keep filters and order from page to page.",
        "This cursor is not of this list. Take nextCursor as it is, or begin again without a cursor.",
    ),
    Code.INVALID_IDEMPOTENCY_KEY: Meaning(
        "`Idempotency-Key` is one header with 1 to 255 visible ASCII characters, bare or in double quotes.",
        "Send a new UUID with each write.",
        "A key is 1 to 255 visible ASCII characters, bare or quoted, such as a new UUID.",
    ),
    Code.INVALID_TOKEN: Meaning(
        "The call needs an access token (or, to refresh, a refresh token), and none that is valid was sent.",
        "Refresh the session, or log in, and send the new `accessToken` as `Authorization: Bearer …`.",
        "The access token is rejected: it has expired. Refresh it, or log in again.",
    ),
    Code.INVALID_CREDENTIALS: Meaning(
        "No account has this e-mail address with this password. Which of the two is wrong is not disclosed.",
        "Check both. The password is case-sensitive.",
        "No account has this e-mail address and password.",
    ),
    Code.FORBIDDEN: Meaning(
        "The caller is known, and may not do this: the role, the ownership or the state of the event forbids it.",
        "Ask somebody who may, such as an ADMIN of the organization; or bring the event into another state first.",
        "You may not edit this event while it is SUBMITTED: withdraw it first.",
    ),
    Code.QUOTA_EXCEEDED: Meaning(
        "What the organization's events and their history take has reached its quota. Nothing was done. Events can "
        "still be read, decided on and deleted.",
        "Delete events, or ask the operator for more.",
        "Your organization stores 5368709000 of 5368709120 bytes; this needs 400 more. Delete events, or ask the "
        "operator for more.",
    ),
    Code.NOT_FOUND: Meaning(
        "There is no such thing, or the caller may not see it: the answer is the same for both.",
        "Check the id, and the organization that the access token is for.",
        NO_SUCH_EVENT,
    ),
    Code.METHOD_NOT_ALLOWED: Meaning(
        "The path exists, but not with this method.",
        "Use one of those that the header `Allow` lists.",
        "This path has no PUT. Its methods are GET, HEAD, OPTIONS, POST.",
    ),
    Code.REQUEST_TIMEOUT: Meaning(
        "The body did not arrive in time. Nothing was done.",
        "Send the whole request again.",
        "The body did not arrive within 10 s. Nothing was done: send it again.",
    ),
    Code.WRONG_STATE: Meaning(
        "The event is in a state that doesn't allow this command; `detail` names it.",
        "Read the event again, and decide again.",
        "You can't approve this event: it is DRAFT. Before that, its author has to submit it.",
    ),
    Code.ALREADY_EXISTS: Meaning(
        "The e-mail address or the organization's name is taken, or the person is a member already.",
        "Log in with the account that exists, or choose another name.",
        "There is an account with this e-mail address. Log in; an account joins more organizations by POST /auth/join.",
    ),
    Code.LAST_ADMIN: Meaning(
        "The last active ADMIN of an organization can't be demoted or deactivated.",
        "Make somebody else an ADMIN first.",
        "This is the last active ADMIN of the organization. Make another member an ADMIN first.",
    ),
    Code.REQUEST_IN_PROGRESS: Meaning(
        "The first request with this idempotency key has not ended yet.",
        "Send it again with the same key after `Retry-After` seconds, to be answered with the first one's outcome.",
        "The first request with this idempotency key is still running.",
    ),
    Code.VERSION_CHANGED: Meaning(
        "The event has changed since the version that `If-Match` names. Nothing was overwritten.",
        "Read the event again, decide again, and send its new `ETag` as `If-Match`.",
        'The event is at version 2 now, and If-Match names 1. Read it again, then decide, with If-Match: "2".',
    ),
    Code.TOO_LARGE: Meaning(
        "The body has more bytes than the server takes, which is less where no access token is sent.",
        "Send less.",
        "A body may have at most 1048576 bytes.",
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: Meaning(
        "Bodies are JSON, without a content encoding.",
        "Send `Content-Type: application/json`, or for PATCH also `application/merge-patch+json`.",
        "Send a JSON body with the header Content-Type: application/json.",
    ),
    Code.IDEMPOTENCY_KEY_REUSED: Meaning(
        "An idempotency key belongs to one request: the same operation, on the same event, with the same content. "
        "`detail` says which differs.",
        "Use a new key for a new request.",
        "This idempotency key was used for a request with another body or If-Match. Use a new key for a new request.",
    ),
    Code.SEARCH_TOO_BROAD: Meaning(
        "The list took the database too long, and was stopped.",
        "Search for a longer or rarer text, or narrow the list by `status`, `startDateFrom` and `startDateTo`.",
        "The search was stopped after 1 s. Search for a longer or rarer text.",
    ),
    Code.TOO_MANY_REQUESTS: Meaning(
        "A limit is used up; `detail` says which. Nothing was done. Log-ins, sign-ups and refreshes are limited by "
        "account and by address, other calls by user, and by how many of a user and of an organization are in progress "
        "at once; searches also by the time that they take, writes by the idempotency keys that they use and by how "
        "often one event changes.",
        "Try again after `Retry-After` seconds.",
        "The limit user is used up: 1200 in 60 s. Retry-After says when to try again.",
    ),
    Code.INTERNAL: Meaning(
        "An error of the server. It was logged under the correlation id; nothing of the request was kept.",
        "Tell the operator the `correlationId`.",
        "The error was logged under this correlation id.",
    ),
    Code.ANSWER_TOO_LARGE: Meaning(
        "The answer would have more bytes than one answer may have. Sending the same request again doesn't help.",
        "Ask for less at once: a smaller `limit`, or a narrower filter.",
        "The answer would have more than 8388608 bytes. Ask for less at once.",
    ),
    Code.NOT_IMPLEMENTED: Meaning(
        "The service behind the gateway is older than the gateway and doesn't know this operation yet.",
        "Try again later: it is being upgraded.",
        "This service doesn't know the operation.",
    ),
    Code.UNAVAILABLE: Meaning(
        "A part of the service can't be reached now.",
        "Try again after `Retry-After` seconds; where `retryable` is false, look first whether the request was carried "
        "out.",
        "The database can't be reached now.",
    ),
    Code.DEADLINE_EXCEEDED: Meaning(
        "The request was not done within its time.",
        "Try again; where `retryable` is false, look first whether the request was carried out.",
        "This call was not done within its 10 s.",
    ),
}
