"""EventBoard against its bare self: requests per second, and the processor time that one request takes.

Both servers run at once, pinned to one core; the load comes from the other; PostgreSQL runs where it likes. Rounds
alternate between the two, so that what else the machine does meets both. Linux only: taskset, /proc, wrk.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from eventboard.demo import PASSWORD, demo_id
from eventboard.local.postgres import start

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SERVER_CORE, LOAD_CORE = "0", "1"
EVENTBOARD, BARE = "eventboard", "bare"
PORTS = {EVENTBOARD: 3980, BARE: 3981}

ROUNDS = 5
SECONDS = 4  # of load in a round
CONNECTIONS = 16  # fewer than the pool has: nobody waits for a connection
EVENTS = 20_000
READ = 1_000  # different events that are read in turn

DRAFT = {
    "title": "Chess night",
    "description": "Bring a board and a friend.",
    "location": "Cafeteria",
    "startDate": "2031-03-01T18:00:00Z",
    "endDate": "2031-03-01T21:00:00Z",
    "timeZone": "Europe/Berlin",
}

LUA = """
local paths = {%s}
local body = %s
local next = 0
wrk.headers["Authorization"] = "Bearer %s"
if body then
    wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", body, "application/json"
end
function request()
    next = next %% #paths + 1
    return wrk.format(nil, paths[next])
end
"""


class Server:
    def __init__(self, name: str, process: subprocess.Popen[bytes], ready_after: float) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{PORTS[name]}"
        self.ready_after = ready_after
        self._process = Path("/proc", str(process.pid))

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        user, system = (self._process / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident MiB."""
        found = re.search(r"VmRSS:\s+(\d+) kB", (self._process / "status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    if missing := [name for name in ("wrk", "taskset") if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} missing; on Debian and Ubuntu: apt-get install wrk util-linux")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("one core for the server and one for the load are needed")
    begun, load_before = time.monotonic(), os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventboard-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another account where this one is root
        postgres = start(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EVENTBOARD_")},
            "EVENTBOARD_DATABASE_URL": postgres.url(),
            "EVENTBOARD_TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
            "EVENTBOARD_SERVER_PORT": str(PORTS[EVENTBOARD]),
            "BARE_DATABASE_URL": postgres.url(),
            "BARE_ORGANIZATION": str(demo_id("acme-corp")),
            "BARE_AUTHOR": str(demo_id("user@acme.com")),
        }
        for command in (["migrate"], ["demo", "--events", str(EVENTS)]):
            subprocess.run([BIN / "eventboard", *command], env=environ, check=True, stdout=subprocess.DEVNULL)
        # Uvicorn's line for each request off: bare is bare. EventBoard's goes nowhere, but is written.
        bare = ["bare:app", "--app-dir", str(HERE), "--port", str(PORTS[BARE]), "--no-access-log"]
        servers = (
            stack.enter_context(_running(EVENTBOARD, [BIN / "eventboard", "serve"], environ, "/health/ready")),
            stack.enter_context(_running(BARE, [BIN / "uvicorn", *bare], environ, "/schema/openapi.json")),
        )
        memory = {server.name: server.memory() for server in servers}
        token = _ask(servers[0], "/auth/login", {"email": "user@acme.com", "password": PASSWORD})["accessToken"]
        loads = {
            "GET /events/{id}": _script(
                folder / "get.lua", token, [f"/events/{id_}" for id_ in _ids(servers[0], token)]
            ),
            "POST /events": _script(folder / "post.lua", token, ["/events"], json.dumps(DRAFT)),
        }
        results = {name: _compare(name, servers, script) for name, script in loads.items()}
        after = {server.name: server.memory() for server in servers}
    _write(
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": _said("git", "-C", str(HERE), "rev-parse", "--short", "HEAD"),
            "machine": f"{_processor()}, {os.cpu_count()} cores",
            "versions": f"Python {sys.version.split()[0]}, PostgreSQL {postgres.version}",
            "load_before": round(load_before, 2),
            "seconds_in_all": round(time.monotonic() - begun),
            "rounds": ROUNDS,
            "seconds": SECONDS,
            "connections": CONNECTIONS,
            "ready_after_seconds": {server.name: round(server.ready_after, 2) for server in servers},
            "memory_mib": {"after start": memory, "after the load": after},
            "results": results,
        }
    )


@contextmanager
def _running(name: str, command: list[Any], environ: dict[str, str], path: str) -> Iterator[Server]:
    begun = time.monotonic()
    process = subprocess.Popen(
        ["/usr/bin/taskset", "-c", SERVER_CORE, *command],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{PORTS[name]}{path}"):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() - begun > 30:
                    sys.exit(f"{name} did not start on port {PORTS[name]}")
                time.sleep(0.01)
        yield Server(name, process, time.monotonic() - begun)
    finally:
        process.terminate()
        process.wait()


def _ask(server: Server, path: str, body: dict[str, str] | None = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(server.url + path, data, headers)) as answer:  # noqa: S310 - the address is ours
        return json.load(answer)


def _ids(server: Server, token: str) -> Iterator[str]:
    for page in range(READ // 100):
        answer = _ask(server, f"/events?limit=100&page={page + 1}&status=APPROVED", token=token)
        yield from (event["id"] for event in answer["data"])


def _script(path: Path, token: str, paths: list[str], body: str = "") -> Path:
    path.write_text(LUA % (",".join(f'"{each}"' for each in paths), f"[[{body}]]" if body else "nil", token))
    return path


def _compare(name: str, servers: tuple[Server, Server], script: Path) -> dict[str, Any]:
    for server in servers:
        _round(server, script, 1)  # connections are made, statements prepared
    rounds: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    for number in range(ROUNDS):
        for server in servers:
            rounds[server.name].append(_round(server, script, SECONDS))
        print(
            f"{name}, round {number + 1} of {ROUNDS}:",
            ", ".join(f"{server} {got[-1]['per_second']:.0f}/s" for server, got in rounds.items()),
            flush=True,
        )
    return {
        **{server: _summary(got) for server, got in rounds.items()},
        "ratio_per_second": _spread(
            [ours["per_second"] / bare["per_second"] for ours, bare in zip(*rounds.values(), strict=True)]
        ),
        "ratio_cpu": _spread(
            [ours["cpu_microseconds"] / bare["cpu_microseconds"] for ours, bare in zip(*rounds.values(), strict=True)]
        ),
    }


def _round(server: Server, script: Path, seconds: int) -> dict[str, float]:
    cpu = server.cpu()
    command = [
        "/usr/bin/taskset",
        "-c",
        LOAD_CORE,
        "wrk",
        "--latency",
        "-t",
        "1",
        "-c",
        str(CONNECTIONS),
        "-d",
        f"{seconds}s",
    ]
    said = _said(*command, "-s", str(script), server.url)
    cpu = server.cpu() - cpu
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"{server.name} failed under load:\n{said}")
    requests, took = re.search(r"(\d+) requests in ([\d.]+)s", said), re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if requests is None or took is None:
        sys.exit(f"wrk said something else than expected:\n{said}")
    return {
        "per_second": int(requests[1]) / float(requests[2]),
        "cpu_microseconds": cpu / int(requests[1]) * 1e6,
        "p99_milliseconds": float(took[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[took[2]],
    }


def _summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    return {name: _spread([each[name] for each in rounds]) for name in rounds[0]}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown processor"


def _write(result: dict[str, Any]) -> None:
    def shown(values: dict[str, float], digits: int = 0) -> str:
        return f"{values['median']:,.{digits}f} ({values['least']:,.{digits}f}-{values['most']:,.{digits}f})"

    lines = [
        "# EventBoard against bare handlers",
        "",
        f"{result['at']}, revision {result['revision']}; {result['machine']}, {result['versions']};"
        f" load average before: {result['load_before']}.",
        f"{result['rounds']} rounds of {result['seconds']} s each in turn, {result['connections']} connections."
        " Median (least-most).",
        "",
        "| | EventBoard | bare | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for name, got in result["results"].items():
        ours, bare = got[EVENTBOARD], got[BARE]
        lines += [
            f"| {name}, per second | {shown(ours['per_second'])} | {shown(bare['per_second'])} |"
            f" {shown(got['ratio_per_second'], 2)} |",
            f"| {name}, processor time of the server, µs | {shown(ours['cpu_microseconds'])} |"
            f" {shown(bare['cpu_microseconds'])} | {shown(got['ratio_cpu'], 2)} |",
            f"| {name}, 99th percentile, ms | {shown(ours['p99_milliseconds'], 1)} |"
            f" {shown(bare['p99_milliseconds'], 1)} | |",
        ]
    ready = result["ready_after_seconds"]
    lines.append(f"| start to first 200, s | {ready[EVENTBOARD]} | {ready[BARE]} | |")
    for when, memory in result["memory_mib"].items():
        lines.append(f"| resident memory {when}, MiB | {memory[EVENTBOARD]:.0f} | {memory[BARE]:.0f} | |")
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "compare.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
