"""The gateway's request: who sends it, and the headers that set conditions. They are parsed when they are used."""

from typing import Annotated, Any, TypeVar

from litestar import Request
from litestar.params import PathParameter
from msgspec import Struct

from eventboard.core.contract import IdempotencyKey
from eventboard.core.errors import Code, ServiceError
from eventboard.gateway.client_address import Origin
from eventboard.gateway.request_headers import header_values, idempotency_key, if_match, if_none_match
from eventboard.gateway.request_parameters import parse_query, reject_query
from eventboard.identity.access_tokens import Principal
from eventboard.modules.events.contract import IfMatch

Filters = TypeVar("Filters", bound=Struct)

# A handler's argument. A string: what is no UUID is `not-found`, after all other errors of the request.
IdInPath = Annotated[str, PathParameter(name="id")]

JSON = "application/json"
PATCH_MEDIA_TYPES = (JSON, "application/merge-patch+json")


class GatewayRequest(Request[Principal, str, Any]):
    """`user` is the caller, and `auth` the access token, once AuthenticationMiddleware has verified it."""

    def filters(self, type_: type[Filters]) -> Filters:
        """The query parameters. Raises `invalid-request`. Such a handler has `takes_query=True` in its route."""
        return parse_query(self, type_)

    @property
    def origin(self) -> Origin:
        """The client's address."""
        origin: Origin = self.app.state.address_of.origin(self)
        return origin

    @property
    def idempotency_key(self) -> IdempotencyKey | None:
        """Raises `invalid-idempotency-key`. A handler that reads it has `takes_key=True` in its route."""
        return idempotency_key(self)

    @property
    def if_match(self) -> IfMatch | None:
        """Raises `invalid-request`."""
        return if_match(self)

    @property
    def if_none_match(self) -> frozenset[str]:
        """Raises `invalid-request`."""
        return if_none_match(self)

    async def body(self) -> bytes:
        """Raises `unsupported-media-type`, and `invalid-request` if the body is empty and the handler has no default.

        Litestar doesn't call a DTO for an empty body.
        """
        raw = await super().body()
        data = self.route_handler.parsed_fn_signature.parameters.get("data")
        if data is not None and (raw or not data.has_default):
            self._check_media_type()
            if not raw:
                raise ServiceError(Code.INVALID_REQUEST, "The body is empty. Send a JSON object.")
        return raw

    def _check_media_type(self) -> None:
        accepted = PATCH_MEDIA_TYPES if self.method == "PATCH" else (JSON,)
        media_type = "".join(header_values(self, b"content-type")[:1]).partition(";")[0].strip().lower()
        if media_type not in accepted:
            header = f"Content-Type: {' or '.join(accepted)}"
            raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, f"Send a JSON body with the header {header}.")
        if any(coding.lower() != "identity" for coding in header_values(self, b"content-encoding")):
            detail = "Send the body without Content-Encoding: compressed bodies are not accepted."
            raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, detail)


async def reject_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A `before_request` hook, for routes without `takes_query=True`."""
    if not request.route_handler.opt.get("takes_query"):
        reject_query(request)
