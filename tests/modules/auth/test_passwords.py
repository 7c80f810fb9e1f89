"""Password hashing: what it costs, whom it tells, and what it does in a flood."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import pytest

from eventboard.modules.auth.passwords import Passwords
from eventboard.platform.errors import Code, ServiceError

# OWASP's first recommendation, and config/base.toml's.
MEMORY_KIB, ITERATIONS = 19456, 2


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """The real work, on one thread, with room for two more."""
    passwords = Passwords(memory_kib=MEMORY_KIB, iterations=ITERATIONS, workers=1, queue=2)
    yield passwords
    passwords.close()


async def test_hash(passwords: Passwords) -> None:
    """Argon2id with the parameters asked for, a salt each time, and the whole password."""
    hashes = [await passwords.hash("correct horse battery") for _ in range(2)]
    assert hashes[0].startswith(f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p=1$")
    assert hashes[0] != hashes[1]
    assert await passwords.verify(hashes[0], "correct horse battery")
    assert not await passwords.verify(hashes[0], "correct horse batter")
    assert not await passwords.verify(hashes[0], "correct horse battery\x00")


async def test_verify_what_is_no_hash(passwords: Passwords) -> None:
    """A row that was tampered with lets nobody in."""
    for stored in ("", "correct horse battery", "$argon2id$v=19$m=8,t=1,p=1$x$y"):
        assert not await passwords.verify(stored, "correct horse battery")


async def test_unknown_account_costs_as_much(passwords: Passwords) -> None:
    """Whether there is an account doesn't show in the work; a log-in that skips the hash takes a hundredth of it."""
    known = await passwords.hash("correct horse battery")

    async def work(password_hash: str | None) -> float:
        begun = time.process_time()
        assert not await passwords.verify(password_hash, "not the password")
        return time.process_time() - begun

    # Processor time of this process, taken in turns: what else runs on the machine doesn't count.
    pairs = [(await work(known), await work(None)) for _ in range(7)]
    assert 0.5 < median(unknown / known for known, unknown in pairs) < 2


async def test_event_loop_goes_on(passwords: Passwords) -> None:
    """The loop turns while a password is hashed."""
    hashing = asyncio.create_task(passwords.hash("correct horse battery"))
    turns = 0
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100


async def test_flood(passwords: Passwords) -> None:
    """Beyond the queue the answer is 503 at once, with a time to come back; those before it are served."""
    running = [asyncio.create_task(passwords.hash("correct horse battery")) for _ in range(3)]
    await asyncio.sleep(0)  # lets the tasks begin
    for _ in range(50):
        with pytest.raises(ServiceError) as refusal:
            await passwords.hash("correct horse battery")
        assert (refusal.value.code, refusal.value.retry_after) == (Code.UNAVAILABLE, 1)
    assert not any(task.done() for task in running)
    assert len(await asyncio.gather(*running)) == 3
    assert await passwords.hash("correct horse battery")


async def test_callers_that_leave(passwords: Passwords) -> None:
    """A cancelled log-in gives its place back, once: when it was waiting at once, else when its hash is done."""
    for _ in range(5):
        tasks = [asyncio.create_task(passwords.hash("correct horse battery")) for _ in range(3)]
        await asyncio.sleep(0)  # lets the tasks begin
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        while True:  # until the one hash that had begun is done
            try:
                await passwords.hash("correct horse battery")
                break
            except ServiceError:
                await asyncio.sleep(0)
    assert len(await asyncio.gather(*(passwords.hash("correct horse battery") for _ in range(3)))) == 3
    with pytest.raises(ServiceError):
        await asyncio.gather(*(passwords.hash("correct horse battery") for _ in range(4)))
