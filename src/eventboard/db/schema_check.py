"""Checks that a module's schema is there, and fit for this version of the code."""

from collections.abc import Awaitable, Callable, Mapping

import asyncpg
from sqlalchemy import func, literal_column, select, text

from eventboard.core.errors import Code, ServiceError
from eventboard.db.database import Database
from eventboard.db.statements import Statement

# An encoding of the database: any other lacks characters, or doesn't distinguish letters from bytes.
ENCODING = "UTF8"


def schema_check(
    database: Database, schema: str, needed: str, *, trial: Statement | None = None
) -> Callable[[], Awaitable[Mapping[str, str] | None]]:
    """A health check: the schema has the revision `needed`, or a newer one, and the database the right encoding.

    `trial` is a SELECT that fails where something is missing that the schema needs outside of itself.
    """
    revision_and_encoding = select(literal_column("version_num"), func.getdatabaseencoding())
    statement = Statement(revision_and_encoding.select_from(text(f"{schema}.alembic_version")))

    async def check() -> Mapping[str, str]:
        try:
            row = await database.row(None, None, statement)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
            row = None
        if row is None or row[0] < needed:
            level = "not migrated" if row is None else f"at level {row[0]}"
            raise ServiceError(
                Code.UNAVAILABLE, f"The database is {level}; {needed} is needed: run `eventboard migrate`."
            )
        if row[1] != ENCODING:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"The database's encoding is {row[1]}, and has to be {ENCODING}. Create another database.",
            )
        if trial is not None:
            await _try(database, trial)
        return {"level": row[0]}

    return check


async def _try(database: Database, trial: Statement) -> None:
    try:
        await database.row(None, None, trial)
    except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError) as error:
        reason = str(error).splitlines()[0]
        raise ServiceError(
            Code.UNAVAILABLE, f"The database lacks something: {reason}. `eventboard check` says more."
        ) from None
