"""What a process tells of itself: version, memory, processor time, and how late its event loop is."""

import asyncio
import os
import platform
import resource
import sys
import time
from pathlib import Path

from eventboard.platform.metrics import Metrics

# Seconds between two looks. What other workers' gauges say is as old at most.
EVERY = 1.0

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# getrusage tells KiB, and macOS bytes.
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024


class ProcessWatch:
    """`targets` are the parts that run here."""

    def __init__(self, metrics: Metrics, *, version: str, targets: str) -> None:
        self._metrics = metrics
        self._lag = metrics.histogram(
            "eventboard_event_loop_lag_seconds", "How late the event loop was to a timer, which it sets once a second."
        )
        self._cpu = metrics.counter("process_cpu_seconds_total", "Processor time.")
        self._memory = metrics.gauge("process_resident_memory_bytes", "Resident memory.")
        self._workers = metrics.gauge("eventboard_workers", "Processes that answer as one.")
        started = metrics.gauge(
            "process_start_time_seconds", "When the oldest process started, by the Unix clock.", of_workers="min"
        )
        started.set(time.time())
        info = metrics.gauge(
            "eventboard_info", "Always 1: which version runs here.", ("version", "target", "python"), of_workers="max"
        )
        info.set(1, version, targets, platform.python_version())
        self._cpu_told = 0.0
        self._task: asyncio.Task[None] | None = None
        metrics.sampling(self._sample)

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            self._lag.observe(max(0.0, loop.time() - due))
            self._metrics.sample()

    def _sample(self) -> None:
        used = time.process_time()
        self._cpu.add(by=used - self._cpu_told)
        self._cpu_told = used
        self._memory.set(_resident())
        self._workers.set(1)


def _resident() -> int:
    """Bytes; where the system doesn't tell, the most there ever were."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RUSAGE_UNIT
