"""OpenTelemetry's tracer provider: its sampler, and processors for `eventboard trace` and for an OTLP collector.

OpenTelemetry's variables (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, …) take precedence over
the defaults here.
"""

import asyncio
import os
import threading
from collections.abc import Mapping

from cachetools import FIFOCache
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from eventboard.observability.tracing import CORRELATION_ID

# The share of requests that production records, unless the client's traceparent decides.
PRODUCTION_RATIO = 0.01
# Seconds that a process waits at its end to export the last spans.
FLUSH = 2.0
# Spans kept of a trace: a request that retries for its whole budget has some two hundred.
MOST_SPANS = 256

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class RecentTraces(SpanProcessor):
    """A span processor that keeps the spans of the last `keep` traces in memory."""

    def __init__(self, keep: int) -> None:
        self._spans: FIFOCache[int, list[ReadableSpan]] = FIFOCache(keep)

    def on_end(self, span: ReadableSpan) -> None:
        if self._spans.maxsize and span.context is not None:
            kept = self._spans.setdefault(span.context.trace_id, [])
            if len(kept) < MOST_SPANS:
                kept.append(span)

    def find(self, correlation_id: str) -> list[ReadableSpan]:
        """All spans of the traces that have a request with this correlation id, in the order of their ends."""
        return [span for spans in self._spans.values() if _has_request(spans, correlation_id) for span in spans]


def _has_request(spans: list[ReadableSpan], correlation_id: str) -> bool:
    return any((span.attributes or {}).get(CORRELATION_ID) == correlation_id for span in spans)


class Tracing:
    """The tracer provider of the process. Closing it exports the remaining spans."""

    def __init__(self, *, service: str, version: str, record_all: bool, keep: int) -> None:
        attributes = {"service.version": version}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            attributes["service.name"] = service
        self.recent = RecentTraces(keep)
        self._provider = TracerProvider(
            sampler=_sampler(os.environ, record_all=record_all),
            resource=Resource.create(attributes),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self.recent)
        if _exports(os.environ):
            # It doubles what a process imports, so only where it is used.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def install(self) -> "Tracing":
        """Sets it as the global tracer provider."""
        trace.set_tracer_provider(self._provider)
        return self

    async def open(self) -> None:
        """It records from its construction on."""

    async def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="trace-flush", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH)


def _sampler(environ: Mapping[str, str], *, record_all: bool) -> Sampler | None:
    """None: the SDK reads OTEL_TRACES_SAMPLER."""
    if environ.get("OTEL_TRACES_SAMPLER"):
        return None
    return ParentBased(ALWAYS_ON if record_all else TraceIdRatioBased(PRODUCTION_RATIO))


def _exports(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp" and any(environ.get(name) for name in _ENDPOINTS)
