"""Decodes what clients send into a struct: no type is converted, all errors are reported at once, unknown fields too.

Litestar's own decoding converts types ("5" is a number), stops at the first error and ignores unknown fields.
"""

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from eventboard.core.errors import Code, FieldError, ServiceError, invalid
from eventboard.gateway.normalization import is_normalized, normalize
from eventboard.gateway.validation_messages import given_twice, readable, unknown_name

Content = TypeVar("Content", bound=Struct)

# Raised by msgspec for invalid JSON, and for invalid values: ValidationError is a DecodeError.
_INVALID = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Errors in one response, and characters of a field's name in it: more than any valid request has. A small request can't
# cause a huge response.
MAX_ERRORS = 50
MAX_NAME = 100

# Bytes of a wrong body in which names that are given twice are looked for, in every object: longer than any valid one.
MOST_CHECKED = 131_072

# Half of a character that JSON escapes as two.
_SURROGATE = re.compile(rb"\\u[Dd][89A-Fa-f]")


def decode(raw: bytes, type_: type[Content]) -> Content:
    """A JSON body as a `type_`. Raises `invalid-request`."""
    try:
        decoded = _decoder(type_).decode(raw)
    except _INVALID as error:
        value = _json(raw)
        return convert(value, type_, error, _repeated_names(raw) if len(raw) <= MOST_CHECKED else ())
    repeated = _repeated_names(raw)
    if is_normalized(raw) and not repeated:
        return cast("Content", decoded)
    return convert(_json(raw), type_, repeated=repeated)


def _json(raw: bytes) -> Any:
    """The whole body as JSON: a typed decoder stops at the first error, and the rest may be no JSON at all."""
    try:
        return msgspec.json.decode(raw)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise ServiceError(Code.INVALID_REQUEST, "The body is not UTF-8, as JSON has to be.") from None
    except msgspec.ValidationError:
        raise ServiceError(Code.INVALID_REQUEST, "The body has a number that is too large.") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        if "truncated" in reason:
            reason = "half of a surrogate pair is escaped" if _SURROGATE.search(raw) else "it ends too early"
        elif raw.startswith(BOM_UTF8):
            reason = "it begins with a byte order mark"
        raise ServiceError(Code.INVALID_REQUEST, f"The body is not JSON: {reason}.") from None


def _repeated_names(raw: bytes) -> list[FieldError]:
    """The names that an object has twice, at any depth. msgspec keeps the last one in silence."""
    inside: list[str] = []
    own: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        """Called for the innermost objects first, so that the last `own` are the body's."""
        nonlocal own
        inside.extend(own)
        own = []
        if len({name for name, _ in pairs}) < len(pairs):
            own = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]

    try:
        # Numbers stay text: Python limits the digits of those that it converts.
        json.loads(raw, object_pairs_hook=check, parse_int=str, parse_float=str)
    except RecursionError:
        raise _too_deep() from None
    detail = 'An object in it has the name "{}" twice. Give it once.'
    return [
        *(FieldError(pointer(name), given_twice(query=False)) for name in own[:MAX_ERRORS]),
        *(FieldError("", detail.format(name[:MAX_NAME])) for name in inside[:MAX_ERRORS]),
    ]


def _too_deep() -> ServiceError:
    return ServiceError(Code.INVALID_REQUEST, "The body is nested too deeply.")


@cache
def _strict(type_: type[Struct]) -> type[Any]:
    """The struct for public requests: unknown fields are an error. Between processes they are ignored."""
    return msgspec.defstruct(type_.__name__, [], bases=(type_,), forbid_unknown_fields=True, frozen=True)


@cache
def _names(type_: type[Struct]) -> frozenset[str]:
    return frozenset(type_.__struct_encode_fields__)


@cache
def _decoder(type_: type[Struct]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(_strict(type_))


def convert(
    value: Any,
    type_: type[Content],
    failed: Exception | None = None,
    repeated: Sequence[FieldError] = (),
    *,
    query: bool = False,
) -> Content:
    """The values as a `type_`, with texts and times normalized first.

    `failed` is the error that they had before normalization; `repeated` are errors of names that are there twice.
    """
    if not isinstance(value, dict):
        raise invalid(FieldError("", "It must be an object."))
    values, text_errors = normalize(value, type_)
    if not repeated and not text_errors and values.keys() <= _names(type_) and (failed is None or values != value):
        try:
            return msgspec.convert(values, type_)
        except msgspec.ValidationError:
            pass
    # msgspec stops at the first error. This second pass, on failure only, finds all of them. It finds none in a long
    # body where a right value follows a wrong one of the same name.
    errors = [*repeated, *islice(_errors(values, type_, text_errors, query=query), MAX_ERRORS)]
    raise invalid(*errors[:MAX_ERRORS] or [FieldError("", "A name in it is given twice. Give it once.")])


def _errors(
    values: dict[str, Any], type_: type[Struct], text_errors: Mapping[str, str], *, query: bool
) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    for name, field in fields.items():
        if name not in values:
            if field.required:
                yield FieldError(pointer(name), "It is required.")
            continue
        try:
            msgspec.convert(values[name], field.type)
        except msgspec.ValidationError as error:
            yield FieldError(pointer(name), readable(str(error), field.type, values[name], query=query))
        else:
            if name in text_errors:
                yield FieldError(pointer(name), text_errors[name])
    for name in values:
        if name not in fields:
            yield FieldError(pointer(name), unknown_name(fields, query=query))


def pointer(name: str) -> str:
    """RFC 6901."""
    if len(name) > MAX_NAME:
        name = f"{name[:MAX_NAME]}…"
    return "/" + name.replace("~", "~0").replace("/", "~1")
