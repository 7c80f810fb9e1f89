"""Settings: frozen structs, filled from config/base.toml, config/<environment>.toml and EVENTBOARD_* variables."""

import os
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from eventboard.settings.safety import risky_values, unsafe_values, wrong_values
from eventboard.settings.service_links import is_service_link
from eventboard.settings.sources import PREFIX, Sources, fields, section_and_key
from eventboard.settings.sources import SettingsError as SettingsError

# The parts of a target and their ports; a process with several has the port of the first.
PORTS = {"gateway": 3000, "auth": 3001, "events": 3002}
# How far the admin port is above the port, so that processes on one machine have different ones: 3900, 3901, 3902.
ADMIN_ABOVE = 900

# Bounded, since `inf` is a number too.
A_DAY = 86_400
Seconds = Annotated[float, Meta(gt=0, le=A_DAY)]
Wait = Annotated[float, Meta(ge=0, le=A_DAY)]
Text = Annotated[str, Meta(min_length=1)]
# A token with two of them has to stay below identity.access_tokens.LONGEST_TOKEN.
Claim = Annotated[str, Meta(min_length=1, max_length=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Bound = Annotated[int, Meta(ge=0)]
Environment = Literal["development", "production"]


class Server(Struct, frozen=True, kw_only=True):
    """`port` defaults to the target's, `admin_port` to 900 above the port.

    `body_timeout`, `grace` and `drain` are in seconds.

    `tls_certificate` and `tls_key` are PEM files; without them it speaks plain HTTP. With `tls_client_ca`, another PEM
    file, clients need a certificate signed by this CA.
    `public_url`: where people reach EventBoard, such as https://example.com/board: for the links in mails, and below
    which path the gateway is (/board alone is enough for that).
    `problem_base`: what problems' types begin with in place of that path, so that they are URLs.
    `cors_origins`: origins whose pages may call the API, separated by commas. `hsts` needs TLS.
    `trusted_proxies`: networks, separated by commas or blanks, whose X-Forwarded-For is trusted; `none` if there is no
    proxy.
    """

    host: Text
    port: Port | None = None
    admin_host: Text
    admin_port: Port | None = None
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    max_body: Count
    max_answer: Count
    max_anonymous_body: Count
    body_timeout: Seconds
    max_incoming: Count
    max_incoming_bytes: Count
    max_outgoing: Count
    max_outgoing_bytes: Count
    max_requests: Count
    public_url: str
    problem_base: str
    cors_origins: str
    hsts: Literal["on", "off"]
    trusted_proxies: str
    drain: Wait
    grace: Seconds


class LimitSettings(Struct, frozen=True, kw_only=True):
    """Counts within a window, or at once for `calls_…`; 0 is no limit. Windows and `known_for` are in seconds.

    `sessions` (live ones of a user) and `pending_invitations` (of an organization) are limits on what exists at once.

    `store_url` is a Redis or Valkey to count in, instead of PostgreSQL. `network_factor`: how many times the limit of
    one address an IPv6 /48 has.
    """

    store_url: str = ""
    window: Count
    account_window: Count
    failure_window: Count
    invitation_window: Count
    network_factor: Bound
    login_by_address: Bound
    login_by_account: Bound
    login_failures: Bound
    login_failures_by_account: Bound
    known_for: Count
    signup_by_address: Bound
    signup_by_account: Bound
    refresh_by_address: Bound
    refresh_by_account: Bound
    password_by_address: Bound
    password_by_account: Bound
    invitations_by_user: Bound
    invitations_by_organization: Bound
    invitations_by_recipient: Bound
    requests: Bound
    block: Count
    sessions: Bound
    pending_invitations: Bound
    calls_by_user: Bound
    calls_by_organization: Bound


class DatabaseSettings(Struct, frozen=True, kw_only=True):
    """`url` is for everything without a URL of its own."""

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
        """The variable that sets the URL of a module or of `migration`."""
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
    """`keys_refresh`, in seconds, is at most half of the time that a new key is published before it signs."""

    issuer: Claim
    audience: Claim
    lifetime: Count
    keys_refresh: Annotated[float, Meta(gt=0, le=60)]
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
    """Between processes, which authenticate with `credential`.

    `connect_timeout` and `keep_alive` are in seconds. The last three are PEM files, for peers at https:// URLs: the CA
    of their certificates (default: those that the machine trusts), and this process's client certificate and its key.
    """

    credential: str = ""
    connect_timeout: Seconds
    keep_alive: Seconds
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""


class Peers(Struct, frozen=True, kw_only=True):
    """URLs of the modules that don't run in this process, separated by commas."""

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


class ListingSettings(Struct, frozen=True, kw_only=True):
    """`statement`, `search_statement`, `patience`, `window` and both search times are in seconds.

    `share` and `share_by_organization` are of a pool's connections. A search time of 0 is no limit.
    """

    statement: Seconds
    search_statement: Seconds
    patience: Seconds
    share: Share
    share_by_organization: Share
    searches_by_user: Count
    window: Count
    search_time_by_user: Wait
    search_time_by_organization: Wait


class QuotaSettings(Struct, frozen=True, kw_only=True):
    """0 is no limit. The last two are within a day."""

    bytes_by_organization: Bound
    keys_by_user: Bound
    changes_by_event: Bound


class Idempotency(Struct, frozen=True, kw_only=True):
    sweep_every: Seconds


class Logs(Struct, frozen=True, kw_only=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    format: Literal["text", "json"]


class Tracing(Struct, frozen=True, kw_only=True):
    """`keep` is a number of traces. Everything else is set by OpenTelemetry's own variables."""

    keep: Annotated[int, Meta(ge=0)]


class Postgres(Struct, frozen=True, kw_only=True):
    """The embedded PostgreSQL of development and tests. With a `port` it listens on 127.0.0.1, too."""

    bin: str = ""
    data: Text = "var/postgres"
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None


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
    listing: ListingSettings
    quotas: QuotaSettings
    mail: MailSettings
    limits: LimitSettings
    logs: Logs
    tracing: Tracing
    postgres: Postgres = msgspec.field(default_factory=Postgres)


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """EVENTBOARD_CONFIG, or the folder in the wheel, or that of the checkout."""
    if chosen := environ.get("EVENTBOARD_CONFIG"):
        return Path(chosen)
    packed = Path(__file__).parents[1] / "_config"
    return packed if packed.is_dir() else Path(__file__).parents[3] / "config"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises SettingsError for an unknown key, a wrong type, a missing or an unsafe value."""
    environment = environ.get("EVENTBOARD_ENVIRONMENT", "development")
    if environment not in get_args(Environment):
        raise SettingsError(f"EVENTBOARD_ENVIRONMENT: {environment!r} must be {' or '.join(get_args(Environment))}")
    folder = config_folder(environ)
    sources = Sources(Settings)
    file = folder / f"{environment}.toml"
    sources.add_file(folder / "base.toml")
    sources.add_file(file)
    sources.add_environment(environ)
    try:
        settings = msgspec.convert({"environment": environment, **sources.values}, Settings)
    except msgspec.ValidationError as error:
        # Every value has been checked, so a key is missing: "missing `host` - at `$.server`".
        missing = ".".join(reversed(re.findall(r"[a-z_]+(?=`)", str(error))))
        raise SettingsError(f"{file}: {missing} is missing, here and in base.toml") from None
    for key, url in msgspec.structs.asdict(settings.database).items():
        # Not shown: it may hold a password.
        if key.endswith("url") and url and not url.startswith(("postgresql://", "postgres://")):
            raise SettingsError(f"{sources.names['database', key]}: must be a postgresql:// URL")
        if key.endswith("url") and not _readable(url):
            why = "can't be parsed; is the password percent-encoded, and the port a number?"
            raise SettingsError(f"{sources.names['database', key]}: {why}")
    values = msgspec.to_builtins(settings)
    for section, key, why in chain(wrong_values(values), unsafe_values(values) if environment == "production" else ()):
        raise SettingsError(f"{sources.names.get((section, key), f'{file}: {section}.{key}')}: {why}")
    return settings


def warnings(settings: Settings, *, gateway: bool, environ: Mapping[str, str] = os.environ) -> list[str]:
    """One line each; they don't prevent the start. `gateway`: whether clients reach this process."""
    found = risky_values(settings.environment, msgspec.to_builtins(settings), gateway=gateway)
    lines = [f"{PREFIX}{section.upper()}_{key.upper()}: {why}" for section, key, why in found]
    for name in sorted(environ):
        section, key = section_and_key(name)
        known = name.startswith(PREFIX) and key in fields(fields(Settings).get(section))
        if known and is_service_link(name, environ):
            why = f"ignored: {environ[name]} is a link to a Service, set by Kubernetes, and hides the setting"
            lines.append(f"{name}: {why}; set `enableServiceLinks: false` in the pod")
    return lines


def _readable(url: str) -> bool:
    """Whether the driver can parse the hosts: it takes the first "@" for the end of the account."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return False
    hosts = place.partition("@")[2] if "@" in place else place
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    return "@" not in hosts and all(not port or port.isdecimal() for port in ports)
