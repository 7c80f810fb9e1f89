"""`python -m bench [part ...]`: measures, and writes results/<part>.json and .md and the table of targets.

A part takes one to three minutes; without a name, all of them are run. `--rounds` and `--seconds` make it shorter or
steadier.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import report
from bench.data import prepared
from bench.parts import PARTS, Bench


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    # "" is what `make bench PARTS=` gives.
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server has its turn (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of load in a turn (default: 3)")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: it is none of {', '.join(PARTS)}")
    if missing := [name for name in ("wrk", "taskset") if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} missing; on Debian and Ubuntu: apt-get install wrk util-linux")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("one core for the server and one for the load are needed")
    asyncio.run(_run(given.parts or list(PARTS), given.rounds, given.seconds))


async def _run(parts: Sequence[str], rounds: int, seconds: int) -> None:
    sizes = {size for part in parts for size in PARTS[part].sizes}
    baselines = any(PARTS[part].baselines for part in parts)
    load_before = os.getloadavg()[0]
    with TemporaryDirectory(prefix="eventboard-bench-") as folder:
        async with prepared(sizes, baselines=baselines) as data:
            bench = await Bench.begin(data, Path(folder), sizes, rounds, seconds)
            for name in parts:
                begun = time.monotonic()
                measured = await PARTS[name].measure(bench)
                report.write(name, measured, bench, load_before=load_before, took=time.monotonic() - begun)
                await data.tidy()
    print(report.targets())


if __name__ == "__main__":
    main()
