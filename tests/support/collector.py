"""An OTLP receiver: what is sent to it by HTTP, decoded as OpenTelemetry's own definitions say."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.processes import PATIENCE


@dataclass
class Sent:
    """One span that arrived. Ids are in hexadecimal; a parent of "" is none."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    attributes: dict[str, Any]
    milliseconds: float
    failed: bool
    flags: int


@dataclass
class Collector:
    """`open` holds back all answers while it isn't set."""

    url: str = ""
    spans: list[Sent] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    raw: list[bytes] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)

    def until(self, seen: Callable[[list[Sent]], bool]) -> None:
        """A process has two seconds for the rest when it ends, which are few on a busy machine."""
        end = time.monotonic() + PATIENCE
        while not seen(self.spans[:]):
            assert time.monotonic() < end, self.spans
            time.sleep(0.01)  # between two looks at what other threads take

    def take(self, path: str, body: bytes) -> None:
        self.arrived.set()
        self.open.wait()
        self.paths.add(path)
        self.raw.append(body)
        for told in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _values(told.resource.attributes)
            for scope in told.scope_spans:
                self.spans += [
                    Sent(
                        about["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.kind,
                        _values(span.attributes),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        span.flags,
                    )
                    for span in scope.spans
                ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing: what arrived is kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.shutdown()
        thread.join()
        server.server_close()
