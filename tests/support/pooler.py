"""A pooler that is configured to ignore a setting with which a connection begins, as PgBouncer may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from eventboard.dev.postgres import SUPERUSER


@asynccontextmanager
async def pooler_without(url: str, setting: str) -> AsyncIterator[str]:
    """Its URL: the setting never gets to PostgreSQL."""
    (socket,) = parse_qs(urlsplit(url).query)["host"]
    # Of the same length, and a name that PostgreSQL takes for an extension's.
    other = "a." + "b" * (len(setting) - 2)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data.replace(f"\0{setting}\0".encode(), f"\0{other}\0".encode()))
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.5432")
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{SUPERUSER}@127.0.0.1:{port}{urlsplit(url).path}?sslmode=disable"
