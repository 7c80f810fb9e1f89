"""Responses: a contract's struct as JSON, with its headers."""

from typing import Any, TypeVar
from uuid import UUID

from litestar import Response

from eventboard.core import request_context
from eventboard.core.errors import HTTP
from eventboard.core.problems import entity_tag
from eventboard.core.quotas import quota_headers
from eventboard.gateway.schemas import IdempotencyKeyOutcome
from eventboard.modules.auth.contract import LoggedIn, Session
from eventboard.modules.events.contract import Event, KeyReport, KeyState, Written
from eventboard.observability.tracing import SERIALIZATION, step
from eventboard.web.idempotency_headers import KEY_STATUS

Content = TypeVar("Content")

# A response with a token must not be cached (RFC 6749, section 5.1). One caller's data may be, by their browser, which
# has to revalidate it.
_NO_STORE = {"cache-control": "no-store"}
_PRIVATE = {"cache-control": "private, no-cache"}


class GatewayResponse(Response[Content]):
    """Adds serialization to the trace."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        with step(SERIALIZATION):
            return super().render(content, media_type, enc_hook)


def private_response(result: Content) -> Response[Content]:
    """For one caller only."""
    return GatewayResponse(result, headers=_PRIVATE)


def secret_response(result: Content) -> Response[Content]:
    """With a token in it."""
    return GatewayResponse(result, headers=_NO_STORE)


def session_response(logged_in: LoggedIn) -> Response[Session]:
    """A new session, with the state of the limits on log-ins in headers."""
    session = Session(
        user=logged_in.user,
        access_token=logged_in.access_token,
        refresh_token=logged_in.refresh_token,
        token_type=logged_in.token_type,
        expires_in=logged_in.expires_in,
    )
    return GatewayResponse(session, headers={**quota_headers(logged_in.quotas), **_NO_STORE})


def event_or_not_modified(event: Event, known: frozenset[str]) -> Response[Event]:
    """`known` has the client's entity tags, or `*`."""
    if known and known & {_etag(event), "*"}:
        return Response(None, status_code=304, headers={"etag": _etag(event), **_PRIVATE})  # type: ignore[arg-type]  # no body
    return GatewayResponse(event, headers={"etag": _etag(event), **_PRIVATE})


def written_response(written: Written, *, created: bool = False) -> Response[Event]:
    """The event after a write, and whether the write was executed now or replayed from its idempotency key."""
    event = written.event
    if event is None:
        raise TypeError("only a deletion returns no event")
    headers = {"etag": _etag(event), **_key_status(written), **_PRIVATE}
    if created:
        headers["location"] = _event_path(event.id)
    return GatewayResponse(event, headers=headers)


def _event_path(id_: UUID | str | None) -> str:
    """As clients see it."""
    return f"{request_context.current().prefix}/events/{id_}"


def deleted_response(written: Written) -> Response[None]:
    return Response(None, headers=_key_status(written))


def _key_status(written: Written) -> dict[str, str]:
    return {} if written.key_status is None else {KEY_STATUS: written.key_status.value}


def _etag(event: Event) -> str:
    return entity_tag(event.version)


def key_outcome(key: str, report: KeyReport) -> IdempotencyKeyOutcome:
    if report.state is not KeyState.DONE:
        return IdempotencyKeyOutcome(key=key, state=report.state)
    success = {"events.create": 201, "events.delete": 204}.get(report.operation or "", 200)
    return IdempotencyKeyOutcome(
        key=key,
        state=report.state,
        status=success if report.code is None else HTTP[report.code][0],
        at=report.at,
        operation=report.operation,
        resource=_event_path(report.resource),
        correlation_id=report.correlation_id,
    )
