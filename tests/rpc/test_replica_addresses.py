"""Which replica a call goes to."""

import asyncio
import socket
import subprocess
import sys

import pytest

from eventboard.rpc.replicas import EXCLUDED_FOR, RESOLVE_EVERY, LoadBalancer, Replica, parse_origins, resolve_origin
from tests.support.processes import PATIENCE

A, B, C = (Replica(f"http://10.0.0.{number}:3002", "http://events:3002") for number in (1, 2, 3))
CONNECT_TIMEOUT = 1.0  # seconds


class World:
    """A clock, and a name server that knows one name."""

    def __init__(self, *addresses: Replica) -> None:
        self.now = 100.0
        self.known = list(addresses)
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.balancer = LoadBalancer(["http://events:3002"], CONNECT_TIMEOUT, self.resolve, lambda: self.now)

    async def resolve(self, origin: str) -> list[Replica]:
        assert origin == "http://events:3002"
        self.asked += 1
        await self.answers.wait()
        if not self.known:
            raise OSError("no name server")
        return self.known

    async def firsts(self, calls: int) -> list[Replica]:
        """Where so many calls go first."""
        return [(await self.balancer.candidates())[0] for _ in range(calls)]


async def test_several() -> None:
    """Calls take turns, and each has the others to fall back on."""
    world = World(A, B, C)
    assert sorted(await world.firsts(6)) == [A, A, B, B, C, C]
    assert sorted(await world.balancer.candidates()) == [A, B, C]
    assert world.asked == 1


async def test_left_out() -> None:
    """No call goes there first for a second; then one tries, and the others don't wait for it."""
    world = World(A, B)
    await world.balancer.candidates()
    world.balancer.exclude(A)
    assert set(await world.firsts(10)) == {B}
    assert await world.balancer.candidates() == [B, A]
    world.now += EXCLUDED_FOR
    assert (await world.firsts(10)).count(A) == 1
    world.balancer.exclude(A)
    assert set(await world.firsts(10)) == {B}
    world.now += EXCLUDED_FOR
    assert (await world.firsts(10)).count(A) == 1
    world.balancer.include(A)
    assert (await world.firsts(10)).count(A) == 5


async def test_one_tries_at_a_time() -> None:
    """However long no connection is made, nobody else waits for one; of a call that was given up nothing is awaited."""
    world = World(A, B)
    await world.balancer.candidates()
    world.balancer.exclude(A)
    world.now += EXCLUDED_FOR
    assert (await world.firsts(10)).count(A) == 1
    world.now += CONNECT_TIMEOUT
    assert set(await world.firsts(10)) == {B}
    world.now += EXCLUDED_FOR
    assert (await world.firsts(10)).count(A) == 1


async def test_left_out_for_longer() -> None:
    """As long as it was said."""
    world = World(A, B)
    await world.balancer.candidates()
    world.balancer.exclude(A, 3)
    world.now += 2.9
    assert set(await world.firsts(10)) == {B}
    world.now += 0.1
    assert (await world.firsts(10)).count(A) == 1


async def test_all_left_out() -> None:
    """They are tried all the same: there is nobody else."""
    world = World(A, B)
    await world.balancer.candidates()
    world.balancer.exclude(A)
    world.balancer.exclude(B)
    assert sorted(await world.balancer.candidates()) == [A, B]


async def test_new_one() -> None:
    """It is used after the next look-up, which no call waits for."""
    world = World(A)
    assert set(await world.firsts(4)) == {A}
    world.known = [A, B]
    world.now += RESOLVE_EVERY + 0.1
    assert set(await world.firsts(4)) == {A}
    await asyncio.sleep(0)  # the look-up's turn
    assert set(await world.firsts(4)) == {A, B}
    assert world.asked == 2


async def test_one_that_is_gone() -> None:
    """What the name no longer stands for isn't tried any more."""
    world = World(A, B)
    await world.balancer.candidates()
    world.balancer.exclude(B)
    world.known = [A]
    world.now += RESOLVE_EVERY + 0.1
    await world.firsts(1)
    await asyncio.sleep(0)  # the look-up's turn
    assert await world.balancer.candidates() == [A]


async def test_name_server_gone() -> None:
    """It takes nobody's replicas away; whoever never was found is looked for at each call."""
    world = World(A)
    await world.firsts(1)
    world.known = []
    world.now += RESOLVE_EVERY + 0.1
    await world.firsts(1)
    await asyncio.sleep(0)  # the look-up's turn
    assert await world.balancer.candidates() == [A]
    lost = World()
    assert await lost.balancer.candidates() == []
    lost.known = [A]
    assert await lost.balancer.candidates() == [A]


async def test_what_a_replica_is_called() -> None:
    """By its name, though it is its address that is connected to."""
    (replica,) = await resolve_origin("https://127.0.0.1:3002")
    assert (replica.host, replica.authority, replica.secure) == ("127.0.0.1", "127.0.0.1:3002", True)
    replica = Replica("http://10.0.0.1:3002", "http://events.internal:3002")
    assert (replica.host, replica.authority, replica.secure) == ("events.internal", "events.internal:3002", False)


async def test_several_names() -> None:
    """A list of addresses and names stands for all of them; one that isn't known takes none of the others along."""

    async def resolve(origin: str) -> list[Replica]:
        if origin == "http://gone:3002":
            raise OSError("unknown")
        return {"http://one:3002": [A, B], "http://two:3002": [B, C]}[origin]

    balancer = LoadBalancer(["http://one:3002", "http://gone:3002", "http://two:3002"], CONNECT_TIMEOUT, resolve)
    assert sorted(await balancer.candidates()) == [A, B, C]


async def test_closed_while_it_resolves() -> None:
    """No task is left over."""
    before = asyncio.all_tasks()
    world = World(A)
    await world.firsts(1)
    world.answers.clear()
    world.now += RESOLVE_EVERY + 0.1
    await world.firsts(1)
    # Another test's may end meanwhile.
    assert len(asyncio.all_tasks() - before) == 1
    await world.balancer.close()
    assert asyncio.all_tasks() - before == set()


async def test_many_calls_before_any_is_known() -> None:
    """They wait for one look-up, and whoever is given up ends none of the others' waiting."""
    world = World(A)
    world.answers.clear()
    calls = [asyncio.create_task(world.balancer.candidates()) for _ in range(10)]
    await asyncio.sleep(0)  # they begin
    calls[0].cancel()
    await asyncio.wait(calls[:1])
    world.answers.set()
    assert await asyncio.gather(*calls[1:]) == [[A]] * 9
    assert world.asked == 1


# A name server that never answers: nothing can stop a look-up that waits for it.
SILENT = """
import asyncio, socket, threading
from contextlib import suppress
from eventboard.rpc.replicas import LoadBalancer

async def main():
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    def silent(*_, **__):
        loop.call_soon_threadsafe(asked.set)
        threading.Event().wait()
    socket.getaddrinfo = silent
    balancer = LoadBalancer(["http://events:3002"], 1)
    call = asyncio.create_task(balancer.candidates())
    await asked.wait()
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await balancer.close()

asyncio.run(main())
"""


def test_end_while_a_name_server_is_silent() -> None:
    """The process doesn't wait for an answer that nobody needs any more."""
    ended = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, check=True, timeout=PATIENCE)
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_origins() -> None:
    """Of a list with blanks, a stroke at the end and none, each as it is called; without a port it is HTTP's."""
    text = " http://events:3002/ ,http://[::1]:1,HTTP://Events, https://events"
    assert parse_origins(text) == ["http://events:3002", "http://[::1]:1", "http://events:80", "https://events:443"]
    assert parse_origins("") == []


async def test_machine_s_resolver() -> None:
    """A literal address is itself, of either family; `localhost` is known everywhere; nonsense is an OSError."""
    for literal in ("http://127.0.0.2:3002", "https://[::1]:3002"):
        assert await resolve_origin(literal) == [Replica(literal, literal)]
    origin = "https://localhost:3002"
    assert Replica("https://127.0.0.1:3002", origin) in await resolve_origin(origin)
    with pytest.raises(socket.gaierror):
        await resolve_origin("http://nowhere.invalid:3002")
