"""`python -m bench.check [revision]`: is the working tree as fast as a commit (the last one, unless one is named)?

In two minutes: the commit is checked out beside, both are up, and take turns of a fifth of a second. Judged is the
processor time of a request, which suffers least from what else the machine does. Exits with 1 where one costs more
than a tenth more than it did.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.data import MIDDLE, ROOT, prepared
from bench.load import LoadError, fire_in_turn, succeeded, warm
from bench.parts import KEYED, LIST, READ, Bench
from bench.servers import ONE, PORT, running

ROUNDS = 4
SECONDS = 2.0  # of load in a turn
LOADS = (READ, LIST, KEYED)
WORST = 1.10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("revision", nargs="?", default="HEAD", help="what to compare with (default: HEAD)")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="eventboard-bench-") as folder, _checked_out(given.revision, folder) as before:
        try:
            worse = asyncio.run(_compare(Path(folder), {"before": before, "now": ROOT}))
        except LoadError as error:
            sys.exit(str(error))
    sys.exit(1 if worse else 0)


@contextmanager
def _checked_out(revision: str, folder: str) -> Iterator[Path]:
    tree = Path(folder, "before")
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", tree, revision], check=True)
    try:
        subprocess.run([sys.executable, "-m", "compileall", "-q", tree / "src"], check=True)
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", tree], check=True)


async def _compare(folder: Path, sources: dict[str, Path]) -> bool:
    load_before = os.getloadavg()[0]
    async with prepared([MIDDLE], baselines=False) as data:
        bench = await Bench.begin(data, folder, [MIDDLE], ROUNDS, SECONDS)
        cost: dict[str, dict[str, list[float]]] = {load: {name: [] for name in sources} for load in LOADS}
        for number in range(ROUNDS):
            with ExitStack() as stack:
                servers = [
                    stack.enter_context(running(ONE, bench.environ, source, port=PORT + 10 * place))
                    for place, source in enumerate(sources.values())
                ]
                for load in LOADS:
                    made = await bench.load(load, ONE, SECONDS)
                    for server in servers:
                        warm(server, made)
                    got = fire_in_turn([(server, made) for server in servers], SECONDS)
                    for name, figures in zip(sources, got, strict=True):
                        cost[load][name].append(succeeded(figures)["cpu_microseconds"])
            print(f"round {number + 1} of {ROUNDS}", flush=True)
    worse = False
    print(f"\nload average before: {load_before:.2f}\n")
    print("| processor time, µs | before | now | ratio |\n| --- | --- | --- | --- |")
    for load, measured in cost.items():
        before, now = measured.values()
        ratios = [new / old for new, old in zip(now, before, strict=True)]
        ratio = statistics.median(ratios)
        worse = worse or ratio > WORST
        print(
            f"| {load} | {statistics.median(before):,.0f} | {statistics.median(now):,.0f} |"
            f" {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return worse


if __name__ == "__main__":
    main()
