"""The spans of a request, by OpenTelemetry, and its `Server-Timing` header.

A request whose root span isn't recorded starts no child spans, which are most of the cost of tracing
(docs/decisions/0031-opentelemetry.md). trace_provider.py configures sampling and export.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType

from opentelemetry import propagate, trace
from opentelemetry.context import Context as TraceContext
from opentelemetry.trace import Span, SpanKind, StatusCode

from eventboard.core import request_context
from eventboard.core.asgi import Scope
from eventboard.core.errors import HTTP, ServiceError

tracer = trace.get_tracer("eventboard")

# The steps of a request, by the names that `eventboard trace` shows.
GATEWAY = "Gateway"
JWT = "JWT validation"
SESSION_CHECK = "Session check"
CALL = "Route to service"
ATTEMPT = "Attempt"
WAIT = "Wait"
CONNECTION = "Database connection"
BEGIN = "Database begin"
QUERY = "Database query"
COMMIT = "Database commit"
IDEMPOTENCY = "Idempotency check"
RECORD = "Idempotency record"
FIRST = "Wait for the first request"
PASSWORD = "Password hash"  # noqa: S105 - the name of a span
SERIALIZATION = "Response serialization"
# Suffix of the step in which a module executes a call.
SERVICE = " Service"

# Our own span attributes.
STEP = "eventboard.step"
CORRELATION_ID = "eventboard.correlation_id"
ATTEMPT_NUMBER = "eventboard.attempt"
# OpenTelemetry's attribute: the code of a ServiceError, or the class of another exception.
ERROR_TYPE = "error.type"

# Names of steps in `Server-Timing`. A module's step has the module's name: "Events Service" is `events`.
_TIMINGS = {
    JWT: "jwt",
    CALL: "call",
    WAIT: "wait",
    CONNECTION: "db",
    BEGIN: "db",
    QUERY: "db",
    COMMIT: "db",
    IDEMPOTENCY: "idempotency",
    RECORD: "idempotency",
    FIRST: "idempotency",
    PASSWORD: "hash",
    SERIALIZATION: "serialize",
}
_DATABASE = frozenset({CONNECTION, BEGIN, QUERY, COMMIT})

# Requests without traces: they come all the time, and nobody looks them up.
_UNTRACED = ("/health", "/metrics", "/debug")


# The headers of the configured propagators (OTEL_PROPAGATORS).
_TRACE_HEADERS = frozenset(field.encode() for field in propagate.get_global_textmap().fields)
# One for all steps that aren't recorded, which are most.
_NOT_RECORDED = nullcontext(trace.INVALID_SPAN)


def request_span(scope: Scope) -> Span:
    """The server span of a request, a child of the client's span if the request has a `traceparent`."""
    if scope["path"].startswith(_UNTRACED):
        return trace.INVALID_SPAN
    return tracer.start_span(scope["method"], _parent(scope), SpanKind.SERVER)


def _parent(scope: Scope) -> TraceContext:
    """The context that the request's headers propagate, which most requests don't have."""
    carrier: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        if name in _TRACE_HEADERS:
            carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
    if len(carrier.get("traceparent", ())) > 1:
        # More than one is invalid (W3C Trace Context, section 3.2.1).
        del carrier["traceparent"]
    return propagate.extract(carrier, TraceContext()) if carrier else TraceContext()


def step(
    name: str,
    detail: str = "",
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] = MappingProxyType({}),
) -> AbstractContextManager[Span]:
    """A child span of the current span, if the request is recorded.

    `detail` is the span's name where a step has several kinds, such as the summary of a statement. Names and attributes
    must have nothing that was sent or stored, and an error is recorded as its code or class, without its message.
    """
    request = request_context.current_or_none()
    if request is None or not request.recorded:
        return _NOT_RECORDED
    return _recorded_step(name, detail, kind, attributes)


@contextmanager
def _recorded_step(name: str, detail: str, kind: SpanKind, attributes: Mapping[str, str | int]) -> Iterator[Span]:
    if name in _DATABASE:
        kind = SpanKind.CLIENT
        attributes = {"db.system.name": "postgresql", **({"db.query.summary": detail} if detail else {})}
    begun = time.perf_counter()
    try:
        with tracer.start_as_current_span(
            detail or name,
            kind=kind,
            attributes={STEP: name, **attributes},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                failed(span, error)
                raise
    finally:
        _add_timing(name, time.perf_counter() - begun)


def step_since(name: str, started: int) -> None:
    """A step that ends now and began at `started`, in Unix nanoseconds."""
    request = request_context.current_or_none()
    if request is not None and request.recorded:
        tracer.start_span(name, attributes={STEP: name}, start_time=started).end()
        _add_timing(name, (time.time_ns() - started) / 1e9)


def _add_timing(name: str, seconds: float) -> None:
    label = _TIMINGS.get(name) or (name.removesuffix(SERVICE).lower() if name.endswith(SERVICE) else "")
    if label:
        request_context.current().log_fields.add_timings({label: seconds})


def failed(span: Span, error: BaseException) -> None:
    """Records why a span failed. A client's mistake (4xx) doesn't set the status of the span to error."""
    if isinstance(error, ServiceError):
        span.set_attribute(ERROR_TYPE, error.code.value)
        if HTTP[error.code][0] < 500:
            return
    else:
        span.set_attribute(ERROR_TYPE, type(error).__name__)
    span.set_status(StatusCode.ERROR)


@contextmanager
def untraced() -> Iterator[None]:
    """For work that a request starts and that may go on after its end."""
    with trace.use_span(trace.INVALID_SPAN):
        yield


def trace_id(span: Span) -> str:
    """In hexadecimal; "" for a request without a trace."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def service(module: str) -> str:
    """The step in which the module executes a call."""
    return module.title() + SERVICE


def server_timing(whole: str, seconds: float, parts: Mapping[str, float]) -> str:
    """The value of a `Server-Timing` header. Parts overlap, so their sum isn't the whole."""
    return ", ".join(f"{name};dur={spent * 1000:.1f}" for name, spent in {whole: seconds, **parts}.items())


def parse_server_timing(value: str) -> dict[str, float]:
    """Seconds by name, as `server_timing` formats them; malformed entries are ignored."""
    timings: dict[str, float] = {}
    for part in value.split(", "):
        name, _, duration = part.partition(";dur=")
        try:
            timings[name] = float(duration) / 1000
        except ValueError:
            continue
    return timings


def propagation_headers() -> dict[str, str]:
    """The headers that propagate the current trace to another process."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
