"""Request headers: access token, preconditions, idempotency key."""

import re
from typing import Any

from litestar.connection import ASGIConnection

from eventboard.core.contract import IdempotencyKey
from eventboard.core.errors import Code, ServiceError
from eventboard.modules.events.contract import IfMatch

# A request, or what Litestar gives a guard or an authentication middleware.
AnyRequest = ASGIConnection[Any, Any, Any, Any]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED_KEY = re.compile(r'"(?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"')
# An element of a list may be empty (RFC 9110, section 5.6.1). Possessive: a header full of spaces is read once.
_ENTITY_TAG = re.compile(r'[ \t]*+(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*+"))?[ \t]*+(?:,|$)')
# A tag without its quotes, such as 1.
_BARE_TAG = re.compile(r"[0-9A-Za-z._-]{1,64}")
_VERSION = re.compile(r'"([1-9][0-9]{0,9})"')


def header_values(request: AnyRequest, name: bytes) -> list[str]:
    """All values of a header; `name` is in lower case. Litestar's `request.headers` would decode every header."""
    return [value.decode("latin-1") for other, value in request.scope["headers"] if other == name]


def bearer_token(request: AnyRequest) -> str:
    """The access token. Raises `invalid-token` if there is none."""
    values = header_values(request, b"authorization")
    if len(values) == 1:
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        if scheme.lower() == "bearer":
            wrong = "The Authorization header has no access token after Bearer"
        else:
            wrong = "The Authorization header doesn't begin with the word Bearer and a space"
    else:
        wrong = "More than one Authorization header was sent" if values else "No access token was sent"
    raise ServiceError(Code.INVALID_TOKEN, f"{wrong}. Send one header, Authorization: Bearer <accessToken>.")


def if_match(request: AnyRequest) -> IfMatch | None:
    """If-Match, compared strongly (RFC 9110, section 13.1.1): a weak tag, or one that isn't ours, matches nothing."""
    tags = _entity_tags(request, "if-match")
    if tags is None:
        return None
    versions = [_VERSION.fullmatch(tag) for weak, tag in tags if not weak]
    return IfMatch(versions=tuple(int(version[1]) for version in versions if version), any=(False, "*") in tags)


def if_none_match(request: AnyRequest) -> frozenset[str]:
    """If-None-Match, compared weakly: the client's entity tags, in quotes, or `*` alone."""
    return frozenset(tag for _, tag in _entity_tags(request, "if-none-match") or ())


def idempotency_key(request: AnyRequest) -> IdempotencyKey | None:
    """The client's key, bare or as a quoted string (RFC 9651); both are the same key."""
    values = header_values(request, b"idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, "More than one Idempotency-Key header was sent.")
    text = values[0].strip(" \t")
    if _QUOTED_KEY.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return IdempotencyKey(checked_key(text))


def checked_key(text: str) -> str:
    """Raises `invalid-idempotency-key`."""
    if not _KEY.fullmatch(text):
        rule = "A key is 1 to 255 visible ASCII characters, bare or quoted, such as a new UUID."
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, rule)
    return text


def _entity_tags(request: AnyRequest, header: str) -> list[tuple[bool, str]] | None:
    """A header's entity tags as (weak, tag in quotes); `*` alone is (False, "*")."""
    values = header_values(request, header.encode())
    if not values:
        return None
    text = ", ".join(values).strip(" \t")
    if text == "*":
        return [(False, "*")]
    tags, position = [], 0
    while position < len(text):
        match = _ENTITY_TAG.match(text, position)
        if match is None:
            tag = text if _BARE_TAG.fullmatch(text) else "1"
            raise ServiceError(
                Code.INVALID_REQUEST,
                f"{header.title()} is neither * alone nor entity tags in double quotes, with commas between them. Send"
                f' the ETag of an answer as it was, such as {header.title()}: "{tag}".',
            )
        if match[2]:
            tags.append((match[1] is not None, match[2]))
        position = match.end()
    return tags
