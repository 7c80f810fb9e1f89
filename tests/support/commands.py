"""The `eventboard` command, run to its end."""

import asyncio
from typing import Any

import asyncpg

from eventboard.db.revisions import MODULES
from tests.support.processes import PATIENCE, spawned

# What production asks for, and tests spare themselves.
STRONG = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
NOBODY_LISTENS = "postgresql://me:sesame@127.0.0.1:1/eventboard"


def ran(*arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    with spawned(*arguments, **settings) as process:
        return process.popen.wait(PATIENCE), process.output


def refused(*arguments: str, **settings: str) -> str:
    """The one line that says why not."""
    code, output = ran(*arguments, **settings)
    assert code == 1, output
    return the_line(output)


def the_line(output: str) -> str:
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("eventboard: ")
    assert "sesame" not in output, "that was the password"
    return lines[0]


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(run())


def levels(url: str) -> list[list[tuple[Any, ...]]]:
    return [ask(url, f"SELECT version_num FROM {module}.alembic_version") for module in MODULES]
