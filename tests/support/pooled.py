"""PgBouncer between the processes of a test run and its databases, where the run is asked for it (`--pooler`)."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg

from eventboard.dev.database import ACCOUNTS, make_accounts

# The variable by which a run's processes know PgBouncer's port.
PORT = "EVENTBOARD_TEST_POOLER"
# PgBouncer asks for one; the cluster doesn't.
PASSWORD = "pooled"
# Connections to PostgreSQL, of each module in each database.
CONNECTIONS = 4


@contextmanager
def pooler(cluster_url: str) -> Iterator[str]:
    """Its port, in front of the cluster, in which the accounts are made."""
    # Imported here: only this needs an engine.
    from tests.deploy.engines import pgbouncer

    asyncio.run(_make_accounts(cluster_url))
    passwords = dict.fromkeys((account for account, *_ in ACCOUNTS.values()), PASSWORD)
    with pgbouncer.pgbouncer(pgbouncer.new(), cluster_url, passwords, default_pool_size=CONNECTIONS) as found:
        yield str(found.port)


def module_urls(database_url: str) -> dict[str, str]:
    """Settings by which a process reaches this database: none, unless the run is asked to go through PgBouncer."""
    if not (port := os.environ.get(PORT)):
        return {}
    address = f"127.0.0.1:{port}{urlsplit(database_url).path}?sslmode=disable"
    return {
        f"DATABASE_{module.upper()}_URL": f"postgresql://{account}:{PASSWORD}@{address}"
        for module, (account, *_) in ACCOUNTS.items()
    }


async def _make_accounts(cluster_url: str) -> None:
    connection = await asyncpg.connect(cluster_url)
    try:
        await make_accounts(connection)
        for account, *_ in ACCOUNTS.values():
            # The cluster of the tests has it off.
            await connection.execute(f"ALTER ROLE {account} SET synchronous_commit = on")
    finally:
        await connection.close()
