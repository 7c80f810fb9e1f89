"""Reading what clients send: token, body, query, preconditions. Whatever is wrong is said, all of it at once."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from math import inf
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote
from uuid import UUID

import msgspec
from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from msgspec import Struct

from eventboard.modules.events.contract import IfMatch
from eventboard.platform.contract import IdempotencyKey
from eventboard.platform.errors import Code, FieldError, ServiceError

AnyRequest = Request[Any, Any, Any]
Body = TypeVar("Body", bound=Struct)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED_KEY = re.compile(r'"(?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"')
# A place of a list may be empty (RFC 9110, section 5.6.1). Possessive: a header full of spaces is read once.
_ENTITY_TAG = re.compile(r'[ \t]*+(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*+"))?[ \t]*+(?:,|$)')
_VERSION = re.compile(r'"([1-9][0-9]{0,9})"')
# What msgspec raises for what isn't JSON; of a wrong value's ValidationError, DecodeError is the base.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Errors that one answer names, and characters of a name that it repeats: more than there are fields, and than any
# field's name has. A small request can't ask for a huge answer.
MOST_ERRORS = 50
LONGEST_NAME = 100


def sent(request: AnyRequest, name: bytes) -> list[str]:
    """The values of a header, as many as were sent; `name` in lower case. Litestar's own look-up builds them all."""
    return [value.decode("latin-1") for given, value in request.scope["headers"] if given == name]


def bearer(request: AnyRequest) -> str:
    """The access token; raises `invalid-token` where there is none."""
    given = sent(request, b"authorization")
    if len(given) != 1:
        why = "No access token was sent." if not given else "More than one Authorization header was sent."
        raise ServiceError(Code.INVALID_TOKEN, why)
    scheme, _, token = given[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ServiceError(Code.INVALID_TOKEN, "The Authorization header holds no bearer token.")
    return token.strip()


async def body(request: AnyRequest, type_: type[Body], *, optional: bool = False) -> Body:
    """The JSON body as a `type_`. `optional`: no body is an empty object."""
    raw = await _whole_body(request)
    if optional and not raw:
        raw = b"{}"
    else:
        _check_media_type(request)
    try:
        return cast("Body", _decoder(type_).decode(raw))
    except _NO_JSON as error:
        raise _refusal(_json(raw), type_, error) from None


async def _whole_body(request: AnyRequest) -> bytes:
    """Raises `too-large` as soon as it is known to be."""
    most = request.route_handler.resolve_request_max_body_size() or inf
    if any(int(length) > most for length in sent(request, b"content-length") if length.isdigit()):
        raise RequestEntityTooLarge
    chunks, size, more = [], 0, True
    while more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            # Nobody reads the answer, and nothing is wrong here.
            raise ServiceError(Code.INVALID_REQUEST, "The client hung up.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            raise RequestEntityTooLarge
        more = message.get("more_body", False)
    return b"".join(chunks)


def _json(raw: bytes) -> Any:
    """The whole body: what decodes a type stops at the first bad field, and what comes after may be no JSON at all."""
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise ServiceError(Code.INVALID_REQUEST, "The body is nested too deeply.") from None
    except _NO_JSON as error:
        why = f"The body is not JSON: {error}." if raw else "The body is empty."
        raise ServiceError(Code.INVALID_REQUEST, why) from None


def query(request: AnyRequest, type_: type[Body]) -> Body:
    """The query string as a `type_`."""
    raw = request.scope["query_string"].decode("latin-1")
    if _BROKEN_ESCAPE.search(raw):
        raise ServiceError(Code.INVALID_REQUEST, "The query string has a % that begins no escape.")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise ServiceError(Code.INVALID_REQUEST, "The query string is not UTF-8, or has too many parameters.") from None
    given: dict[str, Any] = {}
    numbers = _numbers(type_)
    for name, value in pairs:
        if name in given:
            raise _invalid([FieldError(_pointer(name), "It is given twice.")])
        given[name] = int(value) if name in numbers and _WHOLE_NUMBER.fullmatch(value) else value
    try:
        return cast("Body", msgspec.convert(given, _strict(type_)))
    except msgspec.ValidationError as error:
        raise _refusal(given, type_, error) from None


def no_query(request: AnyRequest) -> None:
    """An unknown query parameter is an error where there are none, too."""
    if request.scope["query_string"]:
        query(request, Nothing)


class Nothing(Struct, frozen=True):
    """A body, or a query, without fields."""


def event_id(request: AnyRequest) -> UUID:
    return id_in_path(request, "There is no such event.")


def id_in_path(request: AnyRequest, unknown: str) -> UUID:
    """A text that is no UUID is the id of nothing: `not-found`, with `unknown` as its detail."""
    text = request.path_params["id"]
    if not _UUID.fullmatch(text):
        raise ServiceError(Code.NOT_FOUND, unknown)
    return UUID(text)


def if_match(request: AnyRequest) -> IfMatch | None:
    """If-Match, compared strongly (RFC 9110, section 13.1.1): a weak tag, or one never given out, matches nothing."""
    tags = _tags(request, "if-match")
    if tags is None:
        return None
    found = [_VERSION.fullmatch(tag) for weak, tag in tags if not weak]
    return IfMatch(versions=tuple(int(version[1]) for version in found if version), any=(False, "*") in tags)


def if_none_match(request: AnyRequest) -> frozenset[str]:
    """If-None-Match, compared weakly: the tags of what the client has, in their quotes, or a lone `*`."""
    return frozenset(tag for _, tag in _tags(request, "if-none-match") or ())


def idempotency_key(request: AnyRequest) -> IdempotencyKey | None:
    """The client's key, bare or quoted (a quoted one is an RFC 9651 string; both name the same key)."""
    given = sent(request, b"idempotency-key")
    if not given:
        return None
    if len(given) > 1:
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, "More than one Idempotency-Key header was sent.")
    text = given[0].strip(" \t")
    if _QUOTED_KEY.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return IdempotencyKey(_checked_key(text))


def key_in_path(request: AnyRequest) -> str:
    """The percent-encoded key that the path ends with; a key may hold slashes, which a decoded path would lose."""
    raw: bytes = request.scope["raw_path"]
    text = raw.decode("latin-1").partition("/idempotency-keys/")[2]
    if _BROKEN_ESCAPE.search(text):
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, "The path has a % that begins no escape.")
    return _checked_key(unquote(text))


def _checked_key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ServiceError(Code.INVALID_IDEMPOTENCY_KEY, "A key is 1 to 255 visible ASCII characters, bare or quoted.")
    return text


def _tags(request: AnyRequest, header: str) -> list[tuple[bool, str]] | None:
    """The entity tags of a header: (weak, tag in its quotes); a lone `*` is (False, "*")."""
    given = sent(request, header.encode())
    if not given:
        return None
    text = ", ".join(given).strip(" \t")
    if text == "*":
        return [(False, "*")]
    found, position = [], 0
    while position < len(text):
        match = _ENTITY_TAG.match(text, position)
        if match is None:
            raise ServiceError(Code.INVALID_REQUEST, f"{header.title()} is neither * nor a list of entity tags.")
        if match[2]:
            found.append((match[1] is not None, match[2]))
        position = match.end()
    return found


def _check_media_type(request: AnyRequest) -> None:
    accepted = (JSON, MERGE_PATCH) if request.method == "PATCH" else (JSON,)
    media_type = "".join(sent(request, b"content-type")[:1]).partition(";")[0].strip().lower()
    if media_type not in accepted:
        raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, f"Send the body as {' or '.join(accepted)}.")
    if any(coding.lower() != "identity" for coding in sent(request, b"content-encoding")):
        raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, "Send the body without a content encoding.")


@cache
def _strict(type_: type[Struct]) -> type[Any]:
    """The struct as the public sees it: an unknown field is an error (between processes it is ignored)."""
    return msgspec.defstruct(type_.__name__, [], bases=(type_,), forbid_unknown_fields=True, frozen=True)


@cache
def _decoder(type_: type[Struct]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(_strict(type_))


@cache
def _numbers(type_: type[Struct]) -> frozenset[str]:
    """The names of the fields that are whole numbers: a query string has text only."""
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(type_)
        if "integer" in str(msgspec.json.schema(field.type))
    )


def _refusal(value: Any, type_: type[Struct], first: Exception) -> ServiceError:
    """msgspec stops at the first bad field: this second pass, on failure only, finds every one."""
    if not isinstance(value, dict):
        return _invalid([FieldError("", "It must be an object.")])
    # None is found where a field was given twice, wrong at first: the last one is what `value` holds.
    return _invalid(list(islice(_errors(value, type_), MOST_ERRORS)) or [FieldError("", f"{first}.")])


def _invalid(errors: list[FieldError]) -> ServiceError:
    fields = ", ".join(error.pointer or "the body" for error in errors)
    return ServiceError(Code.INVALID_REQUEST, f"Not valid: {fields}.", tuple(errors))


def _errors(value: dict[str, Any], type_: type[Struct]) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    for name, field in fields.items():
        if name not in value:
            if field.required:
                yield FieldError(_pointer(name), "It is required.")
            continue
        try:
            msgspec.convert(value[name], field.type)
        except msgspec.ValidationError as error:
            yield FieldError(_pointer(name), _explained(str(error)))
    for name in value:
        if name not in fields:
            yield FieldError(_pointer(name), "There is no such field.")


def _explained(message: str) -> str:
    if "matching regex" in message:
        return "It is blank, or holds characters that are not allowed here."
    return f"{message}."


def _pointer(name: str) -> str:
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}…"
    return "/" + name.replace("~", "~0").replace("/", "~1")
