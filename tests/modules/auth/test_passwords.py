"""Password hashing: what it costs, whom it tells, and what it does in a flood."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.modules.auth.limits import Origin
from eventboard.modules.auth.passwords import PasswordMatch, Passwords, hash_owners

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

    # Processor time of this process, taken in turns: what else runs on the machine doesn't count. The least of several,
    # for whoever shares a core and its caches makes work take longer, and never shorter.
    pairs = [(await work(known), await work(None)) for _ in range(5)]
    with_account, without = map(min, zip(*pairs, strict=True))
    assert 0.5 < without / with_account < 2


async def test_cost_of_an_older_hash(passwords: Passwords) -> None:
    """A second hash is tried only for a password that its preparation changes, whether or not there is an account."""
    composed, decomposed = "Gr\u00f6\u00dfe-T\u00fcr-8!", "Gro\u0308\u00dfe-Tu\u0308r-8!"
    known = await passwords.hash(composed)

    async def work(password_hash: str | None, password: str) -> float:
        begun = time.process_time()
        assert await passwords.verify(password_hash, password) is PasswordMatch.WRONG
        return time.process_time() - begun

    rounds = [
        (
            await work(known, "not the password"),
            await work(known, f"{composed}x"),
            await work(known, f"{decomposed}x"),
            await work(None, f"{decomposed}x"),
        )
        for _ in range(5)
    ]
    plain, prepared, typed, unknown = map(min, zip(*rounds, strict=True))
    assert prepared < 1.5 * plain
    assert 1.5 * plain < typed < 3 * plain
    assert 0.5 < unknown / typed < 2


async def test_rehash(passwords: Passwords) -> None:
    """Only what would be made in another way today."""
    password_hash = await passwords.hash("correct horse battery")
    assert await passwords.rehash(password_hash, "correct horse battery", PasswordMatch.RIGHT) is None
    renewed = await passwords.rehash(password_hash, "correct horse battery", PasswordMatch.AS_TYPED)
    assert renewed is not None
    assert await passwords.verify(renewed, "correct horse battery") is PasswordMatch.RIGHT


async def test_event_loop_goes_on(passwords: Passwords) -> None:
    """The loop turns while passwords are hashed."""
    turns = 0
    for _ in range(4):
        hashing = asyncio.create_task(passwords.hash("correct horse battery"))
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


async def test_one_who_floods(passwords: Passwords) -> None:
    """Whoever fills the queue is the one who is rejected when somebody else comes, and the newcomer goes first."""
    order: list[str] = []

    async def hashed(holder: str) -> None:
        await passwords.hash("correct horse battery", (holder,))
        order.append(holder)

    # All begin in one turn of the loop, before it can learn of a hash that is done.
    results = await asyncio.gather(
        *(hashed(holder) for holder in ("eve", "eve", "eve", "eve", "nia", "bob")), return_exceptions=True
    )
    rejected = [result for result in results[:4] if isinstance(result, ServiceError)]
    assert [(error.code, error.retry_after, error.shed) for error in rejected] == [(Code.UNAVAILABLE, 1, True)] * 3
    assert order == ["eve", "nia", "bob"]


@pytest.mark.parametrize("flooder", ["eve", "bob"])
async def test_one_who_floods_at_a_shared_address(passwords: Passwords, flooder: str) -> None:
    """Whoever else is at the same address gets in all the same, and so does the owner, from another address."""
    here, elsewhere = "address 192.0.2.1", "address 192.0.2.2"
    flood = [asyncio.create_task(passwords.hash("correct horse battery", (flooder, here))) for _ in range(3)]
    await asyncio.sleep(0)  # lets the tasks begin
    newcomer = ("nia", here) if flooder == "eve" else ("bob", elsewhere)
    assert await passwords.hash("correct horse battery", newcomer)
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(result, ServiceError) for result in results) == 1


async def test_eleven_who_flood() -> None:
    """However many places each of them asks for, a twelfth is served after no more than one of each."""
    passwords = Passwords(memory_kib=1024, iterations=1, workers=1, queue=100)
    done: list[str] = []

    async def hashed(holder: str) -> None:
        await passwords.hash("correct horse battery", (holder, "address 192.0.2.1"))
        done.append(holder)

    async def flooded(holder: str) -> None:
        with suppress(ServiceError):
            await hashed(holder)

    flood = [asyncio.create_task(flooded(f"account {number % 11}")) for number in range(220)]
    await asyncio.sleep(0)  # lets the tasks begin
    await passwords.hash("correct horse battery", ("account 11", "address 192.0.2.2"))
    assert len(done) <= 2
    await asyncio.gather(*flood)
    assert len(done) == 100
    passwords.close()


def test_hash_owners() -> None:
    """An account, and an address that is one client's: not a proxy's, and not one of a private network."""
    assert hash_owners("a@example.com", Origin("192.0.2.1")) == ("account a@example.com", "address 192.0.2.1")
    assert hash_owners("a@example.com", Origin("2001:db8::/64")) == ("account a@example.com", "address 2001:db8::/64")
    for origin in (Origin(""), Origin("192.0.2.1", shared=True), Origin("172.17.0.1"), Origin("fd00::/64")):
        assert hash_owners("a@example.com", origin) == ("account a@example.com",)


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
