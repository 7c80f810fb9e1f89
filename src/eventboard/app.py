"""The composition root: a target chooses which modules run here and which are reached over HTTP, and nothing else."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from ssl import create_default_context
from typing import Any, Protocol, TypeVar

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from msgspec.structs import asdict, replace

from eventboard.adapters.addresses import origins_of
from eventboard.adapters.client import Transport, client
from eventboard.adapters.http import HttpTransport
from eventboard.adapters.local import LocalTransport
from eventboard.adapters.resilience import BreakerPolicy, RetryPolicy
from eventboard.adapters.server import RpcServer, mount, refuse_as_failure
from eventboard.gateway.addresses import ClientAddress, networks
from eventboard.gateway.app import gateway_routes
from eventboard.gateway.edges import cors, public_headers
from eventboard.gateway.limits import UserLimit
from eventboard.levels import needed
from eventboard.modules.auth.contract import Auth, GetKeys, ValidateUser
from eventboard.modules.auth.counters import Counters, DatabaseCounters
from eventboard.modules.auth.keys import KeyRing
from eventboard.modules.auth.limits import Limit, Limits, Rules
from eventboard.modules.auth.mail import Mail, NoMail, PrintedMail
from eventboard.modules.auth.part import Lifetimes
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.auth.service import AuthService
from eventboard.modules.auth.smtp import SmtpMail, SmtpServer
from eventboard.modules.auth.sweeps import SWEEPS
from eventboard.modules.auth.tokens import TokenIssuer
from eventboard.modules.events.contract import Events
from eventboard.modules.events.service import EventsService
from eventboard.modules.events.sweeps import EXPIRED_KEYS
from eventboard.platform import context
from eventboard.platform.admin import Admin, Page, beside
from eventboard.platform.asgi import App
from eventboard.platform.database import Database, level_check
from eventboard.platform.group import Place
from eventboard.platform.health import Check, Checks, Peer, State, health_pages, health_routes
from eventboard.platform.identity import Principal, PublicKeys, TokenVerifier
from eventboard.platform.logs import Log
from eventboard.platform.metrics import Metrics, metrics_page
from eventboard.platform.process import ProcessWatch
from eventboard.platform.shortcut import Shortcut
from eventboard.platform.standing import Standing, StandingVerifier
from eventboard.platform.sweeper import Sweep, Sweeper
from eventboard.platform.traces import trace_pages
from eventboard.platform.tracing import GATEWAY, Recorder, service
from eventboard.platform.web import EXCEPTION_HANDLERS, Front, Gate, refuse_as_problem, with_options
from eventboard.settings import ADMIN_ABOVE, PORTS, Settings, SettingsError, split

Contract = TypeVar("Contract")

ALL = frozenset(PORTS)

# A shorter service credential could be guessed; 32 characters of base64 are 24 random bytes.
SHORTEST_CREDENTIAL = 32


class Resource(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Application(Struct, frozen=True):
    """`gate` is how the server tells it that the process is about to end.

    `admin` is for operators and tells of all workers, `own` of this one alone.
    """

    asgi: App
    gate: Gate
    admin: App
    own: App


def target_of(text: str) -> frozenset[str]:
    """`all`, or parts joined by commas. Raises ValueError."""
    parts = ALL if text == "all" else frozenset(text.split(","))
    if unknown := parts - ALL:
        raise ValueError(f"{', '.join(sorted(unknown))!r} is none of all, {', '.join(PORTS)}")
    return parts


def port_of(settings: Settings, target: Iterable[str]) -> int:
    port = settings.server.port
    return next(PORTS[part] for part in PORTS if part in target) if port is None else port


def admin_port_of(settings: Settings, target: Iterable[str]) -> int:
    port, admin_port = port_of(settings, target), settings.server.admin_port
    # Where the port is any that is free, so is this.
    return (port and port + ADMIN_ABOVE) if admin_port is None else admin_port


def build(
    settings: Settings, target: frozenset[str] = ALL, *, place: Place | None = None, log: Log | None = None
) -> Application:
    """`place` is a worker's in its group; without a `log` no request has a line. Raises SettingsError, KeyFileError."""
    gate = Gate(settings.server.max_requests)
    metrics = Metrics(place)
    if log is not None:
        log.counted(metrics)
    parts = _Parts(settings, gate, metrics)
    tokens = settings.tokens

    async def fetch_keys() -> PublicKeys:
        # Asked in the middle of a request, which it isn't.
        with context.use(replace(context.current(), notes=context.Notes())):
            return await auth.keys(GetKeys())

    async def ask(caller: Principal) -> Standing:
        validity = await auth.validate_user(
            ValidateUser(user_id=caller.user_id, organization_id=caller.organization_id, session_id=caller.session_id)
        )
        return Standing(validity.role if validity.active else None)

    tokens_alone = TokenVerifier(fetch_keys, issuer=tokens.issuer, audience=tokens.audience)
    verify = StandingVerifier(tokens_alone, ask, metrics=metrics)
    services: dict[type[Any], object] = {}

    # The one table: a module runs here or is reached over HTTP.
    if "auth" in target:
        database = parts.database("auth")
        services[Auth] = AuthService(
            database,
            parts.passwords(),
            parts.issuer(),
            verify,
            parts.mail(),
            parts.lifetimes(),
            parts.limits(database),
        )
        parts.sweepers("auth", "eventboard_auth_sweeper", SWEEPS, every=tokens.sweep_every)
        auth = parts.local(Auth, services[Auth])
    else:
        auth = parts.remote(Auth, "auth")
    if "events" in target:
        services[Events] = EventsService(parts.database("events"), verify)
        every = settings.idempotency.sweep_every
        parts.sweepers("events", "eventboard_sweeper", [EXPIRED_KEYS], every=every)

    routes: list[HTTPRouteHandler] = []
    if "gateway" in target:
        events = parts.local(Events, services[Events]) if "events" in target else parts.remote(Events, "events")
        routes = gateway_routes(
            auth,
            events,
            verify,
            version=version("eventboard"),
            limit=parts.user_limit(auth),
            address_of=parts.client_address(),
        )

    # What faces the public serves no internal call.
    rpc = None if "gateway" in target else RpcServer(services, credential=parts.credential())
    own: dict[str, Check] = {**parts.checks, "keys": tokens_alone.load_keys, "serving": gate.check}
    checks = Checks(own, parts.peers, [parts.states, rpc.states() if rpc else {}], version("eventboard"))
    development = settings.environment == "development"
    parts.watch_process(target)
    # What operators are told beside health. In development the main port tells it, too.
    recorder = parts.recorder(target)
    pages: dict[str, Page] = {"/metrics": metrics_page(metrics), **(trace_pages(recorder) if recorder else {})}
    told = {**pages, **health_pages(checks)}
    admin = Admin(told, None if place is None else place.ask)
    litestar = Litestar(
        with_options([*routes, *health_routes(checks, detailed=development)]),
        lifespan=[parts.lifespan],
        openapi_config=None,
        exception_handlers=EXCEPTION_HANDLERS,
        cors_config=cors(split(settings.server.cors_origins)) if routes else None,
        request_max_body_size=settings.server.max_body,
        logging_config=None,
    )
    app: App = Shortcut(litestar)
    if development:
        app = beside(app, admin, tuple(pages))
    if rpc is None:
        headers = public_headers(hsts=settings.server.hsts == "on")
        front = Front(app, gate, refuse_as_problem, headers, metrics, recorder, log, timed=True)
    else:
        front = Front(mount(app, rpc), gate, refuse_as_failure, {}, metrics, recorder, log)
    return Application(front, gate, admin, Admin(told))


class _Parts:
    """Makes the parts that the table asks for; they are opened when the application starts, and closed in turn."""

    def __init__(self, settings: Settings, gate: Gate, metrics: Metrics) -> None:
        self._settings = settings
        self._gate = gate
        self._metrics = metrics
        self._budgets = asdict(settings.budgets)
        self._resources: list[Resource] = []
        self._passwords: list[Passwords] = []
        self.checks: dict[str, Check] = {}
        self.states: dict[str, State] = {}
        self.peers: dict[str, Peer] = {}

    def watch_process(self, target: frozenset[str]) -> None:
        parts = ",".join(part for part in PORTS if part in target)
        self._resources.append(ProcessWatch(self._metrics, version=version("eventboard"), targets=parts))

    def database(self, module: str) -> Database:
        database = self._pool(module, f"eventboard_{module}", size=self._settings.database.pool_size)
        self._resources.append(database)
        self.checks[module] = level_check(database, module, needed(module))
        self.states[module] = lambda: {"pool": database.pool()}
        return database

    def _pool(self, module: str, role: str, *, size: int) -> Database:
        given = self._settings.database
        url, timeout = given.for_module(module), given.connect_timeout
        return Database(url, role=role, size=size, connect_timeout=timeout, metrics=self._metrics)

    def sweepers(self, module: str, role: str, sweeps: Sequence[Sweep], *, every: float) -> None:
        """On a connection of their own, of a role that can delete what is expired and nothing else."""
        database = self._pool(module, role, size=1)
        self._resources.append(database)
        for sweep in sweeps:
            self._resources.append(Sweeper(database, sweep, every=every, metrics=self._metrics))

    def recorder(self, target: Iterable[str]) -> Recorder | None:
        given, parts = self._settings.tracing, frozenset(target)
        if given.record == "off":
            return None
        name = GATEWAY if "gateway" in parts else service(min(parts))
        if not given.endpoint:
            return Recorder(name, keep=given.keep)
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", given.endpoint):
            # Not shown: it may hold a password.
            raise SettingsError("EVENTBOARD_TRACING_ENDPOINT: it is no http:// or https:// URL")
        # Half a process's imports, for those who export.
        from eventboard.platform.otlp import OtlpExport

        export = OtlpExport(
            given.endpoint,
            service="-".join(["eventboard", *(part for part in PORTS if part in parts and parts != ALL)]),
            version=version("eventboard"),
            queue=given.queue,
            patience=self._gate.seconds_left,
        )
        # Opened first, so closed last: by then every request has ended.
        self._resources.insert(0, export)
        return Recorder(name, keep=given.keep, ratio=given.sample_ratio, export=export)

    def passwords(self) -> Passwords:
        self._passwords.append(Passwords(**asdict(self._settings.passwords), metrics=self._metrics))
        return self._passwords[-1]

    def issuer(self) -> TokenIssuer:
        given = self._settings.tokens
        if not given.key_file:
            raise SettingsError("EVENTBOARD_TOKENS_KEY_FILE: it is not set; auth signs with the key in that PEM file")
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
                patience=lambda: min(grace, self._gate.seconds_left()),
            )
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_MAIL_SENDER: {error}") from None
        self._resources.append(mail)
        return mail

    def lifetimes(self) -> Lifetimes:
        given = self._settings.tokens
        return Lifetimes(
            session=given.refresh_lifetime,
            longest_session=given.session_lifetime,
            invitation=given.invitation_lifetime,
        )

    def limits(self, database: Database) -> Limits:
        given = self._settings.limits

        def limit(name: str, window: int) -> Limit:
            return Limit(name.replace("_", "-"), getattr(given, name), window)

        rules = Rules(
            login_by_address=limit("login_by_address", given.window),
            login_failures=limit("login_failures", given.failure_window),
            login_failures_by_account=limit("login_failures_by_account", given.account_window),
            known_for=given.known_for,
            password_failures=Limit("password-failures", given.login_failures, given.failure_window),
            signup_by_address=limit("signup_by_address", given.window),
            signup_by_account=limit("signup_by_account", given.account_window),
            refresh_by_address=limit("refresh_by_address", given.window),
            refresh_by_account=limit("refresh_by_account", given.window),
        )
        return Limits(self._counters(database), rules, self._metrics)

    def _counters(self, database: Database) -> Counters:
        url = self._settings.limits.store_url
        if not url:
            in_database = DatabaseCounters(database)
            self._resources.append(in_database)
            return in_database
        from eventboard.modules.auth.redis_counters import SCHEMES, RedisCounters

        if url.partition("://")[0] not in SCHEMES:
            # The URL isn't shown: it may hold a password.
            raise SettingsError(f"EVENTBOARD_LIMITS_STORE_URL: its scheme is none of {', '.join(SCHEMES)}")
        in_redis = RedisCounters(url)
        self._resources.append(in_redis)
        return in_redis

    def user_limit(self, auth: Auth) -> UserLimit | None:
        given = self._settings.limits
        if given.requests == 0:
            return None
        return UserLimit(auth.lease, most=given.requests, window=given.window, block=given.block, metrics=self._metrics)

    def client_address(self) -> ClientAddress:
        given = self._settings.server
        try:
            trusted = networks(given.trusted_proxies)
        except ValueError as error:
            raise SettingsError(f"EVENTBOARD_SERVER_TRUSTED_PROXIES: {error}") from None
        return ClientAddress(trusted, given.forwarded_header)

    def local(self, contract: type[Contract], service: object) -> Contract:
        return self._client(contract, LocalTransport(service))

    def remote(self, contract: type[Contract], module: str) -> Contract:
        setting = f"EVENTBOARD_PEERS_{module.upper()}"
        try:
            origins = origins_of(getattr(self._settings.peers, module))
        except ValueError as error:
            raise SettingsError(f"{setting}: {error}") from None
        if not origins:
            raise SettingsError(f"{setting}: it is not set; where is the {module} service?")
        transport = HttpTransport(
            module,
            contract,
            origins,
            credential=self.credential(),
            connect_timeout=self._settings.rpc.connect_timeout,
            retries=RetryPolicy(**asdict(self._settings.retries)),
            breaker=BreakerPolicy(**asdict(self._settings.breaker)),
            metrics=self._metrics,
        )
        self._resources.append(transport)
        self.peers[module] = Peer(transport.check, transport.state)
        return self._client(contract, transport)

    def credential(self) -> str:
        credential = self._settings.rpc.credential
        if not credential:
            raise SettingsError("EVENTBOARD_RPC_CREDENTIAL: it is not set; the services know each other by it")
        if self._settings.environment == "production" and len(credential) < SHORTEST_CREDENTIAL:
            raise SettingsError(f"EVENTBOARD_RPC_CREDENTIAL: production needs {SHORTEST_CREDENTIAL} characters or more")
        if not credential.isascii() or not credential.isprintable() or credential != credential.strip():
            # It goes into a header as it is.
            raise SettingsError(
                "EVENTBOARD_RPC_CREDENTIAL: only letters, digits and signs of ASCII can cross in a header"
            )
        return credential

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for passwords in self._passwords:
                stack.callback(passwords.close)
            for resource in self._resources:
                await resource.open()
                stack.push_async_callback(resource.close)
            yield

    def _client(self, contract: type[Contract], transport: Transport) -> Contract:
        return client(contract, transport, self._budgets, self._metrics)
