"""Answers: a contract's struct as JSON, with the headers that go with it."""

from datetime import datetime

import msgspec
from litestar.response.base import ASGIResponse
from msgspec import Struct

from eventboard.modules.auth.contract import LoggedIn, Session
from eventboard.modules.events.contract import Event, KeyReport, KeyState, Written
from eventboard.platform.errors import HTTP
from eventboard.platform.quotas import quota_headers
from eventboard.platform.tracing import LEAST_TOLD, SERIALIZATION, now, since
from eventboard.platform.web import KEY_STATUS

_encode = msgspec.json.Encoder().encode

Headers = list[tuple[bytes, bytes]]
_JSON = (b"content-type", b"application/json")
# No cache may keep what holds a token (RFC 6749, section 5.1); what is one caller's, a browser's cache asks for again.
_SECRET = (b"cache-control", b"no-store")
_PRIVATE = (b"cache-control", b"private, no-cache")


class Reply(ASGIResponse):
    """Headers as they are sent: Litestar's own answer builds, checks and encodes them anew each time."""

    __slots__ = ("_sent",)

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.is_head_response = False
        self._sent = headers

    def encode_headers(self) -> Headers:
        return self._sent


def json_reply(result: Struct, *, status: int = 200, headers: Headers | None = None, secret: bool = False) -> Reply:
    """`secret`: it holds a token."""
    begun = now()
    body = _encode(result)
    since(begun, SERIALIZATION, least=LEAST_TOLD)
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, [*(headers or ()), _SECRET if secret else _PRIVATE, _JSON, length], body)


def session_reply(logged_in: LoggedIn, *, status: int = 200) -> Reply:
    """Somebody is logged in; the limits that it was counted against are in headers."""
    session = Session(
        user=logged_in.user,
        access_token=logged_in.access_token,
        refresh_token=logged_in.refresh_token,
        token_type=logged_in.token_type,
        expires_in=logged_in.expires_in,
    )
    return json_reply(session, status=status, headers=raw(quota_headers(logged_in.quotas)), secret=True)


def event_reply(event: Event, *, headers: Headers | None = None, created: bool = False) -> Reply:
    """One event, with its entity tag; a new one with its address."""
    headers = [_etag(event), *(headers or ())]
    if created:
        headers.append((b"location", f"/events/{event.id}".encode()))
    return json_reply(event, status=201 if created else 200, headers=headers)


def written_reply(written: Written, *, created: bool = False) -> Reply:
    """What a write led to, and whether it did so now or when the client's key was used first."""
    headers = [] if written.key_status is None else [(KEY_STATUS.encode(), written.key_status.value.encode())]
    if written.event is None:
        return Reply(204, headers)
    return event_reply(written.event, headers=headers, created=created)


def raw(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def no_content() -> Reply:
    return Reply(204, [])


def event_or_not_modified(event: Event, known: frozenset[str]) -> Reply:
    """`known` are the entity tags that the client has, or `*`."""
    if known and known & {f'"{event.version}"', "*"}:
        return Reply(304, [_etag(event), _PRIVATE])
    return event_reply(event)


def _etag(event: Event) -> tuple[bytes, bytes]:
    return (b"etag", b'"%d"' % event.version)


class KeyFate(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of an idempotency key; all but `key` and `state` once it is done."""

    key: str
    state: KeyState
    status: int | None = None
    at: datetime | None = None
    operation: str | None = None
    resource: str | None = None
    correlation_id: str | None = None


def key_status(key: str, report: KeyReport) -> KeyFate:
    if report.state is not KeyState.DONE:
        return KeyFate(key=key, state=report.state)
    success = {"events.create": 201, "events.delete": 204}.get(report.operation or "", 200)
    return KeyFate(
        key=key,
        state=report.state,
        status=success if report.code is None else HTTP[report.code][0],
        at=report.at,
        operation=report.operation,
        resource=f"/events/{report.resource}",
        correlation_id=report.correlation_id,
    )
