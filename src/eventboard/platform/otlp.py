"""Sampled traces, on their way to a collector: OTLP over HTTP, by OpenTelemetry's own exporter.

Imported only where an endpoint is set: the imports take as long as those of all the rest.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from eventboard.platform.errors import HTTP, Code
from eventboard.platform.tracing import (
    ATTEMPT,
    BEGIN,
    CALL,
    COMMIT,
    CONNECTION,
    QUERY,
    SAMPLED,
    SERVICE,
    Recorded,
    Trace,
)

# Where an endpoint without a path takes traces: the specification of OTLP/HTTP.
TRACES = "/v1/traces"
# Seconds that the collector may take for one batch, and between two batches that aren't full.
PATIENCE, EVERY = 5.0, 2.0
# Requests in a batch; each has some ten spans.
BATCH = 256
# Seconds that the last batch may take when the process ends.
FAREWELL = 2.0

_FLAGS = TraceFlags(SAMPLED)
_DATABASE = {"db.system.name": "postgresql"}
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
# What went wrong, with these, is the caller's doing: OpenTelemetry calls no such span an error.
_REFUSALS = frozenset(code.value for code in Code if HTTP[code][0] < 500)


class _Waiting:
    """A trace in the queue of the SDK's processor, which looks at the context and hands the rest on."""

    __slots__ = ("context", "trace")

    def __init__(self, context: SpanContext, trace: Trace) -> None:
        self.context = context
        self.trace = trace


class OtlpExport:
    """`endpoint` is a collector's. `queue` requests may wait; past that the oldest are dropped.

    `patience` says how many seconds closing may take. What a collector does, or doesn't, is felt by nobody else: the
    queue is emptied in a thread of its own.
    """

    def __init__(self, endpoint: str, *, service: str, version: str, queue: int, patience: Callable[[], float]) -> None:
        self._endpoint = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + TRACES
        self._resource = {"service.name": service, "service.version": version, "service.instance.id": str(uuid4())}
        self._queue = queue
        self._patience = patience
        # One waiting context for all: the processor asks it for no more than whether it is sampled.
        self._sampled = SpanContext(1, 1, is_remote=False, trace_flags=_FLAGS)
        self._processor: BatchSpanProcessor | None = None
        # Its words for each attempt to send; that a batch was given up is an error, and is logged.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)

    async def open(self) -> None:
        # The environment's OTEL_RESOURCE_ATTRIBUTES are added.
        resource = Resource.create(self._resource)
        exporter = _Unfolding(OTLPSpanExporter(self._endpoint, timeout=PATIENCE), resource)
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=self._queue,
            schedule_delay_millis=EVERY * 1000,
            max_export_batch_size=min(BATCH, self._queue),
        )

    def __call__(self, trace: Trace) -> None:
        if self._processor is not None:
            self._processor.on_end(cast("ReadableSpan", _Waiting(self._sampled, trace)))

    async def close(self) -> None:
        """What waits is sent, if that can be done soon."""
        if self._processor is None:
            return
        # It waits for half a minute: in a thread that nobody waits for any longer than is meant.
        closing = threading.Thread(target=self._processor.shutdown, name="otlp-farewell", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, min(FAREWELL, self._patience()))


class _Unfolding(SpanExporter):
    """Makes the spans of traces when it is their turn, and not while somebody waits for an answer."""

    def __init__(self, inner: SpanExporter, resource: Resource) -> None:
        self._inner = inner
        self._resource = resource

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return self._inner.export([span for waiting in spans for span in readable(waiting.trace, self._resource)])

    def shutdown(self) -> None:
        self._inner.shutdown()


_SCOPE = InstrumentationScope("eventboard")


def readable(trace: Trace, resource: Resource) -> list[ReadableSpan]:
    """The spans that this process recorded, with the names and attributes of OpenTelemetry's conventions."""
    # perf_counter's clock to Unix nanoseconds.
    origin = int(trace.at * 1e9) - int(trace.begun * 1e9)
    details = {number: detail for number, _, _, _, _, detail, _ in trace.spans}

    def context_of(span_id: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(trace.trace_id, span_id, is_remote=remote, trace_flags=_FLAGS)

    contexts = {number: context_of(trace.id_of(number)) for number in details}
    caller = context_of(trace.parent.span_id, remote=True) if trace.parent else None
    spans = []
    for recorded in trace.spans:
        number, parent, _, begun, ended, _, failure = recorded
        name, kind, attributes = _told(trace, recorded, details.get(parent, ""))
        failed = trace.status >= 500 if number == 0 else bool(failure) and failure not in _REFUSALS
        if failure:
            attributes = {**attributes, "error.type": failure}
        spans.append(
            ReadableSpan(
                name,
                contexts[number],
                # Of one that was still under way when the request ended, nothing but its children is known.
                contexts.get(parent, contexts[0]) if number else caller,
                resource,
                attributes,
                kind=kind,
                status=_ERROR if failed else _UNSET,
                start_time=origin + int(begun * 1e9),
                end_time=origin + int(ended * 1e9),
                instrumentation_scope=_SCOPE,
            )
        )
    return spans


def _told(trace: Trace, recorded: Recorded, of: str) -> tuple[str, SpanKind, Mapping[str, Any]]:
    """Name, kind and attributes. `of` is the detail of the span that this one is inside of."""
    number, _, name, _, _, detail, _ = recorded
    if number == 0:
        return _whole(trace, name, detail)
    if name == QUERY:
        operation, _, table = detail.partition(" ")
        about = {"db.query.summary": detail, "db.operation.name": operation, "db.collection.name": table}
        return detail, SpanKind.CLIENT, {**_DATABASE, **about}
    if name in (CONNECTION, BEGIN, COMMIT):
        return name, SpanKind.CLIENT, _DATABASE
    if name == ATTEMPT:
        again = int(detail) - 1
        attributes: dict[str, Any] = {"rpc.system.name": "eventboard", "rpc.method": of}
        return of, SpanKind.CLIENT, {**attributes, "http.request.resend_count": again} if again else attributes
    if name == CALL or name.endswith(SERVICE):
        return f"{name} {detail}", SpanKind.INTERNAL, {"rpc.method": detail}
    return name, SpanKind.INTERNAL, {}


def _whole(trace: Trace, name: str, detail: str) -> tuple[str, SpanKind, Mapping[str, Any]]:
    attributes: dict[str, Any] = {
        "http.request.method": trace.method,
        "http.response.status_code": trace.status,
        "eventboard.correlation_id": trace.correlation_id,
    }
    if detail and name.endswith(SERVICE):
        return detail, SpanKind.SERVER, {**attributes, "rpc.system.name": "eventboard", "rpc.method": detail}
    if trace.route:
        attributes["http.route"] = trace.route
    return f"{trace.method} {trace.route}".strip(), SpanKind.SERVER, attributes
