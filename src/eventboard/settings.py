"""Settings: frozen structs, filled from config/base.toml, config/<environment>.toml and EVENTBOARD_* variables."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

PREFIX = "EVENTBOARD_"
FROM_FILE = "_FILE"
# Read by name before any file is: they say which files to read.
CHOOSERS = {"EVENTBOARD_ENVIRONMENT", "EVENTBOARD_CONFIG"}

# What a target is made of, and the port that a process is known for: the first of its parts decides.
PORTS = {"gateway": 3000, "auth": 3001, "events": 3002}
# What an admin port is above the port, so that several processes on one machine have several: 3900, 3901, 3902.
ADMIN_ABOVE = 900

# Bounded, since `inf` is a number too.
A_DAY = 86_400
Seconds = Annotated[float, Meta(gt=0, le=A_DAY)]
Wait = Annotated[float, Meta(ge=0, le=A_DAY)]
Text = Annotated[str, Meta(min_length=1)]
# A token with two of them has to stay below identity.LONGEST_TOKEN.
Claim = Annotated[str, Meta(min_length=1, max_length=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Bound = Annotated[int, Meta(ge=0)]
Environment = Literal["development", "production"]


# What a browser calls a site: no path, no wildcard, and not the `null` of a page that hides where it is from.
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")


class SettingsError(Exception):
    """One line that names the key and where its value came from."""


class Server(Struct, frozen=True, kw_only=True):
    """Without a `port`, the one that the target is known for; without an `admin_port`, the one 900 above the port.

    `client_timeout`, `grace` and `drain` are in seconds.

    `tls_certificate` and `tls_key` are PEM files; without them it speaks plain HTTP.
    `cors_origins`: other sites whose pages may call the API, separated by commas. `hsts` is for what is behind TLS.
    `trusted_proxies`: networks, separated by commas; what they write into `forwarded_header` is believed.
    """

    host: Text
    port: Port | None = None
    admin_host: Text
    admin_port: Port | None = None
    tls_certificate: str = ""
    tls_key: str = ""
    max_body: Count
    max_headers: Count
    max_requests: Count
    client_timeout: Seconds
    cors_origins: str
    hsts: Literal["on", "off"]
    trusted_proxies: str
    forwarded_header: Literal["x-forwarded-for", "forwarded"]
    drain: Wait
    grace: Seconds


class LimitSettings(Struct, frozen=True, kw_only=True):
    """How many within a window; 0 is no limit. Windows and `known_for` are in seconds.

    `store_url` is a Redis or Valkey to count in; without one it is PostgreSQL.
    """

    store_url: str = ""
    window: Count
    account_window: Count
    failure_window: Count
    login_by_address: Bound
    login_failures: Bound
    login_failures_by_account: Bound
    known_for: Count
    signup_by_address: Bound
    signup_by_account: Bound
    refresh_by_address: Bound
    refresh_by_account: Bound
    requests: Bound
    block: Count


class DatabaseSettings(Struct, frozen=True, kw_only=True):
    """`url` serves all; a module's own URL, or the migrations', goes before it."""

    url: str = ""
    auth_url: str = ""
    events_url: str = ""
    migration_url: str = ""
    pool_size: Count
    connect_timeout: Seconds

    def for_module(self, module: str) -> str:
        return str(getattr(self, f"{module}_url")) or self.url

    def for_migration(self) -> str:
        return self.migration_url or self.url

    def variable(self, whose: str) -> str:
        """The variable that the URL of a module, or of `migration`, comes from, or would come from."""
        own = f"{whose}_url"
        several = self.auth_url or self.events_url or self.migration_url
        return PREFIX + f"DATABASE_{own if getattr(self, own) or (several and not self.url) else 'url'}".upper()


class Budgets(Struct, frozen=True, kw_only=True):
    """Seconds for each kind of call; the contract says which kind a method is."""

    auth: Seconds
    read: Seconds
    list: Seconds
    write: Seconds


class Tokens(Struct, frozen=True, kw_only=True):
    issuer: Claim
    audience: Claim
    lifetime: Count
    refresh_lifetime: Count
    session_lifetime: Count
    invitation_lifetime: Count
    sweep_every: Seconds
    key_file: str = ""


class Passwords(Struct, frozen=True, kw_only=True):
    memory_kib: Annotated[int, Meta(ge=8)]
    iterations: Count
    workers: Annotated[int, Meta(ge=0)]
    queue: Annotated[int, Meta(ge=0)]


class Rpc(Struct, frozen=True, kw_only=True):
    """Between processes. Without a `credential` of its own a process neither serves nor calls another."""

    credential: str = ""
    connect_timeout: Seconds


class Peers(Struct, frozen=True, kw_only=True):
    """Where the modules are that don't run in this process: URLs, separated by commas."""

    auth: str = ""
    events: str = ""


class Retries(Struct, frozen=True, kw_only=True):
    retries: Annotated[int, Meta(ge=0)]
    first_wait: Seconds
    jitter: Share
    least_left: Wait
    budget_share: Share
    budget_floor: Annotated[int, Meta(ge=0)]
    budget_window: Seconds


class BreakerSettings(Struct, frozen=True, kw_only=True):
    least_calls: Count
    share: Share
    window: Seconds
    open_for: Seconds
    probes: Count


class MailSettings(Struct, frozen=True, kw_only=True):
    """Without a `host` none is sent. `queue` mails may wait; `timeout` and `first_wait` (doubled each time): seconds.

    `sender` is `Name <address>`, or an address alone.
    """

    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65535)]
    tls: Literal["starttls", "implicit", "off"]
    sender: str = ""
    username: str = ""
    password: str = ""
    queue: Count
    timeout: Seconds
    retries: Annotated[int, Meta(ge=0)]
    first_wait: Seconds


class Idempotency(Struct, frozen=True, kw_only=True):
    sweep_every: Seconds


class Logs(Struct, frozen=True, kw_only=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    format: Literal["text", "json"]


class Tracing(Struct, frozen=True, kw_only=True):
    """`endpoint` is where OTLP goes; without one nothing is exported. `keep` and `queue` count requests."""

    record: Literal["on", "off"]
    keep: Annotated[int, Meta(ge=0)]
    endpoint: str = ""
    sample_ratio: Share
    queue: Count


class Postgres(Struct, frozen=True, kw_only=True):
    """The embedded PostgreSQL of development and tests."""

    bin: str = ""
    data: str = "var/postgres"


class Settings(Struct, frozen=True, kw_only=True):
    environment: Environment
    server: Server
    database: DatabaseSettings
    budgets: Budgets
    tokens: Tokens
    passwords: Passwords
    rpc: Rpc
    peers: Peers = msgspec.field(default_factory=Peers)
    retries: Retries
    breaker: BreakerSettings
    idempotency: Idempotency
    mail: MailSettings
    limits: LimitSettings
    logs: Logs
    tracing: Tracing
    postgres: Postgres = msgspec.field(default_factory=Postgres)


def split(text: str) -> list[str]:
    """What is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """EVENTBOARD_CONFIG, else the folder packed into the wheel, else the checkout's."""
    if chosen := environ.get("EVENTBOARD_CONFIG"):
        return Path(chosen)
    packed = Path(__file__).parent / "_config"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "config"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises SettingsError for an unknown key, a wrong type, a missing or an unsafe value."""
    environment = environ.get("EVENTBOARD_ENVIRONMENT", "development")
    if environment not in get_args(Environment):
        raise SettingsError(f"EVENTBOARD_ENVIRONMENT: {environment!r} is none of {', '.join(get_args(Environment))}")
    folder = config_folder(environ)
    merged: dict[str, dict[str, Any]] = {}
    sources: dict[tuple[str, str], str] = {}
    file = folder / "base.toml"
    for file in (folder / "base.toml", folder / f"{environment}.toml"):
        _merge(_from_file(file), str(file), merged, sources)
    _merge(_from_environ(environ), "", merged, sources)
    try:
        settings = msgspec.convert({"environment": environment, **merged}, Settings)
    except msgspec.ValidationError as error:
        # Every given value has been checked by now. What is left is a key nobody gave: missing `host` - at `$.server`.
        missing = ".".join(reversed(re.findall(r"[a-z_]+(?=`)", str(error))))
        raise SettingsError(f"{file}: {missing} is missing, there and in base.toml") from None
    for key, url in msgspec.structs.asdict(settings.database).items():
        # Not shown: it may hold a password.
        if key.endswith("url") and url and not url.startswith(("postgresql://", "postgres://")):
            raise SettingsError(f"{sources['database', key]}: it is no postgresql:// URL")
        if key.endswith("url") and not _readable(url):
            why = "it can't be read; is the password in it percent-encoded, and the port a number?"
            raise SettingsError(f"{sources['database', key]}: {why}")
    if environment == "production":
        _refuse_unsafe(settings, sources, str(file))
    return settings


def _readable(url: str) -> bool:
    """Whether the driver can make out the hosts: for it the account ends at the first "@"."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return False
    hosts = place.partition("@")[2] if "@" in place else place
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    return "@" not in hosts and all(not port or port.isdecimal() for port in ports)


def _from_file(path: Path) -> Iterator[tuple[str, str, Any, str]]:
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    for section, values in content.items():
        if not isinstance(values, dict) or not _fields(_fields(Settings).get(section)):
            raise SettingsError(f"{path}: unknown key {section!r}")
        for key, value in values.items():
            yield section, key, value, f"{path}: {section}.{key}"


def _from_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Any, str]]:
    """`<name>_FILE` names a file with the value, such as a mounted secret, unless a key has that very name."""
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in CHOOSERS:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        known, named = _fields(_fields(Settings).get(section)), key.removesuffix(FROM_FILE.lower())
        if key in known or named not in known:
            yield section, key, environ[name], name
            continue
        if (other := name.removesuffix(FROM_FILE)) in environ:
            raise SettingsError(f"{name}: {other} is set as well; only one of them can be")
        yield section, named, _content(name, Path(environ[name])), name


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: {path} can't be read: {getattr(error, 'strerror', None) or error}") from None


def _merge(
    values: Iterator[tuple[str, str, Any, str]],
    file: str,
    merged: dict[str, dict[str, Any]],
    sources: dict[tuple[str, str], str],
) -> None:
    for section, key, value, source in values:
        field = _fields(_fields(Settings).get(section)).get(key)
        if field is None:
            raise SettingsError(f"{source}: unknown key")
        try:
            # A variable is text whatever its type; a file's values have types of their own.
            merged.setdefault(section, {})[key] = msgspec.convert(value, field, strict=bool(file))
        except msgspec.ValidationError as error:
            # What a file holds may be secret, even where it was named by mistake.
            shown = "" if source.endswith(FROM_FILE) else f", not {value!r}"
            raise SettingsError(f"{source}: {_expected(field, error)}{shown}") from None
        sources[section, key] = source


def _expected(field: Any, error: msgspec.ValidationError) -> str:
    if get_origin(field) is Literal:
        return f"Expected {' or '.join(get_args(field))}"
    # Whatever a variable holds is text, and leaving a key out is how it has no value.
    return str(error).replace(", got `str`", "").replace(" | null", "")


def _fields(struct: Any) -> dict[str, Any]:
    if not (isinstance(struct, type) and issubclass(struct, Struct)):
        return {}
    return {field.encode_name: field.type for field in msgspec.structs.fields(struct)}


def _refuse_unsafe(settings: Settings, sources: Mapping[tuple[str, str], str], file: str) -> None:
    """What development may do and production must not. Which secrets a process needs depends on its target: app.py."""

    def refuse(section: str, key: str, why: str) -> None:
        raise SettingsError(f"{sources.get((section, key), f'{file}: {section}.{key}')}: {why}")

    if settings.logs.level == "DEBUG":
        refuse("logs", "level", "production doesn't log at DEBUG")
    for origin in split(settings.server.cors_origins):
        if not ORIGIN.fullmatch(origin):
            why = f"production names each site that may call, such as https://app.example, and not {origin!r}"
            refuse("server", "cors_origins", why)
    if settings.mail.host and settings.mail.tls == "off":
        refuse("mail", "tls", "production sends no mail in the clear: invitations are in it")
    for key, least in (("memory_kib", 19456), ("iterations", 2)):
        if getattr(settings.passwords, key) < least:
            refuse("passwords", key, f"production needs {least} or more, as OWASP does")
