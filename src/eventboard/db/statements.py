"""SQLAlchemy Core statements, compiled once to the SQL that asyncpg executes."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = PGDialect_asyncpg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

# The first table that a statement writes, not counting FOR UPDATE and DO UPDATE; and those that it reads.
_WRITES = re.compile(r"(?<!FOR )(?<!DO )\b(INSERT INTO|UPDATE|DELETE FROM) ([\w.]+)")
_READS = re.compile(r"\bFROM (\w+\.\w+)")


class Statement:
    """`sql` has the parameters `$1`, `$2`, …; `summary` is for logs and traces, and has no values.

    `custom_plan`: PostgreSQL plans it for the values of each execution. `sets_scope`: it makes its scope's settings, so
    it can be a transaction by itself.
    """

    def __init__(self, statement: ClauseElement, *, custom_plan: bool = False, sets_scope: bool = False) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=_DIALECT))
        self.custom_plan = custom_plan
        self.sets_scope = sets_scope
        self.sql = str(compiled)
        self.summary = summary_of(self.sql)
        # A SELECT can be given the settings of its scope.
        self.scopable = self.summary.startswith("SELECT") and isinstance(statement, Select)
        self._names = tuple(compiled.positiontup or ())
        self._defaults = {name: compiled.params[name] for name in self._names}

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values in the order of the parameters."""
        return [values[name] if name in values else self._defaults[name] for name in self._names]

    @cached_property
    def scoped_sql(self) -> str:
        """The statement, a SELECT, with its scope's settings made first: organization and user are two parameters more.

        The second half depends on the first, and OFFSET 0 keeps the planner from merging them: so the settings are made
        when row-level security reads them. The order of the rows is the statement's.
        """
        organization = len(self._names) + 1
        return (
            "SELECT chosen.* FROM"  # noqa: S608 - put together from our own statements
            f" (SELECT set_config('eventboard.organization_id', ${organization}, true) AS organization,"
            f" set_config('eventboard.user_id', ${organization + 1}, true) OFFSET 0) AS scope CROSS JOIN LATERAL"
            f" (SELECT statement.* FROM ({self.sql}) AS statement WHERE scope.organization IS NOT NULL OFFSET 0)"
            " AS chosen"
        )


def summary_of(sql: str) -> str:
    """Such as `UPDATE events.event`; of a SELECT the table that it reads most often."""
    if written := _WRITES.search(sql):
        return f"{written[1].split()[0]} {written[2]}"
    read = Counter(_READS.findall(sql)).most_common(1)
    return f"SELECT {read[0][0]}" if read else sql.split(maxsplit=1)[0]
