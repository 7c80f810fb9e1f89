"""Password hashing: Argon2id on threads of its own, with a bounded queue before them."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics, rejections
from eventboard.platform.tracing import PASSWORD, Span

Result = TypeVar("Result")

# Seconds after which a refused log-in may try again: a hash takes some 20 ms of one thread.
RETRY_AFTER = 1


class Passwords:
    """`workers` 0 is the machine's cores less one, at least one. Past `queue` waiting calls: 503 at once."""

    def __init__(
        self, *, memory_kib: int, iterations: int, workers: int, queue: int, metrics: Metrics | None = None
    ) -> None:
        self._rejected = rejections(metrics or Metrics())
        self._hasher = PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._most = workers + queue
        self._pending = 0
        # What an unknown e-mail's password is checked against, so that it costs what a known one's does.
        self._nobody = self._hasher.hash(os.urandom(16).hex())

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """False for None, after the same work."""
        return await self._run(lambda: self._verify(password_hash or self._nobody, password)) and (
            password_hash is not None
        )

    async def renewed(self, password_hash: str, password: str) -> str | None:
        """A new hash where the parameters have changed since this one was made; the password is known to fit."""
        return await self.hash(password) if self._hasher.check_needs_rehash(password_hash) else None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._pending >= self._most:
            self._rejected.add("passwords")
            raise ServiceError(
                Code.UNAVAILABLE, "Too many log-ins wait already.", retry_after=RETRY_AFTER, not_run=True
            )
        self._pending += 1
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Result] = loop.create_future()

        def done(future: Future[Result]) -> None:
            # Given back when the thread is done with it, not when a caller has stopped waiting.
            self._pending -= 1
            if told.cancelled():
                return
            try:
                told.set_result(future.result())
            except BaseException as error:  # noqa: BLE001 - told to who waits
                told.set_exception(error)

        # asyncio.wrap_future() and a callback of ours would wake the loop twice, in the middle of the next hash.
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done, future))
        with Span(PASSWORD):
            try:
                return await told
            except asyncio.CancelledError:
                future.cancel()
                raise
