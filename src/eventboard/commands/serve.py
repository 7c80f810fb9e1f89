"""`eventboard serve`: what a process prepares before it serves."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version

import asyncpg

from eventboard.core.errors import CommandError, ServiceError
from eventboard.db.connector import Connector
from eventboard.db.errors import BROKEN
from eventboard.db.pooler import UnfitPoolerError
from eventboard.observability.trace_provider import Tracing
from eventboard.settings import PORTS, Settings


def install_tracing(settings: Settings, target: frozenset[str]) -> Tracing:
    """Records requests from here on: in development all, in production a share."""
    parts = [part for part in PORTS if part in target]
    return Tracing(
        service="-".join(["eventboard", *(parts if len(parts) < len(PORTS) else [])]),
        version=version("eventboard"),
        record_all=settings.environment == "development",
        keep=settings.tracing.keep,
    ).install()


async def reject_unfit_poolers(settings: Settings, modules: Iterable[str]) -> None:
    """Raises CommandError. A database that can't be reached now is none of its business: a process starts without."""
    await asyncio.gather(*(_reject_unfit_pooler(settings, module) for module in modules))


async def _reject_unfit_pooler(settings: Settings, module: str) -> None:
    given = settings.database
    connector = Connector(given.for_module(module), role=f"eventboard_{module}", connect_timeout=given.connect_timeout)
    try:
        connection, _pooled = await connector.connect(asyncpg.Connection)
    except UnfitPoolerError as error:
        raise CommandError(f"{error.detail} ({given.variable(module)})") from None
    except (ServiceError, *BROKEN, ValueError, KeyError):
        return
    with suppress(*BROKEN):
        await connection.close(timeout=given.connect_timeout)
