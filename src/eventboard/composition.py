"""Makes the parts that `app.py` asks for from the settings; a wrong or missing setting is a SettingsError."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Protocol, TypeVar

from litestar import Litestar
from msgspec.structs import asdict

from eventboard.core.ip import Network
from eventboard.db.database import Database, Statement
from eventboard.db.revisions import needed
from eventboard.db.schema_check import schema_check
from eventboard.db.session import SessionFactory
from eventboard.db.sweeper import Sweep, Sweeper, statement_timeout
from eventboard.gateway.client_address import networks
from eventboard.gateway.path_prefix import prefix_of
from eventboard.gateway.rate_limit import UserLimit
from eventboard.modules.auth.contract import Auth
from eventboard.modules.auth.counters import Counters, DatabaseCounters
from eventboard.modules.auth.key_permissions import check_permissions
from eventboard.modules.auth.keys import KeyRing
from eventboard.modules.auth.limits import Limits, rules_of
from eventboard.modules.auth.mail import Mail, NoMail, PrintedMail
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.auth.session_issuer import Bounds, Lifetimes
from eventboard.modules.auth.smtp import SmtpMail, SmtpServer
from eventboard.modules.auth.tokens import TokenIssuer
from eventboard.modules.events.listing_limiter import ListingLimiter, limits_for
from eventboard.modules.events.quotas import QuotaLimits, Quotas
from eventboard.observability.metrics import Metrics
from eventboard.rpc.breaker import BreakerPolicy
from eventboard.rpc.client import Transport, client
from eventboard.rpc.local import LocalTransport
from eventboard.rpc.replicas import parse_origins
from eventboard.rpc.retries import RetryPolicy
from eventboard.settings import PORTS, Settings, SettingsError
from eventboard.settings.safety import NO_PROXY, guessable
from eventboard.web.event_loop import EventLoopLag
from eventboard.web.health import Check, Peer, State
from eventboard.web.serving_state import ServingState

Contract = TypeVar("Contract")

# A shorter service credential could be guessed; 32 characters of base64 are 24 random bytes.
SHORTEST_CREDENTIAL = 32


class Resource(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Composition:
    """Makes the parts, and opens them when the application starts; closes them in reverse order."""

    def __init__(self, settings: Settings, serving: ServingState, metrics: Metrics) -> None:
        self._settings = settings
        self._serving = serving
        self._metrics = metrics
        self._budgets = asdict(settings.budgets)
        self.resources: list[Resource] = []
        self._passwords: list[Passwords] = []
        self.checks: dict[str, Check] = {}
        self.states: dict[str, State] = {}
        self.peers: dict[str, Peer] = {}

    def describe_process(self, target: frozenset[str]) -> None:
        parts = ",".join(part for part in PORTS if part in target)
        self._metrics.info.info({"version": version("eventboard"), "target": parts})
        self.resources.append(EventLoopLag(self._metrics.event_loop_lag))

    def database(self, module: str, *, trial: Statement | None = None) -> Database:
        given = self._settings.database
        database = Database(
            given.for_module(module),
            role=f"eventboard_{module}",
            size=given.pool_size,
            connect_timeout=given.connect_timeout,
            statement_timeout=self._statement_timeout(),
            metrics=self._metrics,
            warn_of_privileges=self._settings.environment == "production",
        )
        self.resources.append(database)
        self.checks[module] = schema_check(database, module, needed(module), trial=trial)
        self.states[module] = lambda: {"pool": database.pool()}
        return database

    def sessions(self, module: str) -> SessionFactory:
        given = self._settings.database
        sessions = SessionFactory(
            given.for_module(module),
            role=f"eventboard_{module}",
            connect_timeout=given.connect_timeout,
            statement_timeout=self._statement_timeout(),
            metrics=self._metrics,
        )
        self.resources.append(sessions)
        return sessions

    def _statement_timeout(self) -> float:
        return statement_timeout(self._budgets.values())

    def listing_limiter(self) -> ListingLimiter:
        given = asdict(self._settings.listing)
        return ListingLimiter(limits_for(self._settings.database.pool_size, **given), self._metrics)

    def quotas(self) -> Quotas:
        return Quotas(QuotaLimits(**asdict(self._settings.quotas)), self._metrics)

    def sweepers(self, database: Database, sweeps: Sequence[Sweep], *, every: float) -> None:
        for sweep in sweeps:
            self.resources.append(Sweeper(database, sweep, every=every, metrics=self._metrics))

    def passwords(self) -> Passwords:
        self._passwords.append(Passwords(**asdict(self._settings.passwords), metrics=self._metrics))
        return self._passwords[-1]

    def issuer(self) -> TokenIssuer:
        given = self._settings.tokens
        if not given.key_file:
            raise SettingsError(
                "EVENTBOARD_TOKENS_KEY_FILE: not set; it names the PEM file of the key that signs access tokens"
            )
        if self._settings.environment == "production":
            check_permissions(Path(given.key_file))
        keys = KeyRing(Path(given.key_file), create=self._settings.environment == "development")
        return TokenIssuer(keys, issuer=given.issuer, audience=given.audience, lifetime=given.lifetime)

    def mail(self) -> Mail:
        given = self._settings.mail
        if not given.host:
            return PrintedMail() if self._settings.environment == "development" else NoMail()
        known = asdict(given)
        sender, queue = known.pop("sender"), known.pop("queue")
        grace = self._settings.server.grace
        try:
            mail = SmtpMail(
                SmtpServer(**known),
                sender=sender,
                queue=queue,
                tls=create_default_context(),
                patience=lambda: min(grace, self._serving.seconds_left()),
            )
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_MAIL_SENDER: {error}") from None
        self.resources.append(mail)
        return mail

    def lifetimes(self) -> Lifetimes:
        given = self._settings.tokens
        return Lifetimes(
            session=given.refresh_lifetime,
            longest_session=given.session_lifetime,
            invitation=given.invitation_lifetime,
        )

    def bounds(self) -> Bounds:
        given = self._settings.limits
        return Bounds(sessions=given.sessions, pending_invitations=given.pending_invitations)

    def limits(self, database: Database) -> Limits:
        return Limits(self._counters(database), rules_of(asdict(self._settings.limits)), self._metrics)

    def _counters(self, database: Database) -> Counters:
        url = self._settings.limits.store_url
        if not url:
            in_database = DatabaseCounters(database)
            self.resources.append(in_database)
            return in_database
        from eventboard.modules.auth.redis_counters import SCHEMES, RedisCounters

        if url.partition("://")[0] not in SCHEMES:
            # The URL isn't shown: it may hold a password.
            raise SettingsError(f"EVENTBOARD_LIMITS_STORE_URL: the scheme must be one of {', '.join(SCHEMES)}")
        in_redis = RedisCounters(url)
        self.resources.append(in_redis)
        return in_redis

    def user_limit(self, auth: Auth) -> UserLimit | None:
        given = self._settings.limits
        if given.requests == 0:
            return None
        return UserLimit(auth.lease, most=given.requests, window=given.window, block=given.block, metrics=self._metrics)

    def trusted_proxies(self) -> tuple[Network, ...]:
        given = self._settings.server.trusted_proxies
        try:
            return networks("" if given == NO_PROXY else given)
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_SERVER_TRUSTED_PROXIES: {error}") from None

    def public_prefix(self) -> str:
        try:
            return prefix_of(self._settings.server.public_url)
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_SERVER_PUBLIC_URL: {error}") from None

    def public_address(self) -> str:
        """The URL, "" if only its path is known."""
        self.public_prefix()  # it checks the setting
        url = self._settings.server.public_url
        return url if "://" in url else ""

    def problem_base(self) -> str:
        base = self._settings.server.problem_base
        try:
            prefix_of(base)
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_SERVER_PROBLEM_BASE: {error}") from None
        return base.rstrip("/")

    def local(self, contract: type[Contract], service: object) -> Contract:
        return self._client(contract, LocalTransport(service, max_answer=self._settings.server.max_answer))

    def remote(self, contract: type[Contract], module: str) -> Contract:
        # Imported here: it takes 0.2 s and 7 MiB, and a process with all modules needs no HTTP client.
        from eventboard.rpc.http import HttpTransport

        setting = f"EVENTBOARD_PEERS_{module.upper()}"
        try:
            origins = parse_origins(getattr(self._settings.peers, module))
        except ValueError as error:
            raise SettingsError(f"{setting}: {error}") from None
        if not origins:
            raise SettingsError(f"{setting}: not set; it is the URL of the {module} service")
        transport = HttpTransport(
            module,
            contract,
            origins,
            credential=self.credential(),
            connect_timeout=self._settings.rpc.connect_timeout,
            keep_alive=self._settings.rpc.keep_alive,
            budgets=self._budgets,
            retries=RetryPolicy(**asdict(self._settings.retries)),
            breaker=BreakerPolicy(**asdict(self._settings.breaker)),
            max_answer=self._settings.server.max_answer,
            tls=self._client_tls() if any(origin.startswith("https:") for origin in origins) else None,
            metrics=self._metrics,
        )
        self.resources.append(transport)
        self.peers[module] = Peer(transport.check, transport.state)
        return self._client(contract, transport)

    def _client_tls(self) -> SSLContext:
        from eventboard.rpc.http_client import client_tls

        given = self._settings.rpc
        if bool(given.tls_certificate) != bool(given.tls_key):
            missing = "KEY" if given.tls_certificate else "CERTIFICATE"
            raise SettingsError(f"EVENTBOARD_RPC_TLS_{missing}: not set; a certificate and its key are needed together")
        try:
            return client_tls(given.tls_ca, given.tls_certificate, given.tls_key)
        except OSError as error:
            files = ", ".join(filter(None, (given.tls_ca, given.tls_certificate, given.tls_key)))
            raise SettingsError(f"EVENTBOARD_RPC_TLS_…: {files} can't be read as PEM files: {error}") from None

    def credential(self) -> str:
        credential = self._settings.rpc.credential
        if not credential:
            raise SettingsError("EVENTBOARD_RPC_CREDENTIAL: not set; the services authenticate to each other with it")
        if self._settings.environment == "production" and len(credential) < SHORTEST_CREDENTIAL:
            raise SettingsError(f"EVENTBOARD_RPC_CREDENTIAL: production needs {SHORTEST_CREDENTIAL} characters or more")
        if self._settings.environment == "production" and guessable(credential):
            raise SettingsError("EVENTBOARD_RPC_CREDENTIAL: it repeats itself; `openssl rand -hex 32` makes a good one")
        if not credential.isascii() or not credential.isprintable() or credential != credential.strip():
            # It is sent in a header as it is.
            raise SettingsError("EVENTBOARD_RPC_CREDENTIAL: must consist of printable ASCII characters")
        return credential

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for passwords in self._passwords:
                stack.callback(passwords.close)
            for resource in self.resources:
                await resource.open()
                stack.push_async_callback(resource.close)
            yield

    def _client(self, contract: type[Contract], transport: Transport) -> Contract:
        return client(contract, transport, self._budgets, self._metrics)
