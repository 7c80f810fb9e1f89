"""Validation messages that speak of JSON and of the API. msgspec's speak of Python's types."""

import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, get_args

from msgspec import Meta

from eventboard.core.text import explain

_KINDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "an array",
    "uuid": "a UUID",
    "datetime": "a date and time",
}
_UUID = "a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91"

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_AND_TIME = re.compile(_DATE.pattern + r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?")
# In a query string a "+" is a space.
_LOST_PLUS = re.compile(r"(.+[Tt ][0-9:.]+) ([0-9]{2}:?[0-9]{2})")
_TIME = "It must be a date and time, such as 2027-03-01T18:00:00Z or 2027-03-01T19:00:00+01:00."
_NO_SUCH_TIME = "There is no such date or time: check the day, hours to 23, minutes and seconds to 59, and the offset."
_TIME_IN_QUERY = "It must be a date and time, such as 2027-03-01T18:00:00Z, or a date, such as 2027-03-01."


def _kinds(text: str) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in text.split(" | "))


def _characters(number: str) -> str:
    return f"{number} character" if number == "1" else f"{number} characters"


_MESSAGES: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"Expected `str` of length >= (\d+)", lambda found: f"It must have at least {_characters(found[1])}."),
    (r"Expected `str` of length <= (\d+)", lambda found: f"It must have at most {_characters(found[1])}."),
    (r"Expected `int` >= (-?\d+)", lambda found: f"It must be {found[1]} or more."),
    (r"Expected `int` <= (-?\d+)", lambda found: f"It must be {found[1]} or less."),
    (r"Invalid UUID", lambda _: f"It must be {_UUID}."),
    (r"Expected `([^`]+)`, got `([^`]+)`", lambda found: f"It must be {_kinds(found[1])}, not {_kinds(found[2])}."),
]


def readable(message: str, annotation: Any, value: Any, *, query: bool) -> str:
    """A sentence for the client, from msgspec's message on a value that is no `annotation`. `query`: it is text."""
    if values := _values(annotation):
        return f"It must be one of {', '.join(values)}."
    if "datetime" in message or "RFC3339" in message:
        return _time(value, query=query)
    rules = [meta.extra["rule"] for meta in _metas(annotation) if meta.extra and "rule" in meta.extra]
    if rules and isinstance(value, str) and "length <=" not in message:
        return str(rules[0])
    if "matching regex" in message:
        return explain(value, next(meta.pattern for meta in _metas(annotation) if meta.pattern))
    if query and message.startswith("Expected `int"):
        message = message.replace(" | null", "").replace(", got `str`", "")
    for pattern, sentence in _MESSAGES:
        if found := re.match(pattern, message):
            return sentence(found)
    return "It must be a whole number, such as 10." if query else "This value is not allowed here."


def unknown_name(names: Iterable[str], *, query: bool) -> str:
    what, where = ("parameter", "This call") if query else ("field", "This body")
    listed = ", ".join(names)
    return f"There is no such {what}. {where} has {listed or f'no {what}s'}."


def given_twice(*, query: bool) -> str:
    return f"This {'parameter' if query else 'name'} is given twice. Give it once."


def _time(value: Any, *, query: bool) -> str:
    if not isinstance(value, str):
        return _TIME
    if query and (lost := _LOST_PLUS.fullmatch(value)):
        return f"A + must be sent as %2B in a query, where + is a space: {lost[1]}%2B{lost[2]}."
    if _DATE_AND_TIME.fullmatch(value) or (query and _DATE.fullmatch(value)):
        return _NO_SUCH_TIME
    if _DATE.fullmatch(value):
        return f"It must have a time, too, such as {value}T18:00:00Z."
    return _TIME_IN_QUERY if query else _TIME


def _metas(annotation: Any) -> Iterator[Meta]:
    for part in get_args(annotation):
        if isinstance(part, Meta):
            yield part
        else:
            yield from _metas(part)


def _values(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [member.value for member in annotation]
    return [value for part in get_args(annotation) for value in _values(part)]
