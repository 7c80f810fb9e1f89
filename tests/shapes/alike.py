"""Compares what shapes answered, to the byte.

What differs by its nature (docs: "Alike in every shape") is compared by presence and form: an id or a time that a shape
made itself becomes its place in the order of first appearance, so the same one in two places must be the same one in
the other shape too. Everything else has to be equal.
"""

import base64
import json
import re
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

import msgspec

from tests.shapes.recording import Exchange, Recording

# Headers that are compared by form: what they may look like.
FORMS = {
    "date": r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    "retry-after": r"[1-9]\d*",
    "traceparent": r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    "server-timing": r"[a-z]+;dur=[\d.]+(, [a-z]+;dur=[\d.]+)*",
    "ratelimit": r'"[a-z-]+";r=\d+;t=\d+(, "[a-z-]+";r=\d+;t=\d+)*',
}

# Seconds that a database's clock, or rounding to whole seconds, may be off.
SLACK = 2

_TOKEN = re.compile(r"\b(eyJ[\w-]+)\.(eyJ[\w-]+)\.([\w-]{86})\b")
_CURSOR = re.compile(r'(?<="nextCursor":")([\w-]+)(?=")')
# Refresh tokens, and invitations with their organization: bytes of chance.
_SECRET = re.compile(r'(?P<name>oken": ?")(?P<value>[\w-]{43}|[\w-]{64})(?=")')
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
# The one form of a time in a body: whole microseconds, of which a whole second has none.
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?Z")
# What /health says of its parts is the shape itself.
_PARTS = re.compile(r'^(\{"status":"up","version":"[^"]+"),"parts":\{.*\}\}$')
_HEALTH = re.compile(r"GET /health(/ready)? ")

# What a shape makes ends so long after it was made: at once, an invitation, a session.
LIFETIMES = (timedelta(), timedelta(days=7), timedelta(days=30))

# Characters shown on each side of the first difference.
AROUND = 60


def differences(reference: Recording, other: Recording) -> list[str]:
    """One line for each thing that differs: which request, in which shape, and how."""
    found = []
    renamed, others_renamed = _Renaming(reference), _Renaming(other)
    for number, (one, two) in enumerate(zip_longest(reference.exchanges, other.exchanges), 1):
        if one is None or two is None:
            found.append(f"{number}. {(one or two).request} in {other.shape}: it was sent to one shape only")
            continue
        same = one.body == two.body  # as pages and scripts are: nothing in there needs a name
        expected, actual = renamed.exchange(one, body=not same), others_renamed.exchange(two, body=not same)
        for what, before, after in zip(("request", "status", "headers", "body"), expected, actual, strict=True):
            if before != after:
                found.append(f"{number}. {expected[0]} in {other.shape}: {what}: {_shown(before, after)}")
    return found


class _Renaming:
    """Of one recording. Names are given in the order of first appearance, over the whole of it."""

    def __init__(self, recording: Recording) -> None:
        self._begun = recording.begun - SLACK
        self._ended = recording.ended + SLACK
        self._names: dict[str, str] = {}

    def exchange(self, exchange: Exchange, *, body: bool) -> tuple[str, str, str, str]:
        """Request, status, headers and (where asked for) body as text that is the same in every shape."""
        request = self._text(exchange.request)
        headers = "\n".join(
            f"{name}: {self._header(name.lower(), value, exchange)}" for name, value in exchange.headers
        )
        content = exchange.body.decode("latin-1") if body else ""
        if _HEALTH.search(exchange.request):
            content = _PARTS.sub(r"\1}", content)
        return request, exchange.status, headers, self._text(content)

    def _header(self, name: str, value: str, exchange: Exchange) -> str:
        if name in FORMS and re.fullmatch(FORMS[name], value):
            return f"<{name}>"
        if name == "content-length" and value == str(len(exchange.body)):
            # The bodies themselves are compared.
            return "<the body's>"
        return self._text(value)

    def _text(self, text: str) -> str:
        text = _TOKEN.sub(self._token, text)
        text = _CURSOR.sub(self._cursor, text)
        text = _SECRET.sub(lambda match: match["name"] + self._name("secret", match["value"]), text)
        text = _ID.sub(self._id, text)
        return _TIME.sub(self._time, text)

    def _token(self, match: re.Match[str]) -> str:
        """An access token as the text that was signed, its times counted from its making."""
        header, claims = (_unpacked(part).decode() for part in match.groups()[:2])
        times = json.loads(claims)
        if not self._made_here(times["iat"]):
            return match[0]
        claims = claims.replace(f'"iat":{times["iat"]}', '"iat":<now>')
        claims = claims.replace(f'"exp":{times["exp"]}', f'"exp":<now + {times["exp"] - times["iat"]}>')
        return f"<token {header} {claims} and a signature>"

    def _cursor(self, match: re.Match[str]) -> str:
        fingerprint, *rest = msgspec.msgpack.decode(_unpacked(match[1]))
        return f"<cursor {fingerprint.hex()} {msgspec.json.encode(rest).decode()}>"

    def _id(self, match: re.Match[str]) -> str:
        """Version 4 is chance; a version 7 begins with the milliseconds of its making."""
        id_ = UUID(match[0])
        if id_.version == 7 and not self._made_here((id_.int >> 80) / 1000):
            return match[0]
        return self._name("id", match[0])

    def _time(self, match: re.Match[str]) -> str:
        """What is to come is told by what it is counted from."""
        try:
            moment = datetime.fromisoformat(match[0])
        except ValueError:  # a day that no month has, which a client sent
            return match[0]
        for lifetime in LIFETIMES:
            if self._made_here(moment.timestamp() - lifetime.total_seconds()):
                return f"{self._name('time', str(moment - lifetime))} + {lifetime}"
        return match[0]

    def _made_here(self, seconds: float) -> bool:
        return self._begun <= seconds <= self._ended

    def _name(self, kind: str, value: str) -> str:
        return self._names.setdefault(value, f"<{kind} {len(self._names)}>")


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _shown(one: str, two: str) -> str:
    """Both, around the first character in which they differ."""
    at = next((index for index, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(one), len(two)) if at is None else at
    excerpts: list[Any] = [text[max(0, at - AROUND) : at + AROUND] for text in (one, two)]
    return "{!r} became {!r}".format(*excerpts)
