"""The base class of controllers whose callers need an access token."""

from typing import TypeVar

from litestar import Controller

from eventboard.gateway.authentication import AuthenticationMiddleware
from eventboard.gateway.request import reject_unknown_parameters

AnyController = TypeVar("AnyController", bound=Controller)


class AuthenticatedController(Controller):
    """Requires an access token. Unknown query parameters are an error."""

    middleware = (AuthenticationMiddleware,)
    before_request = staticmethod(reject_unknown_parameters)
    return_dto = None


def with_services(controller: type[AnyController], **services: object) -> type[AnyController]:
    """A subclass that has the services as attributes.

    Litestar makes the controllers itself, and would look up dependencies again for every request.
    """
    return type(controller.__name__, (controller,), services)
