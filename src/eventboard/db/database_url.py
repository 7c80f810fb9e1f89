"""Parses database URLs as libpq and hosting providers write them, for asyncpg.

asyncpg sends each unknown parameter to the server as a setting, and the server rejects the connection.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from msgspec import Struct

# Parameters that asyncpg understands.
_DRIVER = frozenset(
    (
        *("host", "port", "user", "password", "dbname", "database", "passfile", "service", "krbsrvname", "gsslib"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
    )
)
# Parameters for the server.
_SERVER = frozenset(("application_name", "options"))
# Other parameters of libpq, and those that providers add for certain libraries.
_IGNORED = frozenset(
    (
        *("channel_binding", "require_auth", "requirepeer", "connect_timeout", "tcp_user_timeout", "client_encoding"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "load_balance_hosts", "hostaddr"),
        *("gssencmode", "gssdelegation", "sslcompression", "sslsni", "sslcertmode", "sslcrldir", "sslkeylogfile"),
        *("fallback_application_name", "replication", "servicefile", "min_protocol_version", "max_protocol_version"),
        *("pgbouncer", "pool_mode", "pool_timeout", "connection_limit", "socket_timeout", "statement_cache_size"),
        *("schema", "sslaccept", "sslidentity", "supa", "uselibpqcompat", "prepareThreshold", "currentSchema"),
        *("pool_max_conns", "pool_min_conns", "default_query_exec_mode", "statement_timeout", "search_path"),
    )
)


class DatabaseUrl(Struct, frozen=True, kw_only=True):
    """`arguments` are for `asyncpg.connect` or `create_pool`; `settings` are for its `server_settings`."""

    arguments: dict[str, Any]
    settings: dict[str, str]
    ignored: tuple[str, ...] = ()


def parse(url: str) -> DatabaseUrl:
    """Doesn't raise: asyncpg rejects a malformed URL when it connects."""
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        return DatabaseUrl(arguments={"dsn": url}, settings={})
    arguments: dict[str, Any] = {}
    if (
        not parts.netloc.rpartition("@")[2]
        and not parameters.get("host")
        and (address := parameters.pop("hostaddr", ""))
    ):
        parameters["host"] = address
    # Other spellings of sslmode=require; both are removed.
    if "true" in (parameters.pop("ssl", ""), {"1": "true"}.get(parameters.pop("requiressl", ""))):
        parameters.setdefault("sslmode", "require")
    if parameters.get("sslrootcert") == "system":
        # The machine's CAs; libpq verifies the server's name, too.
        del parameters["sslrootcert"]
        arguments["ssl"] = True
    ignored = parameters.keys() - _DRIVER - _SERVER
    for_driver = {name: value for name, value in parameters.items() if name in _DRIVER}
    arguments["dsn"] = parts._replace(query=urlencode(for_driver)).geturl()
    return DatabaseUrl(
        arguments=arguments,
        settings={name: parameters[name] for name in parameters.keys() & _SERVER},
        # An unknown name isn't shown: it may be part of a password that isn't percent-encoded.
        ignored=(*sorted(ignored & _IGNORED), *(["an unknown one"] if ignored - _IGNORED else [])),
    )


def ignored_parameters(url: str) -> str:
    """A warning, or ""."""
    ignored = parse(url).ignored
    if not ignored:
        return ""
    return f"parameters of the database's URL are ignored: {', '.join(ignored)}"


async def connect(url: str, *, settings: dict[str, str], timeout: float | None = None) -> Any:  # noqa: ASYNC109 - asyncpg's own
    """The settings take precedence over the URL's."""
    parsed = parse(url)
    return await asyncpg.connect(**parsed.arguments, timeout=timeout, server_settings={**parsed.settings, **settings})


def unreadable_home() -> str:
    """Why asyncpg can't look for certificates in `~/.postgresql`, or ""; it fails where it has no permission."""
    try:
        folder = Path.home()
        (folder / ".postgresql" / "postgresql.key").stat()
    except PermissionError:
        return f"HOME is {folder}, which this account can't read: set it to another folder"
    except (OSError, RuntimeError, KeyError):
        pass
    return ""
