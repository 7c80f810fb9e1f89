"""`python -m bench.roles`: from its start until it is ready, and what memory it holds then, for each role.

On one core, without load; what the roles take under load is in the part `shapes`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from bench.data import ROOT, prepared
from bench.report import RESULTS
from bench.servers import PORT, SERVER_CORE, START, environment

# In the order in which they are started, each with its place among the ports; `all` when the others have ended.
ROLES = {"auth": 1, "events": 2, "gateway": 0, "all": 0}
FIGURES = ("ready after, s", "processor time until then, s", "resident, MiB", "its own share, MiB")

Figures = tuple[float, float, float, float]


def started(stack: ExitStack, role: str, environ: Mapping[str, str]) -> Figures:
    """Of a process that goes on until the stack's end."""
    ports = {"EVENTBOARD_SERVER_PORT": str(PORT + ROLES[role]), "EVENTBOARD_SERVER_ADMIN_PORT": "0"}
    command = ["/usr/bin/taskset", "-c", SERVER_CORE, sys.executable, "-m", "eventboard", "serve", "--target", role]
    begun = time.monotonic()
    process = subprocess.Popen(command, env={**environ, **ports}, cwd=ROOT, stderr=subprocess.DEVNULL)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    url = f"http://127.0.0.1:{ports['EVENTBOARD_SERVER_PORT']}/health/ready"
    while not _ready(url):
        if time.monotonic() > begun + START or process.poll() is not None:
            sys.exit(f"{role} did not get ready")
        time.sleep(0.01)
    ready_after = time.monotonic() - begun
    shown = Path(f"/proc/{process.pid}/schedstat").read_text().split()
    # Pages that several processes have in common count in each one's resident size, and divided in its share.
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in rollup[1:]}
    return ready_after, int(shown[0]) / 1e9, sizes["Rss"], sizes["Pss"]


def _ready(url: str) -> bool:
    try:
        with urlopen(url):  # noqa: S310 - the address is ours
            return True
    except OSError:
        return False


async def measure(rounds: int) -> dict[str, list[Figures]]:
    measured: dict[str, list[Figures]] = {role: [] for role in ROLES}
    with TemporaryDirectory(prefix="eventboard-bench-") as folder:
        async with prepared((), baselines=False) as data:
            environ = environment(data, Path(folder))
            for _ in range(rounds):
                with ExitStack() as three:
                    for role in ("auth", "events", "gateway"):
                        measured[role].append(started(three, role, environ))
                with ExitStack() as one:
                    measured["all"].append(started(one, "all", environ))
    return measured


def table(measured: Mapping[str, list[Figures]]) -> str:
    lines = [f"| role | {' | '.join(FIGURES)} |", f"| --- |{' ---: |' * len(FIGURES)}"]
    for role, turns in measured.items():
        shown = [f"{median(turn):.2f} ({min(turn):.2f} to {max(turn):.2f})" for turn in zip(*turns, strict=True)]
        lines.append(f"| {role} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roles", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (default: 5)")
    rounds = parser.parse_args().rounds
    load_before = os.getloadavg()[0]
    measured = asyncio.run(measure(rounds))
    RESULTS.mkdir(exist_ok=True)
    told = table(measured)
    head = f"# Roles\n\nMedian, least and most of {rounds} starts; the machine's load before was {load_before:.1f}.\n\n"
    (RESULTS / "roles.md").write_text(head + told)
    (RESULTS / "roles.json").write_text(json.dumps({"load_before": load_before, "figures": FIGURES, "turns": measured}))
    print(told)


if __name__ == "__main__":
    main()
