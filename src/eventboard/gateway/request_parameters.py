"""Query and path parameters. Litestar's typed ones would convert them laxly and ignore unknown names."""

import re
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote
from uuid import UUID

import msgspec
from msgspec import Struct

from eventboard.core.errors import Code, FieldError, ServiceError, invalid
from eventboard.gateway.request_headers import AnyRequest, checked_key
from eventboard.gateway.schemas import EmptyObject
from eventboard.gateway.strict_decoding import convert, pointer
from eventboard.gateway.validation_messages import given_twice
from eventboard.modules.events.contract import NO_SUCH_EVENT

Content = TypeVar("Content", bound=Struct)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
MOST_PARAMETERS = 100
_PERCENT = "A % itself is sent as %25."
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_query(request: AnyRequest, type_: type[Content]) -> Content:
    """The query string as a `type_`. Raises `invalid-request`."""
    raw = request.scope["query_string"].decode("latin-1")
    if _BROKEN_ESCAPE.search(raw):
        raise ServiceError(Code.INVALID_REQUEST, f"The query string has a % that begins no escape. {_PERCENT}")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise ServiceError(Code.INVALID_REQUEST, "The query string is not percent-encoded UTF-8.") from None
    except ValueError:
        raise ServiceError(Code.INVALID_REQUEST, f"The query has more than {MOST_PARAMETERS} parameters.") from None
    values: dict[str, Any] = {}
    numbers = _integer_fields(type_)
    for name, value in pairs:
        if name in values:
            raise invalid(FieldError(pointer(name), given_twice(query=True)))
        values[name] = int(value) if name in numbers and _WHOLE_NUMBER.fullmatch(value) else value
    return convert(values, type_, query=True)


def reject_query(request: AnyRequest) -> None:
    """For operations without query parameters: each one is unknown, and unknown ones are an error."""
    if request.scope["query_string"]:
        parse_query(request, EmptyObject)


def parse_id(text: str, unknown: str) -> UUID:
    """A text that is no UUID is the id of nothing. Raises `not-found`, with `unknown` as its detail."""
    if not _UUID.fullmatch(text):
        raise ServiceError(Code.NOT_FOUND, unknown)
    return UUID(text)


def event_id(text: str) -> UUID:
    return parse_id(text, NO_SUCH_EVENT)


def key_in_path(request: AnyRequest) -> str:
    """The idempotency key that the path ends with. It may have slashes, which a decoded path would lose."""
    raw: bytes = request.scope["raw_path"]
    text = raw.decode("latin-1").partition("/idempotency-keys/")[2]
    if _BROKEN_ESCAPE.search(text):
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, f"The path has a % that begins no escape. {_PERCENT}")
    return checked_key(unquote(text))


@cache
def _integer_fields(type_: type[Struct]) -> frozenset[str]:
    """A query string has text only: the values of these fields are integers."""
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(type_)
        if "integer" in str(msgspec.json.schema(field.type))
    )
