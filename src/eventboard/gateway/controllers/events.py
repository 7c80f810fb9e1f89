"""Events, and the commands that submit, approve, reject, withdraw and cancel them."""

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest, IdInPath
from eventboard.gateway.request_body import StrictDTO
from eventboard.gateway.request_parameters import event_id
from eventboard.gateway.responses import deleted_response, event_or_not_modified, private_response, written_response
from eventboard.gateway.schemas import EMPTY, NO_REASON, Cancellation, EmptyObject, Rejection
from eventboard.modules.events.contract import (
    CreateEvent,
    Event,
    EventCommand,
    EventDraft,
    EventPage,
    EventPatch,
    EventQuery,
    Events,
    FindEvent,
    FindEvents,
    Reason,
    UpdateEvent,
)


class EventsController(AuthenticatedController):
    path = "/events"
    events: Events

    @post(
        operation_id="createEvent",
        dto=StrictDTO[EventDraft],
        takes_key=True,
    )
    async def create(self, request: GatewayRequest, data: JSONBody[EventDraft]) -> Response[Event]:
        command = CreateEvent(actor=request.auth, draft=data, idempotency_key=request.idempotency_key)
        return written_response(await self.events.create(command), created=True)

    @get(
        operation_id="listEvents",
        takes_query=True,
    )
    async def find_all(self, request: GatewayRequest) -> Response[EventPage]:
        query = FindEvents(actor=request.auth, query=request.filters(EventQuery))
        return private_response(await self.events.find_all(query))

    @get("/{id:str}", operation_id="getEvent")
    async def find_one(self, request: GatewayRequest, id_: IdInPath) -> Response[Event]:
        known = request.if_none_match
        event = await self.events.find_one(FindEvent(actor=request.auth, event_id=event_id(id_)))
        return event_or_not_modified(event, known)

    @patch(
        "/{id:str}",
        operation_id="updateEvent",
        dto=StrictDTO[EventPatch],
        takes_key=True,
    )
    async def update(self, request: GatewayRequest, id_: IdInPath, data: JSONBody[EventPatch]) -> Response[Event]:
        condition, key = request.if_match, request.idempotency_key
        command = UpdateEvent(
            actor=request.auth, event_id=event_id(id_), patch=data, if_match=condition, idempotency_key=key
        )
        return written_response(await self.events.update(command))

    @delete("/{id:str}", operation_id="deleteEvent", takes_key=True)
    async def remove(self, request: GatewayRequest, id_: IdInPath) -> Response[None]:
        """The body of a DELETE has no meaning (RFC 9110), so it isn't read."""
        return deleted_response(await self.events.delete(_command(request, id_)))

    @post(
        "/{id:str}/submit",
        status_code=HTTP_200_OK,
        operation_id="submitEvent",
        dto=StrictDTO[EmptyObject],
        takes_key=True,
    )
    async def submit(
        self, request: GatewayRequest, id_: IdInPath, data: JSONBody[EmptyObject] = EMPTY
    ) -> Response[Event]:
        return written_response(await self.events.submit(_command(request, id_)))

    @post(
        "/{id:str}/approve",
        status_code=HTTP_200_OK,
        operation_id="approveEvent",
        dto=StrictDTO[EmptyObject],
        takes_key=True,
    )
    async def approve(
        self, request: GatewayRequest, id_: IdInPath, data: JSONBody[EmptyObject] = EMPTY
    ) -> Response[Event]:
        return written_response(await self.events.approve(_command(request, id_)))

    @post(
        "/{id:str}/reject",
        status_code=HTTP_200_OK,
        operation_id="rejectEvent",
        dto=StrictDTO[Rejection],
        takes_key=True,
    )
    async def reject(self, request: GatewayRequest, id_: IdInPath, data: JSONBody[Rejection]) -> Response[Event]:
        return written_response(await self.events.reject(_command(request, id_, data.reason)))

    @post(
        "/{id:str}/withdraw",
        status_code=HTTP_200_OK,
        operation_id="withdrawEvent",
        dto=StrictDTO[EmptyObject],
        takes_key=True,
    )
    async def withdraw(
        self, request: GatewayRequest, id_: IdInPath, data: JSONBody[EmptyObject] = EMPTY
    ) -> Response[Event]:
        return written_response(await self.events.withdraw(_command(request, id_)))

    @post(
        "/{id:str}/cancel",
        status_code=HTTP_200_OK,
        operation_id="cancelEvent",
        dto=StrictDTO[Cancellation],
        takes_key=True,
    )
    async def cancel(
        self, request: GatewayRequest, id_: IdInPath, data: JSONBody[Cancellation] = NO_REASON
    ) -> Response[Event]:
        return written_response(await self.events.cancel(_command(request, id_, data.reason)))


def _command(request: GatewayRequest, id_: str, reason: Reason | None = None) -> EventCommand:
    condition, key = request.if_match, request.idempotency_key
    return EventCommand(
        actor=request.auth, event_id=event_id(id_), reason=reason, if_match=condition, idempotency_key=key
    )
