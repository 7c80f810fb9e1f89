"""Sampled traces, on their way to a collector: OTLP over HTTP, by OpenTelemetry's own queue and sender.

Spans are written as the protocol has them, each from a template: the SDK's own spans and their encoder take ten times
as long, which all requests pay where all are sampled (docs/decisions/0012-spans-as-tuples.md). Imported only where an
endpoint is set: the imports take as long as those of all the rest.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

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
    Trace,
    unpacked,
)

# Where an endpoint without a path takes traces: the specification of OTLP/HTTP.
TRACES = "/v1/traces"
# Seconds that the collector may take for one batch, and between two batches that aren't full.
PATIENCE, EVERY = 5.0, 2.0
# Requests in a batch; each has some ten spans.
BATCH = 256
# Seconds that the last batch may take when the process ends.
FAREWELL = 2.0

_SERVER, _CLIENT, _INTERNAL = (
    trace_pb2.Span.SPAN_KIND_SERVER,
    trace_pb2.Span.SPAN_KIND_CLIENT,
    trace_pb2.Span.SPAN_KIND_INTERNAL,
)
# Sampled, or it would not be sent; and whether a span's parent is in another process.
_HERE = SAMPLED | trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_THERE = _HERE | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_DATABASE = {"db.system.name": "postgresql"}
# A span's name and detail are of the code, not of what is sent: there are not many of them.
_TEMPLATES = 4096
# What went wrong, with these, is the caller's doing: OpenTelemetry calls no such span an error.
_REFUSALS = frozenset(code.value for code in Code if HTTP[code][0] < 500)


class _Waiting:
    """A packed trace in the queue of the SDK's processor, which looks at the context and hands the rest on."""

    __slots__ = ("context", "trace")

    def __init__(self, context: SpanContext, trace: bytes) -> None:
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
        self._sampled = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(SAMPLED))
        self._processor: BatchSpanProcessor | None = None
        # Its words for each attempt to send; that a batch was given up is an error, and is logged.
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)

    async def open(self) -> None:
        # The environment's OTEL_RESOURCE_ATTRIBUTES are added.
        resource = Resource.create(self._resource)
        exporter = _Exporter(self._endpoint, resource)
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=self._queue,
            schedule_delay_millis=EVERY * 1000,
            max_export_batch_size=min(BATCH, self._queue),
        )

    def __call__(self, trace: bytes) -> None:
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


class _Exporter(OTLPSpanExporter):
    """Writes the spans of traces when it is their turn, and not while somebody waits for an answer."""

    def __init__(self, endpoint: str, resource: Resource) -> None:
        super().__init__(endpoint, timeout=PATIENCE)
        told = [_attribute(key, value) for key, value in resource.attributes.items()]
        self._resource = resource_pb2.Resource(attributes=told)

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        written = encoded((unpacked(waiting.trace) for waiting in spans), self._resource)
        return SpanExportResult.SUCCESS if self._client.export(written).success else SpanExportResult.FAILURE


_SCOPE = InstrumentationScope(name="eventboard")


def encoded(traces: Iterable[Trace], resource: resource_pb2.Resource) -> bytes:
    """An ExportTraceServiceRequest of the spans that this process recorded, by OpenTelemetry's conventions."""
    request = ExportTraceServiceRequest()
    told = request.resource_spans.add(resource=resource).scope_spans.add(scope=_SCOPE)
    for trace in traces:
        _add(told, trace)
    written: bytes = request.SerializeToString()
    return written


def _add(told: trace_pb2.ScopeSpans, trace: Trace) -> None:
    # perf_counter's clock to Unix nanoseconds.
    origin = int(trace.at * 1e9) - int(trace.begun * 1e9)
    trace_id = bytes.fromhex(trace.trace_id)
    tree, ids = trace.tree(), trace.ids()
    for place, id_ in ids.items():
        name, begun, ended, detail, failure = trace.spans[place]
        parent = tree[place]
        span = told.spans.add()
        if parent >= 0:
            span.MergeFromString(_part(name, detail, trace.spans[parent][3], failure))
            # Of one without length the clock may say that it is inside of what came back: then of the whole.
            span.parent_span_id = ids.get(parent, ids[len(tree) - 1]).to_bytes(8)
        else:
            span.MergeFromString(_whole(name, detail, trace.method, trace.route, trace.status, failure))
            span.attributes.append(_attribute("eventboard.correlation_id", trace.correlation_id))
            span.flags = _THERE if trace.parent else _HERE
            if trace.parent:
                span.parent_span_id = trace.parent.to_bytes(8)
        span.trace_id = trace_id
        span.span_id = id_.to_bytes(8)
        span.start_time_unix_nano = origin + int(begun * 1e9)
        span.end_time_unix_nano = origin + int(ended * 1e9)


@lru_cache(maxsize=_TEMPLATES)
def _part(name: str, detail: str, of: str, failure: str) -> bytes:
    """What spans of a kind have in common. `of` is the detail of the span that they are inside of."""
    failed = bool(failure) and failure not in _REFUSALS
    if name == QUERY:
        operation, _, table = detail.partition(" ")
        about = {"db.query.summary": detail, "db.operation.name": operation, "db.collection.name": table}
        return _template(detail, _CLIENT, {**_DATABASE, **about}, failure, failed=failed)
    if name in (CONNECTION, BEGIN, COMMIT):
        return _template(name, _CLIENT, _DATABASE, failure, failed=failed)
    if name == ATTEMPT:
        again = int(detail) - 1
        attributes: dict[str, Any] = {"rpc.system.name": "eventboard", "rpc.method": of}
        if again:
            attributes["http.request.resend_count"] = again
        return _template(of, _CLIENT, attributes, failure, failed=failed)
    if name == CALL or name.endswith(SERVICE):
        return _template(f"{name} {detail}", _INTERNAL, {"rpc.method": detail}, failure, failed=failed)
    return _template(name, _INTERNAL, {}, failure, failed=failed)


@lru_cache(maxsize=_TEMPLATES)
def _whole(name: str, detail: str, method: str, route: str, status: int, failure: str) -> bytes:
    attributes: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
    if detail and name.endswith(SERVICE):
        attributes |= {"rpc.system.name": "eventboard", "rpc.method": detail}
        return _template(detail, _SERVER, attributes, failure, failed=status >= 500)
    if route:
        attributes["http.route"] = route
    return _template(f"{method} {route}".strip(), _SERVER, attributes, failure, failed=status >= 500)


def _template(
    name: str, kind: trace_pb2.Span.SpanKind.ValueType, attributes: Mapping[str, Any], failure: str, *, failed: bool
) -> bytes:
    told = {**attributes, "error.type": failure} if failure else attributes
    written: bytes = trace_pb2.Span(
        name=name,
        kind=kind,
        attributes=[_attribute(key, value) for key, value in told.items()],
        status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
        flags=_HERE,
    ).SerializeToString()
    return written


def _attribute(key: str, value: Any) -> KeyValue:
    told = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
    return KeyValue(key=key, value=told)
