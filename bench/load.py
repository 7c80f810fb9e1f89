"""The load: wrk, on a core of its own, with the requests that it is given."""

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from subprocess import PIPE, STDOUT
from typing import Any
from uuid import uuid4

from msgspec import Struct

from bench.servers import LOAD_CORE, Server

# Fewer than a pool has: nobody waits for a connection.
CONNECTIONS = 16

# Several servers that are compared are all up, and loaded in turn: what else the machine does changes within seconds.
# Seconds of a slot, and those at its begin in which requests are sent; in the rest the last of them are answered.
SLOT, OPEN = 0.3, 0.2
# Seconds until the first slot: wrk takes some to start.
LEAD = 0.5

_LUA = """
local steps, order, run = %(steps)s, %(order)s, "%(run)s"
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
local function check(status, body)
    if status > 399 and not failed then
        failed = true
        io.write("FAILED " .. status .. " " .. body .. "\\n")
    end
end

function response(status, headers, body) check(status, body) end

-- All threads of wrk; there is one.
local threads = {}
function setup(thread) table.insert(threads, thread) end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        'RESULT {"requests": %%d, "seconds": %%f, "errors": %%d, "timeouts": %%d, ' ..
        '"p50": %%f, "p95": %%f, "p99": %%f}\\n',
        threads[1]:get("answered") or summary.requests, threads[1]:get("busy") or summary.duration / 1e6,
        e.connect + e.read + e.write + e.status, e.timeout,
        latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""

# Requests in slots of its own alone; counted is what is answered, and how long that took from the begin of each slot.
_SLOTS = """
local ffi = require("ffi")
ffi.cdef[[ struct spec { long seconds, nanoseconds; }; int clock_gettime(int, struct spec *); ]]
local spec = ffi.new("struct spec")
local first, cycle, cycles, open = %(first)f, %(cycle)f, %(cycles)d, %(open)f

local function since()
    ffi.C.clock_gettime(1, spec)
    return tonumber(spec.seconds) + tonumber(spec.nanoseconds) / 1e9 - first
end

function delay()
    local now = since()
    if now < 0 then return math.ceil(-now * 1000) end
    local phase = now %% cycle
    if phase < open and now < cycles * cycle then return 0 end
    return math.ceil((cycle - phase) * 1000)
end

answered, busy = 0, 0
local slot, last = 0, 0
function response(status, headers, body)
    check(status, body)
    local now = since()
    if now < 0 then return end
    if math.floor(now / cycle) > slot then slot, last = math.floor(now / cycle), 0 end
    answered = answered + 1
    busy = busy + now %% cycle - last
    last = now %% cycle
end
"""


class LoadError(Exception):
    """A server answered with errors, or not within wrk's 2 s."""


# What wrk measured; of a load that failed only why: `failed`.
Figures = dict[str, Any]


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


def fire(server: Server, load: Load, seconds: float) -> Figures:
    """Requests per second, latency in milliseconds, and the server's microseconds for a request."""
    before, database = server.cpu(), server.database_cpu()
    with _wrk(server, load, seconds, _script(load)) as wrk:
        output, _ = wrk.communicate()
    return _figures(server, load, output, server.cpu() - before, server.database_cpu() - database)


def fire_in_turn(
    given: Sequence[tuple[Server, Load]], seconds: float, *, slot: float = SLOT, open_: float = OPEN
) -> list[Figures]:
    """As `fire` for each, `seconds` in all, in slots, in turn."""
    cycle, cycles = slot * len(given), math.ceil(seconds / open_)
    first = time.monotonic() + LEAD
    spent, by_database = [0.0] * len(given), [0.0] * len(given)
    with ExitStack() as stack:
        running = []
        for number, (server, load) in enumerate(given):
            slots = {"first": first + number * slot, "cycle": cycle, "cycles": cycles, "open": open_}
            script = _script(load) + _SLOTS % slots
            running.append(stack.enter_context(_wrk(server, load, LEAD + (cycles + 1) * cycle, script)))
        for number in range(len(given) * cycles):
            turn = number % len(given)
            server, _ = given[turn]
            # Nothing is under way then.
            _sleep_until(first + number * slot - (slot - open_) / 10)
            before, database = server.cpu(), server.database_cpu()
            _sleep_until(first + (number + 1) * slot - (slot - open_) / 5)
            spent[turn] += server.cpu() - before
            by_database[turn] += server.database_cpu() - database
        outputs = [wrk.communicate()[0] for wrk in running]
    return [
        _figures(server, load, output, cpu, database_cpu)
        for (server, load), output, cpu, database_cpu in zip(given, outputs, spent, by_database, strict=True)
    ]


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


@contextmanager
def _wrk(server: Server, load: Load, seconds: float, script: str) -> Iterator[subprocess.Popen[str]]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["/usr/bin/taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{load.connections}"]
        duration = f"-d{math.ceil(seconds)}s"
        with subprocess.Popen(
            [*command, duration, "-s", file.name, server.url], stdout=PIPE, stderr=STDOUT, text=True
        ) as wrk:
            yield wrk


def _script(load: Load) -> str:
    steps = "{" + ",".join(_step(step) for step in load.steps) + "}"
    return _LUA % {"steps": steps, "order": "{" + ",".join(map(str, load.order)) + "}", "run": uuid4().hex}


def _figures(server: Server, load: Load, output: str, cpu: float, database_cpu: float) -> Figures:
    _, found, result = output.partition("RESULT ")
    got = json.loads(result.partition("\n")[0]) if found else {}
    if not got or got["errors"] or got["timeouts"] or "FAILED" in output or not got["requests"]:
        return {"failed": f"{load.name} on {server.name}: {_reason(output, got)}"}
    return {
        "per_second": got["requests"] / got["seconds"],
        "cpu_microseconds": cpu / got["requests"] * 1e6,
        "database_cpu_microseconds": database_cpu / got["requests"] * 1e6,
        **{name: got[name] for name in ("p50", "p95", "p99")},
    }


def _reason(output: str, got: Mapping[str, Any]) -> str:
    _, found, answer = output.partition("FAILED ")
    if found:
        return f"answered {answer.partition(chr(10))[0]}"
    if not got:
        return output.strip()
    return f"{got['timeouts']} of {got['requests']} requests took more than 2 s, {got['errors']} failed otherwise"


def warm(server: Server, load: Load, seconds: float = 1) -> Figures:
    """Connections are made and statements prepared; PostgreSQL has its plans from the sixth time on."""
    return fire(server, load, max(1, seconds))


def succeeded(figures: Figures) -> Figures:
    """Raises LoadError where the load failed, for what has no use without it."""
    if "failed" in figures:
        raise LoadError(figures["failed"])
    return figures


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
