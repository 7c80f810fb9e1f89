"""Measures how late the event loop runs timers: every request waits as long."""

import asyncio

from prometheus_client import Histogram

# Seconds between two measurements.
INTERVAL = 1.0


class EventLoopLag:
    """Measures once a second, from `open` to `close`."""

    def __init__(self, lag: Histogram) -> None:
        self._lag = lag
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._measure())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL
            await asyncio.sleep(INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))
