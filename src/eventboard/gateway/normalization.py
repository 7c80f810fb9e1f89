"""Normalizes what clients send: texts to Unicode's form C, times to microseconds and an offset."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import Meta, Struct

from eventboard.core.text import LONGEST_EQUIVALENT, check_shown, normalized

# Digits beyond microseconds. msgspec would round them, and the end of a day would become the next day.
_BEYOND_MICROSECONDS = re.compile(r"(\.[0-9]{6})[0-9]+")
_LONG_FRACTION = re.compile(rb"\.[0-9]{7}")


# A date alone, and a date and time without an offset.
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LOCAL_TIME = re.compile(_DATE.pattern + r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")


class _Field(Struct, frozen=True):
    """`max_length` is in characters of form C.

    `at`: the time that a date alone has; then a time without an offset is in UTC. `empty_is_null`: old clients send an
    empty text for none.
    """

    time: bool = False
    normalized: bool = False
    shown: bool = False
    at: str = ""
    empty_is_null: bool = False
    max_length: int = 0


def is_normalized(raw: bytes) -> bool:
    """True if a JSON body is certainly normalized, as most are. False means that it may not be."""
    return raw.isascii() and b"\\u" not in raw and not _LONG_FRACTION.search(raw)


def normalize(raw: Mapping[str, Any], type_: type[Struct]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values in the form that a `type_` has them in, and errors of texts, by name."""
    values, errors = dict(raw), {}
    for name, field in _fields(type_).items():
        value = values.get(name)
        if not isinstance(value, str):
            continue
        if field.time:
            values[name] = _BEYOND_MICROSECONDS.sub(r"\1", _with_offset(value, field.at), count=1)
        elif not value and field.empty_is_null:
            values[name] = None
        # A longer text is too long in form C, too.
        elif not value.isascii() and len(value) <= field.max_length * LONGEST_EQUIVALENT:
            try:
                values[name] = normalized(value)
                if field.shown:
                    check_shown(values[name])
            except ValueError as error:
                errors[name] = str(error)
    return values, errors


def _with_offset(text: str, at: str) -> str:
    if at and _DATE.fullmatch(text):
        return f"{text}T{at}Z"
    return f"{text}Z" if at and _LOCAL_TIME.fullmatch(text) else text


@cache
def _fields(type_: type[Struct]) -> dict[str, _Field]:
    fields = {field.encode_name: _field(field.type) for field in msgspec.structs.fields(type_)}
    return {name: field for name, field in fields.items() if field.time or field.normalized}


def _field(annotation: Any) -> _Field:
    """From an annotation, which may be a union."""
    # The Meta of an Annotated comes last, and says more than its type.
    for part in reversed(get_args(annotation)):
        if isinstance(part, Meta) and part.extra and "rule" not in part.extra:
            return _Field(**part.extra, max_length=part.max_length or 0)
        if part is datetime:
            return _Field(time=True)
        if (inner := _field(part)) != _Field():
            return inner
    return _Field()
