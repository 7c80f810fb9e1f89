"""The settings that a connection needs, whatever ALTER DATABASE, ALTER ROLE and postgresql.conf say.

Each connection is made with them, and verified before it is used. Behind a pooler they are those of the login role
(ALTER ROLE … SET), and each transaction verifies them for the connection that the pooler runs it on: see `Guard`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

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
# Without it a statement whose cancellation is lost never ends.
_TIMEOUT = "statement_timeout"
_REJECTED = {_REPLICATION: "replica", _COMMIT: "off", _TIMEOUT: "0"}

# The warning about an account that is a superuser or has BYPASSRLS.
BYPASSES = (
    "bypasses row-level security if it ever works without its role: give the service an account that is neither a"
    " superuser nor has BYPASSRLS"
)

# `$2` is the process that the connection is said to have: a pooler makes that number up. Its sessions aren't ours
# alone, so nothing is set for them.
_READ = f"""
    SELECT current_user::text, session_user::text,
        (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = session_user),
        pg_catalog.pg_backend_pid() <> $2,
        extract(epoch FROM pg_catalog.current_setting('{_TIMEOUT}')::interval)::float,
        name,
        CASE WHEN name = '{_COMMIT}' AND pg_catalog.current_setting(name) = 'off' AND pg_catalog.pg_backend_pid() = $2
            THEN pg_catalog.set_config(name, 'on', false) ELSE pg_catalog.current_setting(name, true) END
    FROM pg_catalog.unnest($1::text[]) AS name
"""  # noqa: S608 - put together from our own names
_NO_TRANSACTION_TIMEOUT = """
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'
"""

_ORGANIZATION = "set_config('eventboard.organization_id'"
# PostgreSQL's error names it: no setting has this name.
MISSING = "eventboard.connection_without_settings"


def of_account(role: str, statement_timeout: float) -> dict[str, str]:
    """What an account needs that serves a module through a pooler (ALTER ROLE … SET)."""
    return {**SERVING, _TIMEOUT: f"{statement_timeout:g}s", "role": role}


class Session(Struct, frozen=True):
    """What a connection has. `bypasses`: the account without its role bypasses row-level security. `pooled`: there is a
    pooler in between. `statement_timeout` is in seconds.
    """

    role: str
    account: str
    bypasses: bool
    pooled: bool
    statement_timeout: float
    settings: dict[str, str | None]

    def require(self, needed: Mapping[str, str], *, role: str | None = None, statement_timeout: float = 0) -> None:
        """Raises ServiceError where the connection doesn't have the `role`, or other settings than `needed`.

        Behind a pooler also where PostgreSQL would end a statement before `statement_timeout`, or never.
        """
        if role is not None and self.role != role:
            raise ServiceError(
                Code.UNAVAILABLE,
                f"A connection to the database doesn't work as {role}: a pooler in between drops the role, and the"
                f" account {self.account} doesn't have it (ALTER ROLE {self.account} SET role = '{role}').",
                retry_after=RETRY_AFTER,
            )
        for name, value in needed.items():
            if self.settings[name] != value:
                raise self._wrong(name, repr(self.settings[name]), repr(value))
        if self.settings[_REPLICATION] == "replica":
            raise self._wrong(_REPLICATION, "'replica'", "'origin'")
        if self.settings[_COMMIT] == "off":
            raise self._wrong(_COMMIT, "'off'", "'on'")
        if self.pooled and self.statement_timeout < statement_timeout:
            raise self._wrong(_TIMEOUT, f"'{self.statement_timeout:g}s'", f"'{statement_timeout:g}s' or longer")

    def _wrong(self, name: str, value: str, needed: str) -> ServiceError:
        return ServiceError(
            Code.UNAVAILABLE,
            f"The database's setting {name} is {value}, and has to be {needed} for the account {self.account}"
            " (ALTER ROLE).",
            retry_after=RETRY_AFTER,
        )


class Guard:
    """Makes a statement that sets its scope fail on a connection without the role or one of the settings.

    A pooler runs each transaction on any of its connections. One of them may be older than the account's settings, or
    another client may have left other ones on it.
    """

    def __init__(self, role: str) -> None:
        conditions = [
            f"current_user = '{role}'",
            *(f"current_setting('{name}') = '{value}'" for name, value in SERVING.items()),
            *(f"current_setting('{name}') <> '{value}'" for name, value in _REJECTED.items()),
        ]
        self._guarded = (
            f"set_config(CASE WHEN {' AND '.join(conditions)}"
            f" THEN 'eventboard.organization_id' ELSE current_setting('{MISSING}') END"
        )
        self._known: dict[str, str] = {}

    def __call__(self, sql: str) -> str:
        """The same text for the same `sql`, which the driver keeps prepared."""
        if sql not in self._known:
            self._known[sql] = sql.replace(_ORGANIZATION, self._guarded, 1)
        return self._known[sql]


async def read(connection: Any, names: Iterable[str]) -> Session:
    """Sets `synchronous_commit` to `on` where it is `off`, unless there is a pooler in between."""
    rows = await connection.fetch(_READ, [*names, _REPLICATION, _COMMIT], connection.get_server_pid())
    role, account, bypasses, pooled, timeout = rows[0][:5]
    return Session(role, account, bypasses, pooled, timeout, {row[5]: row[6] for row in rows})


async def disable_transaction_timeout(connection: Any) -> None:
    """A setting that only PostgreSQL 17 and later have."""
    await connection.execute(_NO_TRANSACTION_TIMEOUT)
