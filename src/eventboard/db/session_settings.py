"""The settings that a connection needs, whatever ALTER DATABASE, ALTER ROLE and postgresql.conf say.

Each connection is made with them, and verified before it is used: a pooler in between may drop them.
"""

from collections.abc import Mapping
from typing import Any

from eventboard.core.errors import Code, ServiceError

# Seconds until a client should try again.
RETRY_AFTER = 1

# Most statements have one plan that is good for all values. By default PostgreSQL compares estimated costs, and may
# plan a statement each time: for a list that takes longer than its execution.
PLANNED_ONCE = "force_generic_plan"

_PINNED = {
    # Guarded updates have to see what other transactions have committed meanwhile.
    "default_transaction_isolation": "read committed",
    # Some errors are expected, such as a unique violation, and must not close the connection.
    "exit_on_error": "off",
    # A text index returns all matches.
    "gin_fuzzy_search_limit": "0",
    # A pool's connections are idle most of the time.
    "idle_session_timeout": "0",
    # The budget of a call limits its waiting for locks.
    "lock_timeout": "0",
    # With off, each statement that a policy applies to is an error.
    "row_security": "on",
    # Our tables are named with their schemas. No operator takes the place of PostgreSQL's.
    "search_path": "pg_catalog, pg_temp",
    # Constants in our SQL are written for it.
    "standard_conforming_strings": "on",
    "timezone": "UTC",
}
SERVING = {
    **_PINNED,
    "plan_cache_mode": PLANNED_ONCE,
    # By the same estimates short queries would be compiled.
    "jit": "off",
}
MIGRATING = {
    **_PINNED,
    # Making an index may take long. See also `disable_transaction_timeout`.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Others, such as columnar ones, can't update rows.
    "default_table_access_method": "heap",
}

# With "replica" triggers and foreign keys are off; only a superuser may set it.
_REPLICATION = "session_replication_role"
# With off, a crash loses acknowledged writes. The values above "on" are the administrator's choice.
_COMMIT = "synchronous_commit"

# The warning about an account that is a superuser or has BYPASSRLS.
BYPASSES = (
    "bypasses row-level security if it ever works without its role: give the service an account that is neither a"
    " superuser nor has BYPASSRLS"
)

_VERIFY = f"""
    SELECT current_user::text, session_user::text,
        (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = session_user), name,
        CASE WHEN name = '{_COMMIT}' AND pg_catalog.current_setting(name) = 'off'
            THEN pg_catalog.set_config(name, 'on', false) ELSE pg_catalog.current_setting(name, true) END
    FROM pg_catalog.unnest($1::text[]) AS name
"""  # noqa: S608 - put together from our own names
_NO_TRANSACTION_TIMEOUT = """
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'
"""


async def verify(connection: Any, needed: Mapping[str, str], *, role: str | None = None) -> bool:
    """Whether the account, without its role, bypasses row-level security.

    Raises ServiceError where the connection doesn't have the `role`, or other settings than `needed`.
    """
    rows = await connection.fetch(_VERIFY, [*needed, _REPLICATION, _COMMIT])
    current, account, bypasses = rows[0][:3]
    if role is not None and current != role:
        raise ServiceError(
            Code.UNAVAILABLE,
            f"A connection to the database doesn't work as {role}: a pooler in between drops it; connect without one.",
            retry_after=RETRY_AFTER,
        )
    settings = {row[3]: row[4] for row in rows}
    for name, value in needed.items():
        if settings[name] != value:
            raise _wrong_setting(account, name, settings[name], value)
    if settings[_REPLICATION] == "replica":
        raise _wrong_setting(account, _REPLICATION, "replica", "origin")
    return bool(bypasses)


async def disable_transaction_timeout(connection: Any) -> None:
    """A setting that only PostgreSQL 17 and later have."""
    await connection.execute(_NO_TRANSACTION_TIMEOUT)


def _wrong_setting(account: str, name: str, value: str | None, needed: str) -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE,
        f"The database's setting {name} is {value!r}, and has to be {needed!r} for the account {account} (ALTER ROLE).",
        retry_after=RETRY_AFTER,
    )
