"""What logs, metrics and traces cost a request: the same server with none, one, and all of them, in turn."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct

from bench.load import fire_in_turn, warm
from bench.servers import ONE, PORT, running


class Variant(Struct, frozen=True, kw_only=True):
    logs: bool = False
    metrics: bool = False
    # The share of requests whose traces go to a collector; all are recorded. None: nothing is.
    traces: float | None = None


OFF, ALL, ALL_TRACED = "all off", "all on, 1 % traced", "all on, all traced"
VARIANTS = {
    ALL: Variant(logs=True, metrics=True, traces=0.01),
    OFF: Variant(),
    "logs": Variant(logs=True),
    "metrics": Variant(metrics=True),
    "traces, 1 %": Variant(traces=0.01),
    ALL_TRACED: Variant(logs=True, metrics=True, traces=1.0),
}


async def measure(bench: Any, load: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    given = await bench.load(load, ONE, 1)
    with _collector() as endpoint, ExitStack() as stack:
        servers = {}
        for number, (name, variant) in enumerate(VARIANTS.items()):
            program = "eventboard" if variant.metrics else "bench.silent"
            environ = bench.environ | _settings(variant, endpoint)
            servers[name] = stack.enter_context(running(ONE, environ, program=program, port=PORT + 10 * number))
            warm(servers[name], given)
        for number in range(bench.rounds):
            # None is always the first.
            names = list(VARIANTS)[number % len(VARIANTS) :] + list(VARIANTS)[: number % len(VARIANTS)]
            for name, got in zip(
                names, fire_in_turn([(servers[name], given) for name in names], bench.seconds), strict=True
            ):
                measured[name].append(dict(got))
            told = ", ".join(f"{name} {turns[-1]['per_second']:.0f}/s" for name, turns in measured.items())
            print(f"round {number + 1} of {bench.rounds}: {told}", flush=True)
    return {load: measured}


def _settings(variant: Variant, endpoint: str) -> dict[str, str]:
    settings = {"EVENTBOARD_LOGS_LEVEL": "INFO" if variant.logs else "ERROR"}
    if variant.traces is None:
        return settings | {"EVENTBOARD_TRACING_RECORD": "off"}
    return settings | {
        "EVENTBOARD_TRACING_RECORD": "on",
        "EVENTBOARD_TRACING_ENDPOINT": endpoint,
        "EVENTBOARD_TRACING_SAMPLE_RATIO": str(variant.traces),
    }


class _Taken(BaseHTTPRequestHandler):
    """Takes what comes, and looks at none of it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
