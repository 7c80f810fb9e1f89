"""The composition root: a target chooses which modules run here and which are reached over HTTP, and nothing else."""

from functools import partial
from importlib.metadata import version
from typing import Any, cast

from litestar import Litestar
from litestar.exceptions import NotFoundException
from litestar.types import ControllerRouterHandler
from msgspec.structs import asdict, replace
from prometheus_client import make_asgi_app

from eventboard.composition import Composition
from eventboard.core import request_context
from eventboard.core.asgi import App, Middleware
from eventboard.core.periodic import PeriodicTask
from eventboard.gateway.app import gateway_controllers, gateway_middleware, gateway_state
from eventboard.gateway.authentication import Authentication
from eventboard.gateway.client_address import ClientAddress
from eventboard.gateway.concurrency_limit import ConcurrencyLimit
from eventboard.gateway.controllers.pages import page_or_problem
from eventboard.gateway.explorers import explorer_router, explorers
from eventboard.gateway.openapi.document import openapi_config
from eventboard.gateway.request import GatewayRequest
from eventboard.identity.access_tokens import Principal, PublicKeys, TokenVerifier
from eventboard.identity.session_check import SessionCheck, SessionStatus
from eventboard.modules.auth.contract import Auth, GetKeys, ValidateUser
from eventboard.modules.auth.service import AuthService
from eventboard.modules.auth.sweeps import SWEEPS
from eventboard.modules.events.contract import Events
from eventboard.modules.events.repository import SEARCH_TRIAL
from eventboard.modules.events.service import EventsService
from eventboard.modules.events.sweeps import EXPIRED_KEYS
from eventboard.observability.logging import QueuedSink
from eventboard.observability.metrics import Metrics
from eventboard.observability.trace_provider import Tracing
from eventboard.rpc.server import LARGEST, RpcServer, encode_failure, mount
from eventboard.settings import Server, Settings
from eventboard.settings.targets import ALL
from eventboard.web.admin import Admin, AdminPathsMiddleware, trace_page
from eventboard.web.exception_handlers import EXCEPTION_HANDLERS
from eventboard.web.head_and_options import HeadAndOptionsMiddleware
from eventboard.web.health import Check, HealthChecks, health_pages, health_routes
from eventboard.web.load_shedding import request_limits
from eventboard.web.request_context import RequestContextMiddleware
from eventboard.web.request_heads import RequestHeadMiddleware
from eventboard.web.server import Application
from eventboard.web.serving_state import ServingState


def build(
    settings: Settings, target: frozenset[str] = ALL, *, log: QueuedSink | None = None, tracing: Tracing | None = None
) -> Application:
    """`log` has its dropped lines counted. Raises SettingsError, KeyFileError."""
    serving = ServingState(settings.server.max_requests)
    metrics = Metrics()
    if log is not None:
        log.on_drop = metrics.log_lines_dropped.inc
    parts = Composition(settings, serving, metrics)
    if tracing is not None:
        # Opened first, so closed last: by then every request has ended.
        parts.resources.append(tracing)
    tokens = settings.tokens

    async def fetch_keys() -> PublicKeys:
        # Asked in the middle of a request, which it isn't.
        with request_context.use(replace(request_context.current(), log_fields=request_context.RequestLogFields())):
            return await auth.keys(GetKeys())

    async def ask(caller: Principal) -> SessionStatus:
        validity = await auth.validate_user(
            ValidateUser(user_id=caller.user_id, organization_id=caller.organization_id, session_id=caller.session_id)
        )
        return SessionStatus(validity.role if validity.active else None)

    tokens_alone = TokenVerifier(fetch_keys, issuer=tokens.issuer, audience=tokens.audience)
    verify = SessionCheck(tokens_alone, ask, metrics=metrics)
    services: dict[type[Any], object] = {}

    # The one table: a module runs here or is reached over HTTP.
    if "auth" in target:
        database = parts.database("auth")
        services[Auth] = AuthService(
            database,
            parts.sessions("auth"),
            parts.passwords(),
            parts.issuer(),
            verify,
            parts.mail(),
            parts.lifetimes(),
            parts.limits(database),
            parts.bounds(),
            address=parts.public_address(),
        )
        parts.sweepers(database, SWEEPS, every=tokens.sweep_every)
        auth = parts.local(Auth, services[Auth])
    else:
        auth = parts.remote(Auth, "auth")
    if "events" in target:
        events_database = parts.database("events", trial=SEARCH_TRIAL)
        services[Events] = EventsService(events_database, verify, parts.listing_limiter(), parts.quotas())
        parts.sweepers(events_database, [EXPIRED_KEYS], every=settings.idempotency.sweep_every)

    server, limits = settings.server, settings.limits
    routes: list[ControllerRouterHandler] = []
    state = None
    openapi = None
    if "gateway" in target:
        events = parts.local(Events, services[Events]) if "events" in target else parts.remote(Events, "events")
        routes = gateway_controllers(auth, events)
        authentication = Authentication(
            verify,
            parts.user_limit(auth),
            ConcurrencyLimit(limits.calls_by_user, limits.calls_by_organization, metrics),
            patience=min(asdict(settings.budgets).values()),
        )
        state = gateway_state(authentication, ClientAddress(parts.trusted_proxies()))
        openapi = openapi_config(version("eventboard"), explorers(), openapi_router=explorer_router())

    parts.resources.append(
        PeriodicTask(tokens_alone.refresh, every=tokens.keys_refresh, name="refreshing the public keys")
    )
    # What faces the public serves no internal call.
    rpc = None
    if "gateway" not in target:
        rpc = RpcServer(services, credential=parts.credential(), max_answer=settings.server.max_answer)
    own: dict[str, Check] = {**parts.checks, "keys": tokens_alone.load_keys, "serving": serving.check}
    checks = HealthChecks(own, parts.peers, [parts.states, rpc.states() if rpc else {}], version("eventboard"))
    development = settings.environment == "development"
    parts.describe_process(target)
    traces = {} if tracing is None else trace_page(tracing.recent)
    admin = Admin({**traces, **health_pages(checks)}, make_asgi_app(metrics.registry))
    litestar = Litestar(
        [*routes, *health_routes(checks, detailed=development)],
        lifespan=[parts.lifespan],
        state=state,
        request_class=GatewayRequest,
        openapi_config=openapi,
        exception_handlers={**EXCEPTION_HANDLERS, **({NotFoundException: page_or_problem} if routes else {})},
        request_max_body_size=server.max_body,
        logging_config=None,
    )
    # From the outside to the inside.
    middleware = (
        gateway_middleware(
            server,
            serving,
            metrics,
            prefix=parts.public_prefix(),
            problem_base=parts.problem_base(),
            trusted_proxies=parts.trusted_proxies(),
        )
        if rpc is None
        else _rpc_middleware(rpc, server, serving, metrics, name="-".join(sorted(target)))
    )
    if development:
        middleware.append(partial(AdminPathsMiddleware, admin=admin, paths=("/metrics", *traces)))
    middleware.append(partial(HeadAndOptionsMiddleware, routes=litestar.routes))
    app = cast("App", litestar)
    for each in reversed(middleware):
        app = each(app)
    return Application(app, serving, admin)


def _rpc_middleware(
    rpc: RpcServer, settings: Server, serving: ServingState, metrics: Metrics, *, name: str
) -> list[Middleware]:
    return [
        partial(RequestContextMiddleware, serving=serving, headers={}, metrics=metrics, name=name),
        partial(RequestHeadMiddleware, encode_error=encode_failure),
        *request_limits(settings, serving, encode_failure, metrics, max_body=LARGEST),
        partial(mount, rpc=rpc),
    ]
