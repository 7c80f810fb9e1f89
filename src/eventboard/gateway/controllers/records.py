"""The history of events, and the status of idempotency keys."""

from litestar import Response, get

from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest, IdInPath
from eventboard.gateway.request_parameters import event_id, key_in_path
from eventboard.gateway.responses import key_outcome, private_response
from eventboard.gateway.schemas import IdempotencyKeyOutcome
from eventboard.modules.events.contract import Events, FindHistory, FindKey, History, HistoryQuery


class RecordsController(AuthenticatedController):
    events: Events

    @get(
        "/events/{id:str}/history",
        operation_id="getEventHistory",
        takes_query=True,
    )
    async def history(self, request: GatewayRequest, id_: IdInPath) -> Response[History]:
        query = FindHistory(query=request.filters(HistoryQuery), actor=request.auth, event_id=event_id(id_))
        return private_response(await self.events.history(query))

    @get(
        "/idempotency-keys/{key:path}",
        operation_id="getIdempotencyKey",
    )
    async def find_key(self, request: GatewayRequest) -> Response[IdempotencyKeyOutcome]:
        key = key_in_path(request)
        return private_response(key_outcome(key, await self.events.find_key(FindKey(actor=request.auth, key=key))))

    @get("/idempotency-keys", include_in_schema=False)
    async def find_key_of_slashes(self, request: GatewayRequest) -> Response[IdempotencyKeyOutcome]:
        """A key of slashes only: Litestar removes them from the path's end."""
        key = key_in_path(request)
        return private_response(key_outcome(key, await self.events.find_key(FindKey(actor=request.auth, key=key))))
