"""PostgreSQL ends at once, again and again, while hundreds of writes are on their way."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from threading import Event

import asyncpg
import httpx
import pytest

from eventboard.db import migrations
from tests.support.board import Board, Member
from tests.support.lasting import Lasting, lasting
from tests.support.processes import PATIENCE, until_ready
from tests.support.shapes import deployed
from tests.support.writes import WRITES, essence

COUNT, CLIENTS = 500, 8
# After so many answers it ends; every other time with writes that are committed and not acknowledged.
ENDS = (50, 150, 250, 350, 450)


@pytest.fixture
def postgres() -> Iterator[Lasting]:
    with lasting() as server:
        asyncio.run(migrations.migrate(server.url))
        yield server


@dataclass(frozen=True)
class Planned:
    """One write, on an event that no other one is for. `key` is its correlation id, too."""

    name: str
    event_id: str
    key: str

    def send(self, member: Member) -> httpx.Response | None:
        """None where no answer came."""
        try:
            return WRITES[self.name].send(member.http, self.event_id, key=self.key, x_correlation_id=self.key)
        except httpx.TransportError:
            return None


def planned(board: Board, author: Member) -> list[Planned]:
    names = list(islice(cycle(WRITES), COUNT))
    events = iter(board.put([{"author": author, "status": WRITES[name].state} for name in names if WRITES[name].state]))
    return [
        Planned(name, next(events) if WRITES[name].state else "", f"write-{number}")
        for number, name in enumerate(names)
    ]


def send_while_it_ends(writes: Sequence[Planned], member: Member, postgres: Lasting) -> list[httpx.Response | None]:
    up = Event()
    up.set()

    def send(write: Planned) -> httpx.Response | None:
        up.wait()  # or most writes would be spent on a database that is away
        return write.send(member)

    with ThreadPoolExecutor(CLIENTS) as threads:
        calls = [threads.submit(send, write) for write in writes]
        for number, answers in enumerate(ENDS):
            end = time.monotonic() + PATIENCE
            while sum(call.done() for call in calls) < answers:
                assert time.monotonic() < end
                time.sleep(0.001)  # between two looks
            settings = hold_acknowledgements(postgres) if number % 2 else None
            up.clear()
            postgres.end_at_once()
            if settings is not None:
                settings.write_text("")
            postgres.start()
            up.set()
        return [call.result() for call in calls]


def hold_acknowledgements(postgres: Lasting) -> Path:
    """Commits wait for a standby that never comes, flushed already. Returns once some do, with the settings' file."""

    async def run() -> Path:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await connection.execute("SELECT pg_reload_conf()")
        held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        async with asyncio.timeout(PATIENCE):
            while await connection.fetchval(held) < CLIENTS // 2:  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.01)
        folder = await connection.fetchval("SHOW data_directory")
        await connection.close()
        return Path(folder, "postgresql.auto.conf")

    return asyncio.run(run())


@pytest.mark.parametrize("shape", ["all", "gateway+auth+events+events"])
def test_five_hundred_writes(postgres: Lasting, tmp_path: Path, shape: str) -> None:
    """Sent once more with their keys, each has happened exactly once; what was acknowledged is told again."""
    with deployed(shape, postgres.url, tmp_path) as found, closing(Board(found.public.url, postgres.url)) as board:
        admin = board.organization().admin
        writes = planned(board, admin)
        first = send_while_it_ends(writes, admin, postgres)
        for process in found.processes.values():
            until_ready(process)
        with ThreadPoolExecutor(CLIENTS) as threads:
            second = list(threads.map(lambda write: write.send(admin), writes))
        entries = board.sql(
            "SELECT correlation_id, event_id::text FROM events.history WHERE correlation_id LIKE 'write-%'"
        )
    acknowledged = 0
    for write, before, after in zip(writes, first, second, strict=True):
        assert after is not None, write
        assert after.status_code == WRITES[write.name].success, after.text
        if before is not None and before.is_success:
            acknowledged += 1
            assert essence(before) == essence(after), write
            assert after.headers["idempotency-status"] == "replayed", write
        else:
            assert before is None or before.status_code == 503, write
    happened = Counter(entry["correlation_id"] for entry in entries)
    assert happened == {write.key: 1 for write in writes}
    assert {entry["event_id"] for entry in entries} >= {write.event_id for write in writes if write.event_id}
    # Some brought no good answer, and some of those had been committed all the same.
    replayed = sum(answer.headers["idempotency-status"] == "replayed" for answer in second if answer is not None)
    assert acknowledged < replayed < COUNT, (acknowledged, replayed)
