"""The load: wrk, on a core of its own, with the requests that it is given."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from msgspec import Struct

from bench.servers import LOAD_CORE, Server

# Fewer than a pool has: nobody waits for a connection.
CONNECTIONS = 16

_LUA = """
local steps, order, run = %s, %s, "%s"
local turn, calls = 0, 0
for _, step in ipairs(steps) do step.next = 0 end

function request()
    turn = turn %% #order + 1
    local step = steps[order[turn]]
    step.next = step.next %% #step.paths + 1
    calls = calls + 1
    if step.keyed then step.headers["Idempotency-Key"] = run .. calls end
    return wrk.format(step.method, step.paths[step.next], step.headers, step.body)
end

local failed
function response(status, headers, body)
    if status > 399 and not failed then
        failed = true
        io.write("FAILED " .. status .. " " .. body .. "\\n")
    end
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        'RESULT {"requests": %%d, "seconds": %%f, "errors": %%d, "p50": %%f, "p95": %%f, "p99": %%f}\\n',
        summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.timeout + e.status,
        latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Step(Struct, frozen=True, kw_only=True):
    """Requests of one kind, its paths in turn. `keyed`: each with an idempotency key of its own."""

    paths: Sequence[str]
    method: str = "GET"
    token: str = ""
    body: Any = None
    keyed: bool = False


class Load(Struct, frozen=True):
    """`order` says which step each request is of, over and over."""

    name: str
    steps: Sequence[Step]
    order: Sequence[int] = (1,)
    connections: int = CONNECTIONS


def fire(server: Server, load: Load, seconds: float) -> dict[str, float]:
    """What wrk measured: requests per second, latency in milliseconds; and the server's microseconds for a request."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        steps = "{" + ",".join(_step(step) for step in load.steps) + "}"
        script.write(_LUA % (steps, "{" + ",".join(map(str, load.order)) + "}", uuid4().hex))
        script.flush()
        command = ["/usr/bin/taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{load.connections}", f"-d{seconds:g}s"]
        before, database = server.cpu(), server.database_cpu()
        said = subprocess.run(
            [*command, "-s", script.name, server.url], check=False, capture_output=True, text=True
        ).stdout
        cpu, after = server.cpu() - before, server.database_cpu()
        spent = sum(seconds - database.get(process, 0.0) for process, seconds in after.items())
    _, found, result = said.partition("RESULT ")
    got = json.loads(result.partition("\n")[0]) if found else {}
    if not got or got["errors"]:
        sys.exit(f"{load.name} on {server.name} failed:\n{said}")
    return {
        "per_second": got["requests"] / got["seconds"],
        "cpu_microseconds": cpu / got["requests"] * 1e6,
        "database_cpu_microseconds": spent / got["requests"] * 1e6,
        **{name: got[name] for name in ("p50", "p95", "p99")},
    }


def warm(server: Server, load: Load, seconds: float = 1) -> None:
    """Connections are made and statements prepared; PostgreSQL has its plans from the sixth time on."""
    fire(server, load, max(1, seconds))


def _step(step: Step) -> str:
    headers = {"Authorization": f"Bearer {step.token}"} if step.token else {}
    if step.body is not None:
        headers["Content-Type"] = "application/json"
    named = ",".join(f"[{_quoted(name)}]={_quoted(value)}" for name, value in headers.items())
    body = "nil" if step.body is None else _quoted(json.dumps(step.body))
    paths = ",".join(map(_quoted, step.paths))
    keyed = "true" if step.keyed else "false"
    return f'{{method="{step.method}",paths={{{paths}}},headers={{{named}}},body={body},keyed={keyed}}}'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
