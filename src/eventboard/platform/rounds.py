"""Work that is done again and again beside the requests."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from eventboard.platform.errors import ServiceError


class Rounds:
    """From `open` to `close`, `work` every so many seconds. A round that fails is logged, and the next comes."""

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
                logger.warning("{} must wait: {}", self._name, error.detail)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the rounds for good
                logger.opt(exception=error).error("{} failed", self._name)
