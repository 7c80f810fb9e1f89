"""The public face, put together."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect

from eventboard.gateway.addresses import ClientAddress
from eventboard.gateway.explorers import SWAGGER, explorer_routes
from eventboard.gateway.guards import guard
from eventboard.gateway.limits import UserLimit
from eventboard.gateway.openapi import openapi_route
from eventboard.gateway.pages import problem_pages
from eventboard.gateway.routes.auth import auth_routes
from eventboard.gateway.routes.events import event_routes
from eventboard.gateway.routes.members import member_routes
from eventboard.modules.auth.contract import Auth
from eventboard.modules.events.contract import Events
from eventboard.platform.identity import Verify


def gateway_routes(
    auth: Auth,
    events: Events,
    verify: Verify,
    *,
    version: str,
    limit: UserLimit | None,
    address_of: ClientAddress,
) -> list[HTTPRouteHandler]:
    """`limit` is on what a user may send; None is no limit."""
    authenticated = guard(verify, limit)

    @get("/", include_in_schema=False)
    async def home() -> Redirect:
        return Redirect(SWAGGER, status_code=307)

    return [
        home,
        *auth_routes(auth, authenticated, address_of),
        *member_routes(auth, authenticated),
        *event_routes(events, authenticated),
        *problem_pages(),
        openapi_route(version),
        *explorer_routes(),
    ]
