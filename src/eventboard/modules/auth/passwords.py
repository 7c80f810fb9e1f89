"""Password hashing: Argon2id on threads of its own, behind a bounded and fair queue.

Every job has owners: an account, and an address where that is one client's. An owner with many jobs in the queue waits
behind one with few, and its jobs are rejected first when the queue is full.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from eventboard.core.errors import Code, ServiceError
from eventboard.core.ip import is_private, parse_address
from eventboard.modules.auth.limits import Origin
from eventboard.modules.auth.names import prepared
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import PASSWORD, step

Result = TypeVar("Result")
Owners = tuple[str, ...]


class PasswordMatch(IntEnum):
    """Whether a password matches a hash. `AS_TYPED`: only without the preparation, which older hashes lack."""

    WRONG = 0
    AS_TYPED = 1
    RIGHT = 2


# Seconds after which a rejected log-in may be repeated: a hash takes some 20 ms of one thread.
RETRY_AFTER = 1


def hash_owners(account: str, origin: Origin) -> Owners:
    """The owners of a job. A private address may be a proxy's or a bridge's, so it isn't one client."""
    address = parse_address(origin.address.partition("/")[0])
    if address is None or origin.shared or is_private(address):
        return (f"account {account}",)
    return (f"account {account}", f"address {origin.address}")


class _Job:
    """`turn`: the job with the lowest runs first."""

    __slots__ = ("owners", "result", "turn", "work")

    def __init__(self, work: Callable[[], Any], result: asyncio.Future[Any], owners: Owners, turn: int) -> None:
        self.work = work
        self.result = result
        self.owners = owners
        self.turn = turn


class Passwords:
    """`workers` 0 is the machine's cores less one, at least one. With `queue` jobs waiting, one more is rejected."""

    def __init__(
        self, *, memory_kib: int, iterations: int, workers: int, queue: int, metrics: Metrics | None = None
    ) -> None:
        self._rejected = (metrics or Metrics()).rejected.labels("passwords")
        self._hasher = PasswordHasher(time_cost=iterations, memory_cost=memory_kib, parallelism=1)
        self._workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="argon2")
        self._queue = queue
        self._running = 0
        # In the order of their arrival.
        self._waiting: list[_Job] = []
        # Jobs of each owner, waiting or running.
        self._jobs: Counter[str] = Counter()
        # The turn of the job that was started last, and of each owner's last job.
        self._turn = 0
        self._turns: dict[str, int] = {}
        # The password of an unknown e-mail address is verified against it, so that it costs what a known one's does.
        self._hash_of_nobody = self._hasher.hash(os.urandom(16).hex())

    async def hash(self, password: str, owners: Owners = ()) -> str:
        return await self._run(lambda: self._hasher.hash(prepared(password)), owners)

    async def verify(self, password_hash: str | None, password: str, owners: Owners = ()) -> PasswordMatch:
        """`WRONG` for None, after the same work."""
        match = await self._run(lambda: self._match(password_hash or self._hash_of_nobody, password), owners)
        return PasswordMatch.WRONG if password_hash is None else match

    async def rehash(self, password_hash: str, password: str, match: PasswordMatch, owners: Owners = ()) -> str | None:
        """A new hash where the parameters or the preparation have changed since; the password is known to match."""
        outdated = match is PasswordMatch.AS_TYPED or self._hasher.check_needs_rehash(password_hash)
        return await self.hash(password, owners) if outdated else None

    def close(self) -> None:
        for job in self._waiting:
            job.result.cancel()
        self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _match(self, password_hash: str, password: str) -> PasswordMatch:
        """Twice the work only where the preparation changes the password, whatever the hash."""
        if self._verify(password_hash, prepared(password)):
            return PasswordMatch.RIGHT
        if prepared(password) != password and self._verify(password_hash, password):
            return PasswordMatch.AS_TYPED
        return PasswordMatch.WRONG

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result], owners: Owners) -> Result:
        if self._running >= self._workers and len(self._waiting) >= self._queue:
            self._make_room(owners)
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job = self._enqueue(work, result, owners)
        with step(PASSWORD):
            try:
                return await result
            except asyncio.CancelledError:
                if job in self._waiting:
                    self._waiting.remove(job)
                    self._release(job)
                raise

    def _make_room(self, owners: Owners) -> None:
        """Rejects the newest job of the owner with the most: the caller's, unless another owner has more."""
        self._rejected.inc()
        heaviest = max(self._waiting, key=lambda job: (self._excess(job, owners), job.turn), default=None)
        if heaviest is None or self._excess(heaviest, owners) <= 0:
            raise _queue_full()
        self._waiting.remove(heaviest)
        self._release(heaviest)
        if not heaviest.result.done():
            heaviest.result.set_exception(_queue_full())

    def _excess(self, job: _Job, owners: Owners) -> int:
        """How many jobs more than a newcomer its owners have. An owner of both, such as an address, doesn't count."""
        theirs = max((self._jobs[owner] for owner in job.owners if owner not in owners), default=0)
        ours = max((self._jobs[owner] + 1 for owner in owners if owner not in job.owners), default=1)
        return theirs - ours

    def _enqueue(self, work: Callable[[], Any], result: asyncio.Future[Any], owners: Owners) -> _Job:
        # Start-time fair queueing: an owner's next job is a turn after its last, a newcomer's after the running one.
        turn = max([self._turn, *(self._turns.get(owner, 0) for owner in owners)]) + 1
        job = _Job(work, result, owners, turn)
        for owner in owners:
            self._jobs[owner] += 1
            self._turns[owner] = turn
        self._waiting.append(job)
        self._start_next()
        return job

    def _start_next(self) -> None:
        while self._running < self._workers and self._waiting:
            job = min(self._waiting, key=lambda job: job.turn)
            self._waiting.remove(job)
            self._turn = max(self._turn, job.turn)
            self._running += 1
            # asyncio.wrap_future() and a callback of ours would wake the loop twice, in the middle of the next hash.
            wake = partial(asyncio.get_running_loop().call_soon_threadsafe, partial(self._finish, job))
            self._threads.submit(job.work).add_done_callback(wake)

    def _finish(self, job: _Job, future: Future[Any]) -> None:
        # Released when the thread has finished, not when the caller stops waiting.
        self._running -= 1
        self._release(job)
        self._start_next()
        if job.result.done():
            return
        try:
            job.result.set_result(future.result())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            job.result.set_exception(error)

    def _release(self, job: _Job) -> None:
        for owner in job.owners:
            self._jobs[owner] -= 1
            if not self._jobs[owner]:
                del self._jobs[owner]
                del self._turns[owner]


def _queue_full() -> ServiceError:
    return ServiceError(Code.UNAVAILABLE, "Too many log-ins wait already.", retry_after=RETRY_AFTER, shed=True)
