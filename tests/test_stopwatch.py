"""The stopwatch of tests/support leaves out the time in which this process couldn't run, and no other."""

import os
import subprocess
import time

from tests.support.stopwatch import Stopwatch


def test_process_that_can_not_run() -> None:
    """Stopped for half a second, it has taken no time: neither as a whole, nor since a moment while it was stopped."""
    freeze = f"kill -STOP {os.getpid()}; sleep 0.5; kill -CONT {os.getpid()}"
    with Stopwatch() as watch:
        subprocess.run(["sh", "-c", freeze], check=True)
    assert watch.elapsed >= 0.5
    assert watch.seconds <= watch.elapsed - 0.4
    assert watch.since(watch.begun + 0.3) <= watch.elapsed - 0.3 - 0.2


def test_block_that_takes_long() -> None:
    """What it does itself counts, also where it keeps its thread from anything else."""
    with Stopwatch() as watch:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
    assert watch.seconds > 0.15
    assert watch.since(watch.begun + 60) < -50
