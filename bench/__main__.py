"""`python -m bench [part ...]`: measures, and writes results/<part>.json and .md and the table of targets.

A part takes one to five minutes; without a name, all of them are run. `--quick` measures what the table of targets
needs and no more, in ten minutes; `--rounds` and `--seconds` make it shorter or steadier. `--prepare` only fills the
data, which takes two minutes the first time.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from loguru import logger

from bench import report
from bench.data import prepared
from bench.limit import limits
from bench.parts import PARTS, Bench

# One member searches all the time and all at once, more than the limits allow.
SEARCHES = {
    "EVENTBOARD_LISTING_PATIENCE": "5",
    "EVENTBOARD_LISTING_SEARCH_TIME_BY_USER": "0",
    "EVENTBOARD_LISTING_SEARCH_TIME_BY_ORGANIZATION": "0",
    "EVENTBOARD_LISTING_SEARCHES_BY_USER": "1000",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    # "" is what `make bench PARTS=` gives.
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="only what is in the table, in 3 rounds of 2 seconds")
    parser.add_argument("--prepare", action="store_true", help="fill the data, and measure nothing")
    parser.add_argument("--rounds", type=int, help="how often each server has its turn (default: 5)")
    parser.add_argument("--seconds", type=int, help="of load in a turn (default: 3)")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: it is none of {', '.join(PARTS)}")
    parts = given.parts or list(PARTS)
    # Baselines are FastAPI's, among others.
    if any(PARTS[part].baselines for part in parts) and find_spec("fastapi") is None:
        sys.exit(f'the packages of the baselines are missing: make bench PARTS="{" ".join(parts)}" installs them')
    if missing := [name for name in ("wrk", "taskset") if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} missing; on Debian and Ubuntu: apt-get install wrk util-linux")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("one core for the server and one for the load are needed")
    # What setting the data up logs at DEBUG is no result.
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    rounds, seconds = (3, 2) if given.quick else (5, 3)
    asyncio.run(
        _run(
            parts,
            given.rounds or rounds,
            given.seconds or seconds,
            quick=given.quick,
            measure=not given.prepare,
        )
    )


async def _run(parts: Sequence[str], rounds: int, seconds: int, *, quick: bool, measure: bool) -> None:
    sizes = {size for part in parts for size in PARTS[part].sizes}
    baselines = any(PARTS[part].baselines for part in parts)
    load_before = os.getloadavg()[0]
    with TemporaryDirectory(prefix="eventboard-bench-") as folder:
        async with prepared(sizes, baselines=baselines) as data:
            if not measure:
                limits()
                return
            bench = await Bench.begin(data, Path(folder), sizes, rounds, seconds, quick=quick)
            bench.environ.update(SEARCHES)
            for name in parts:
                begun = time.monotonic()
                measured = await PARTS[name].measure(bench)
                report.write(name, measured, bench, load_before=load_before, took=time.monotonic() - begun)
                await data.tidy()
    print(report.targets())


if __name__ == "__main__":
    main()
