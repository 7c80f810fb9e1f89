"""Work that is repeated in the background."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from eventboard.core.errors import ServiceError


class PeriodicTask:
    """Awaits `work` every `every` seconds from `open` to `close`. An error is logged, and doesn't end the task."""

    def __init__(self, work: Callable[[], Awaitable[object]], *, every: float, name: str) -> None:
        self._work = work
        self._every = every
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._work()
            except ServiceError as error:
                logger.warning("{} was skipped: {} The next try is in {:g} s.", self._name, error.detail, self._every)
            except Exception as error:  # noqa: BLE001 - a bug must not end the task
                logger.opt(exception=error).error("{} failed; the next try is in {:g} s", self._name, self._every)
