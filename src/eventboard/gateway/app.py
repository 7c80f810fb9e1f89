"""The gateway's controllers and middleware, and what authentication needs."""

from collections.abc import Sequence
from functools import partial

from litestar.datastructures import State
from litestar.types import ControllerRouterHandler

from eventboard.core.asgi import Middleware
from eventboard.core.ip import Network
from eventboard.gateway.authentication import Authentication
from eventboard.gateway.client_address import ClientAddress, ClientAddressMiddleware
from eventboard.gateway.controllers.accounts import AccountController, KeysController, PublicAccountsController
from eventboard.gateway.controllers.base import with_services
from eventboard.gateway.controllers.events import EventsController
from eventboard.gateway.controllers.members import InvitationsController, MembersController, OrganizationController
from eventboard.gateway.controllers.pages import PagesController
from eventboard.gateway.controllers.records import RecordsController
from eventboard.gateway.controllers.sessions import SessionsController
from eventboard.gateway.cors import CORSMiddleware, cors_config
from eventboard.gateway.explorers import StaticFilesController
from eventboard.gateway.path_prefix import PathPrefixMiddleware
from eventboard.gateway.security_headers import security_headers
from eventboard.modules.auth.contract import Auth
from eventboard.modules.events.contract import Events
from eventboard.observability.metrics import Metrics
from eventboard.settings import Server
from eventboard.settings.safety import split
from eventboard.web.error_responses import encode_problem
from eventboard.web.load_shedding import request_limits
from eventboard.web.request_context import RequestContextMiddleware
from eventboard.web.request_heads import RequestHeadMiddleware
from eventboard.web.serving_state import ServingState


def gateway_controllers(auth: Auth, events: Events) -> list[ControllerRouterHandler]:
    auth_controllers = (
        PublicAccountsController,
        KeysController,
        AccountController,
        SessionsController,
        MembersController,
        InvitationsController,
        OrganizationController,
    )
    events_controllers = (EventsController, RecordsController)
    return [
        PagesController,
        StaticFilesController,
        *(with_services(controller, auth=auth) for controller in auth_controllers),
        *(with_services(controller, events=events) for controller in events_controllers),
    ]


def gateway_state(authentication: Authentication, address_of: ClientAddress) -> State:
    """The authentication middleware and requests read it from `app.state`."""
    return State({"authentication": authentication, "address_of": address_of})


def gateway_middleware(
    settings: Server,
    serving: ServingState,
    metrics: Metrics,
    *,
    prefix: str,
    problem_base: str,
    trusted_proxies: Sequence[Network],
) -> list[Middleware]:
    """What clients' requests pass, from the outside to the inside."""
    headers = security_headers(hsts=settings.hsts == "on")
    origins = split(settings.cors_origins)
    cors = partial(CORSMiddleware, config=cors_config(origins), encode_error=encode_problem)
    address_of = ClientAddress(trusted_proxies).single_client
    return [
        partial(PathPrefixMiddleware, default=prefix, trusted=trusted_proxies),
        partial(RequestContextMiddleware, serving=serving, headers=headers, metrics=metrics, problem_base=problem_base),
        *([cors] if origins else []),
        partial(RequestHeadMiddleware, encode_error=encode_problem),
        partial(ClientAddressMiddleware, trusted=trusted_proxies),
        *request_limits(settings, serving, encode_problem, metrics, address_of=address_of),
    ]
