"""Answers: a contract's struct as JSON, with the headers that go with it."""

from datetime import datetime

import msgspec
from litestar.response.base import ASGIResponse
from msgspec import Struct

from eventboard.modules.auth.contract import LoggedIn, Session
from eventboard.modules.events.contract import Event, KeyReport, KeyState, Written
from eventboard.platform.errors import HTTP
from eventboard.platform.quotas import quota_headers
from eventboard.platform.tracing import SERIALIZATION, Span
from eventboard.platform.web import KEY_STATUS

_encode = msgspec.json.Encoder().encode


def json_reply(
    result: Struct, *, status: int = 200, headers: dict[str, str] | None = None, secret: bool = False
) -> ASGIResponse:
    """`secret`: no cache may keep it (RFC 6749, section 5.1, asks this of every answer with a token)."""
    with Span(SERIALIZATION):
        body = _encode(result)
    return ASGIResponse(
        body=body,
        status_code=status,
        media_type="application/json",
        headers={**(headers or {}), "cache-control": "no-store" if secret else "private, no-cache"},
    )


def session_reply(logged_in: LoggedIn, *, status: int = 200) -> ASGIResponse:
    """Somebody is logged in; the limits that it was counted against are in headers."""
    session = Session(
        user=logged_in.user,
        access_token=logged_in.access_token,
        refresh_token=logged_in.refresh_token,
        token_type=logged_in.token_type,
        expires_in=logged_in.expires_in,
    )
    return json_reply(session, status=status, headers=quota_headers(logged_in.quotas), secret=True)


def event_reply(event: Event, *, headers: dict[str, str] | None = None, created: bool = False) -> ASGIResponse:
    """One event, with its entity tag; a new one with its address."""
    headers = {"etag": etag(event), **(headers or {})}
    if created:
        headers["location"] = f"/events/{event.id}"
    return json_reply(event, status=201 if created else 200, headers=headers)


def written_reply(written: Written, *, created: bool = False) -> ASGIResponse:
    """What a write led to, and whether it did so now or when the client's key was used first."""
    headers = {} if written.key_status is None else {KEY_STATUS: written.key_status.value}
    if written.event is None:
        return ASGIResponse(body=b"", status_code=204, headers=headers)
    return event_reply(written.event, headers=headers, created=created)


def no_content() -> ASGIResponse:
    return ASGIResponse(body=b"", status_code=204)


def event_or_not_modified(event: Event, known: frozenset[str]) -> ASGIResponse:
    """`known` are the entity tags that the client has, or `*`."""
    if known & {etag(event), "*"}:
        headers = {"etag": etag(event), "cache-control": "private, no-cache"}
        return ASGIResponse(body=b"", status_code=304, headers=headers)
    return event_reply(event)


def etag(event: Event) -> str:
    return f'"{event.version}"'


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
