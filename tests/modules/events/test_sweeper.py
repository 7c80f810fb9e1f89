"""Expired idempotency keys are deleted, and no others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from loguru import logger
from prometheus_client import generate_latest

from eventboard.core.errors import ServiceError
from eventboard.db.database import Database
from eventboard.db.sweeper import MOST, Sweeper
from eventboard.modules.events import repository
from eventboard.modules.events.sweeps import BATCH, EXPIRED_KEYS
from eventboard.observability.metrics import Metrics
from tests.support.metrics import parsed
from tests.support.processes import PATIENCE

ORGANIZATION, USER = uuid4(), uuid4()
BACKLOG, FAILURES = "eventboard_idempotency_backlog", "eventboard_sweep_failures_total"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, role="eventboard_sweeper", size=4, connect_timeout=PATIENCE)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def superuser(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def put(superuser: Any, prefix: str, count: int, lives: timedelta = timedelta(hours=-1)) -> None:
    """So many keys, which live for so long from now on."""
    await superuser.execute(
        "INSERT INTO events.idempotency_keys (organization_id, user_id, key, operation, payload, outcome,"
        " correlation_id, expires_at) SELECT $1, $2, $3 || n, 'events.create', '\\x00', '\\x80', 'put',"
        " now() + $5 FROM generate_series(1, $4) AS n",
        ORGANIZATION,
        USER,
        prefix,
        count,
        lives,
    )


async def left(superuser: Any) -> list[str]:
    return [row[0] for row in await superuser.fetch("SELECT key FROM events.idempotency_keys ORDER BY key")]


async def test_round(database: Database, superuser: Any) -> None:
    """All that has expired goes, in batches; what lives for another minute stays."""
    await superuser.execute(
        """
        CREATE TABLE public.batches (deleted integer);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN INSERT INTO public.batches SELECT count(*) FROM gone; RETURN NULL; END
        $$;
        CREATE TRIGGER note AFTER DELETE ON events.idempotency_keys
            REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note()
        """
    )
    await put(superuser, "expired ", 2 * BATCH + 1, timedelta(microseconds=-1))
    await put(superuser, "live ", 3, timedelta(minutes=1))
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    assert sweeper.backlog is None
    assert await sweeper.sweep() == 2 * BATCH + 1
    assert await left(superuser) == ["live 1", "live 2", "live 3"]
    assert sweeper.backlog == 0
    assert [row[0] for row in await superuser.fetch("SELECT * FROM public.batches")] == [BATCH, BATCH, 1, 0]


async def test_what_is_locked(database: Database, superuser: Any) -> None:
    """It is left to the next round, and is told as the backlog; nothing waits for it."""
    await put(superuser, "expired ", 10)
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    async with superuser.transaction():
        await superuser.execute("SELECT FROM events.idempotency_keys WHERE key LIKE '% 1' OR key LIKE '% 2' FOR UPDATE")
        assert (await sweeper.sweep(), sweeper.backlog) == (8, 2)
    assert await left(superuser) == ["expired 1", "expired 2"]
    assert (await sweeper.sweep(), sweeper.backlog) == (2, 0)


async def test_one_process_at_a_time(database: Database, superuser: Any) -> None:
    """Who finds another one at it leaves it alone, and tells what there is to do."""
    await put(superuser, "expired ", 10)
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    await superuser.execute(f"SELECT pg_advisory_lock({EXPIRED_KEYS.lock})")
    assert (await sweeper.sweep(), sweeper.backlog) == (0, 10)
    await superuser.execute(f"SELECT pg_advisory_unlock({EXPIRED_KEYS.lock})")
    assert (await sweeper.sweep(), sweeper.backlog) == (10, 0)


async def test_several_at_once(database: Database, superuser: Any) -> None:
    """Together they delete each key once."""
    await put(superuser, "expired ", 5 * BATCH)
    sweepers = [Sweeper(database, EXPIRED_KEYS, every=60) for _ in range(4)]
    assert sum(await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))) == 5 * BATCH
    assert await left(superuser) == []


async def test_keys_that_are_used_anew_meanwhile(database: Database, database_url: str, superuser: Any) -> None:
    """Whichever comes first, the new record stays."""
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    events = Database(database_url, role="eventboard_events", size=1, connect_timeout=PATIENCE)
    await events.open()
    names = [f"expired {number}" for number in range(1, 101)]

    async def use_anew(name: str) -> None:
        scope = {"organization_id": ORGANIZATION, "user_id": USER, "key": name}
        async with events.transaction(ORGANIZATION, USER) as connection:
            await connection.run(
                repository.STORE_KEY,
                **scope,
                operation="events.create",
                target=None,
                payload=b"\0",
                outcome=b"\x80",
                correlation_id="anew",
                lifetime=3600,
            )

    async def use_all() -> None:
        for name in names:
            await use_anew(name)

    for _ in range(3):
        await put(superuser, "expired ", len(names))
        using = asyncio.create_task(use_all())
        while not using.done():
            await sweeper.sweep()
        await using
        assert await left(superuser) == sorted(names)
        await superuser.execute("TRUNCATE events.idempotency_keys")
    await events.close()


async def test_role_that_names_an_organization(superuser: Any) -> None:
    """It is shown no more than what has expired, and changes nothing."""
    await put(superuser, "expired ", 1)
    await put(superuser, "live ", 1, timedelta(minutes=1))
    await superuser.execute("SET ROLE eventboard_sweeper")
    await superuser.execute("SELECT set_config('eventboard.organization_id', $1, false)", str(ORGANIZATION))
    assert await left(superuser) == ["expired 1"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await superuser.execute("UPDATE events.idempotency_keys SET expires_at = expires_at")
    assert await superuser.execute("DELETE FROM events.idempotency_keys") == "DELETE 1"
    await superuser.execute("RESET ROLE")
    assert await left(superuser) == ["live 1"]


async def test_goes_on(database: Database, superuser: Any) -> None:
    """Whatever goes wrong in one round, the next one comes."""
    await put(superuser, "expired ", 1)
    await superuser.execute("REVOKE DELETE ON events.idempotency_keys FROM eventboard_sweeper")
    sweeper = Sweeper(database, EXPIRED_KEYS, every=0.01)
    failures: list[str] = []
    sink = logger.add(failures.append, level="ERROR", format="{message}")
    try:
        await sweeper.open()
        await until(lambda: len(failures) > 1)
        await superuser.execute("GRANT DELETE ON events.idempotency_keys TO eventboard_sweeper")
        await until(lambda: sweeper.backlog == 0)
    finally:
        await sweeper.close()
        logger.remove(sink)
    assert await left(superuser) == []


async def test_what_a_failing_round_tells(database: Database, superuser: Any) -> None:
    """How much is left undone, and that it failed."""
    metrics = Metrics()
    failures = f'{FAILURES}{{sweep="idempotency"}}'
    await put(superuser, "expired ", 3)
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60, metrics=metrics)
    assert told(metrics)[failures] == 0
    await superuser.execute("REVOKE DELETE ON events.idempotency_keys FROM eventboard_sweeper")
    for number in (1, 2):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sweeper.sweep()
        assert (told(metrics)[BACKLOG], told(metrics)[failures]) == (3, number)
    await superuser.execute("GRANT DELETE ON events.idempotency_keys TO eventboard_sweeper")
    assert await sweeper.sweep() == 3
    assert (told(metrics)[BACKLOG], told(metrics)[failures]) == (0, 2)


async def test_account_that_may_not_sweep(database_url: str) -> None:
    """It can count nothing, and tells that it fails."""
    metrics = Metrics()
    database = Database(database_url, role="eventboard_nobody", size=1, connect_timeout=PATIENCE)
    await database.open()
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60, metrics=metrics)
    with pytest.raises(ServiceError):
        await sweeper.sweep()
    assert told(metrics)[f'{FAILURES}{{sweep="idempotency"}}'] == 1
    await database.close()


async def test_counted_up_to_a_limit(database: Database, superuser: Any) -> None:
    """Counting what has piled up doesn't hold up the round that makes it less."""
    await put(superuser, "expired ", MOST + 1)
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    await superuser.execute(f"SELECT pg_advisory_lock({EXPIRED_KEYS.lock})")
    assert (await sweeper.sweep(), sweeper.backlog) == (0, MOST)


def told(metrics: Metrics) -> dict[str, float]:
    return parsed(generate_latest(metrics.registry).decode())


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not seen():  # noqa: ASYNC110 - the sweeper tells nobody what it does
            await asyncio.sleep(0.01)
