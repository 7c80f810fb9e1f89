"""What logs, metrics and traces cost a request: the same server with none, one, and all of them, in turn."""

import os
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct

from bench.load import Load, fire_in_turn, warm
from bench.servers import LOAD_CORE, ONE, PORT, Server, running


class Variant(Struct, frozen=True, kw_only=True):
    logs: bool = False
    metrics: bool = False
    # The share of requests that are recorded and go to a collector; None: nothing is.
    traces: float | None = None


ALL, OFF = "all on, 1 % traced", "all off"
ALL_TRACED, OFF_BESIDE = "all on, all traced", "all off, beside it"
# Those of a group are compared. What sends every trace has some left to do in the next one's turn: it is by itself.
GROUPS = (
    {
        ALL: Variant(logs=True, metrics=True, traces=0.01),
        OFF: Variant(),
        "logs": Variant(logs=True),
        "metrics": Variant(metrics=True),
        "traces, 1 %": Variant(traces=0.01),
    },
    {ALL_TRACED: Variant(logs=True, metrics=True, traces=1.0), OFF_BESIDE: Variant()},
)


async def measure(bench: Any, load: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    measured: dict[str, list[dict[str, Any]]] = {}
    given = await bench.load(load, ONE, 1)
    cores = os.sched_getaffinity(0)
    # The collector is this process, and takes no time of the servers'.
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    try:
        for group in ({name: GROUPS[0][name] for name in (ALL, OFF)},) if bench.quick else GROUPS:
            measured |= _measured(bench, given, group)
    finally:
        os.sched_setaffinity(0, cores)
    return {load: measured}


def _measured(bench: Any, given: Load, group: Mapping[str, Variant]) -> dict[str, list[dict[str, Any]]]:
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in group}
    with _collector() as endpoint:
        for number in range(bench.rounds):
            # None always comes after the same one.
            names = random.Random(number).sample(list(group), len(group))  # noqa: S311 - an order
            # New processes each time: where a process' memory happens to be makes it up to 5 % faster or slower.
            with ExitStack() as stack:
                servers = [
                    stack.enter_context(_serving(bench, group[name], endpoint, place))
                    for place, name in enumerate(names)
                ]
                for server in servers:
                    warm(server, given)
                turns = fire_in_turn([(server, given) for server in servers], bench.seconds)
            for name, got in zip(names, turns, strict=True):
                measured[name].append(got)
            line = ", ".join(f"{name} {turns[-1].get('per_second', 0):.0f}/s" for name, turns in measured.items())
            print(f"round {number + 1} of {bench.rounds}: {line}", flush=True)
    return measured


def _serving(bench: Any, variant: Variant, endpoint: str, place: int) -> AbstractContextManager[Server]:
    program = "eventboard" if variant.metrics else "bench.silent"
    return running(ONE, bench.environ | _settings(variant, endpoint), program=program, port=PORT + 10 * place)


def _settings(variant: Variant, endpoint: str) -> dict[str, str]:
    settings = {"EVENTBOARD_LOGS_LEVEL": "INFO" if variant.logs else "ERROR"}
    if variant.traces is None:
        return settings | {"OTEL_SDK_DISABLED": "true"}
    return settings | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(variant.traces),
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
