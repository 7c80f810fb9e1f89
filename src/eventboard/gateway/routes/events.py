"""Events. Each route checks in the documented order: 401, 400, then what the module decides."""

from collections.abc import Awaitable, Callable

from litestar import delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec import Struct

from eventboard.gateway import examples
from eventboard.gateway.guards import Authenticate
from eventboard.gateway.openapi import (
    CALL_PROBLEMS,
    ETAG,
    EVENT_ID,
    IF_MATCH,
    IF_NONE_MATCH,
    KEY_IN_PATH,
    LOCATION,
    UNKNOWN_PARAMETER,
)
from eventboard.gateway.replies import event_or_not_modified, json_reply, key_status, written_reply
from eventboard.gateway.requests import (
    JSON,
    MERGE_PATCH,
    AnyRequest,
    Nothing,
    body,
    event_id,
    idempotency_key,
    if_match,
    if_none_match,
    key_in_path,
    no_query,
    query,
)
from eventboard.modules.events.contract import (
    CreateEvent,
    EventCommand,
    EventDraft,
    EventPatch,
    EventQuery,
    Events,
    FindEvent,
    FindEvents,
    FindKey,
    Reason,
    Status,
    UpdateEvent,
    Written,
)
from eventboard.platform.errors import Code, FieldError, ServiceError, invalid
from eventboard.platform.openapi import Answer, Body, Operation, Query


class Rejection(Struct, frozen=True):
    reason: Reason


class Cancellation(Struct, frozen=True):
    reason: Reason | None = None


NOT_FOUND = ServiceError(Code.NOT_FOUND, "There is no such event.")
CHANGED = ServiceError(Code.VERSION_CHANGED, "The event is at version 2 now.")
BROKEN_RULE = ServiceError(
    Code.INVALID_REQUEST, "The event breaks a rule.", (FieldError("/endDate", "It must be after startDate."),)
)
NO_BODY = Body(example=Nothing(), required=False)
BAD_TAG = ServiceError(Code.INVALID_REQUEST, "If-Match is neither * nor a list of entity tags.")
RULES = (
    "Times have an offset, and `endDate` is after `startDate`; `timeZone` is a name of the IANA time zone database, "
    "UTC by default."
)


def _command(*, id: str, summary: str, description: str, wrong: Status, after: Status, body: Body) -> Operation:  # noqa: A002
    """A command on an event, which a caller may see and yet not give, and which not every state allows."""
    verb = summary.lower()
    return Operation(
        id=id,
        keyed=True,
        summary=f"{summary} an event",
        description=description,
        tag="Approval",
        path=(EVENT_ID,),
        headers=(IF_MATCH,),
        body=body,
        answers={
            200: Answer(
                description="The event as it is now.",
                example=examples.event_after(after),
                headers=(ETAG,),
                links=_COMMANDS[after],
            )
        },
        problems=(
            BAD_TAG,
            NOT_FOUND,
            ServiceError(Code.FORBIDDEN, f"You may not {verb} this event."),
            CHANGED,
            ServiceError(Code.WRONG_STATE, f"The event is {wrong}; you can't {verb} it."),
            *CALL_PROBLEMS,
        ),
    )


# What can be done next.
_COMMANDS = {
    Status.DRAFT: ("submitEvent",),
    Status.SUBMITTED: ("approveEvent", "rejectEvent", "withdrawEvent"),
    Status.APPROVED: ("cancelEvent",),
    Status.REJECTED: ("submitEvent",),
    Status.CANCELLED: (),
}


def event_routes(events: Events, authenticated: Authenticate) -> list[HTTPRouteHandler]:
    @post(
        "/events",
        operation=Operation(
            id="createEvent",
            keyed=True,
            summary="Draft an event",
            description=f"Any member may. The event is a DRAFT, which nobody but you and the moderators sees. {RULES}",
            tag="Events",
            body=Body(example=examples.DRAFT),
            answers={
                201: Answer(
                    description="The new event.",
                    example=examples.EVENT,
                    headers=(LOCATION, ETAG),
                    links=("getEvent", "updateEvent", "deleteEvent", "getEventHistory", *_COMMANDS[Status.DRAFT]),
                )
            },
            problems=(BROKEN_RULE, *CALL_PROBLEMS),
        ),
    )
    async def create(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        key, draft = idempotency_key(request), await body(request, EventDraft)
        command = CreateEvent(actor=actor, draft=draft, idempotency_key=key)
        return written_reply(await events.create(command), created=True)

    @get(
        "/events",
        operation=Operation(
            id="listEvents",
            summary="List events",
            description=(
                "Your own events and those that are APPROVED or CANCELLED; a MODERATOR and an ADMIN see all of the "
                "organization. `total` is exact up to 10,000, and so far pages reach; `nextCursor` reaches all, and "
                "shows each event that isn't changed meanwhile exactly once."
            ),
            tag="Events",
            query=Query(
                EventQuery,
                {
                    "page": "Which page, from 1. `page` times `limit` goes up to 10,000. Not together with `cursor`.",
                    "limit": "How many events a page has.",
                    "sortBy": "What they are ordered by; ties go by id.",
                    "sortOrder": "Ascending or descending.",
                    "status": "Only events in this state.",
                    "search": "Only events with this text in their title or description, in upper or lower case.",
                    "startDateFrom": "Only events that start then or later.",
                    "startDateTo": "Only events that start then or earlier.",
                    "cursor": "The `nextCursor` of a list with the same filters and order, to go on with it.",
                },
            ),
            answers={200: Answer(description="One page of the list.", example=examples.PAGE)},
            problems=(
                invalid("/limit", "Expected `int` <= 100."),
                ServiceError(Code.INVALID_CURSOR, "This is no cursor of this list."),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def find_all(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        return json_reply(await events.find_all(FindEvents(actor=actor, query=query(request, EventQuery))))

    @get(
        "/events/{id:str}",
        operation=Operation(
            id="getEvent",
            summary="Read an event",
            description="What you may not see is a 404, as if it didn't exist.",
            tag="Events",
            path=(EVENT_ID,),
            headers=(IF_NONE_MATCH,),
            answers={
                200: Answer(description="The event.", example=examples.EVENT, headers=(ETAG,)),
                304: Answer(description="It is still as `If-None-Match` says.", headers=(ETAG,)),
            },
            problems=(UNKNOWN_PARAMETER, NOT_FOUND, *CALL_PROBLEMS),
        ),
    )
    async def find_one(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        known = if_none_match(request)
        event = await events.find_one(FindEvent(actor=actor, event_id=event_id(request)))
        return event_or_not_modified(event, known)

    @patch(
        "/events/{id:str}",
        operation=Operation(
            id="updateEvent",
            keyed=True,
            summary="Edit an event",
            description=(
                "A merge patch (RFC 7396): what isn't there stays, and `null` clears an optional field. The author "
                "edits a DRAFT or a REJECTED event, a MODERATOR what others have SUBMITTED or is APPROVED, an ADMIN "
                f"everything. {RULES}"
            ),
            tag="Events",
            path=(EVENT_ID,),
            headers=(IF_MATCH,),
            body=Body(example=examples.PATCH, media_types=(JSON, MERGE_PATCH)),
            answers={200: Answer(description="The event as it is now.", example=examples.PATCHED, headers=(ETAG,))},
            problems=(
                BROKEN_RULE,
                NOT_FOUND,
                ServiceError(Code.FORBIDDEN, "You may not edit this event while it is APPROVED."),
                CHANGED,
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def update(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        changes, condition, key = await body(request, EventPatch), if_match(request), idempotency_key(request)
        command = UpdateEvent(
            actor=actor, event_id=event_id(request), patch=changes, if_match=condition, idempotency_key=key
        )
        return written_reply(await events.update(command))

    async def command(
        request: AnyRequest,
        run: Callable[[EventCommand], Awaitable[Written]],
        type_: type[Nothing | Rejection | Cancellation] | None = Nothing,
    ) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        said = await body(request, type_, optional=type_ is not Rejection) if type_ else Nothing()
        condition, key = if_match(request), idempotency_key(request)
        reason = None if isinstance(said, Nothing) else said.reason
        asked = EventCommand(
            actor=actor, event_id=event_id(request), reason=reason, if_match=condition, idempotency_key=key
        )
        return written_reply(await run(asked))

    # Litestar lets only handlers that return None state 204; the answer says it itself.
    @delete(
        "/events/{id:str}",
        status_code=200,
        operation=Operation(
            id="deleteEvent",
            keyed=True,
            summary="Delete an event",
            description="The author deletes a DRAFT, an ADMIN everything. The event's history stays.",
            tag="Events",
            path=(EVENT_ID,),
            headers=(IF_MATCH,),
            answers={204: Answer(description="It is gone.")},
            problems=(
                BAD_TAG,
                NOT_FOUND,
                ServiceError(Code.FORBIDDEN, "You may not delete this event while it is APPROVED."),
                CHANGED,
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def remove(request: AnyRequest) -> ASGIResponse:
        # A DELETE's body means nothing (RFC 9110), so it is not read.
        return await command(request, events.delete, None)

    @post(
        "/events/{id:str}/submit",
        status_code=200,
        operation=_command(
            id="submitEvent",
            summary="Submit",
            description="The author asks for approval of a DRAFT or a REJECTED event.",
            wrong=Status.SUBMITTED,
            after=Status.SUBMITTED,
            body=NO_BODY,
        ),
    )
    async def submit(request: AnyRequest) -> ASGIResponse:
        return await command(request, events.submit)

    @post(
        "/events/{id:str}/approve",
        status_code=200,
        operation=_command(
            id="approveEvent",
            summary="Approve",
            description="A MODERATOR or an ADMIN lets every member see a SUBMITTED event.",
            wrong=Status.DRAFT,
            after=Status.APPROVED,
            body=NO_BODY,
        ),
    )
    async def approve(request: AnyRequest) -> ASGIResponse:
        return await command(request, events.approve)

    @post(
        "/events/{id:str}/reject",
        status_code=200,
        operation=_command(
            id="rejectEvent",
            summary="Reject",
            description="A MODERATOR or an ADMIN sends a SUBMITTED event back to its author, with a reason.",
            wrong=Status.DRAFT,
            after=Status.REJECTED,
            body=Body(example=Rejection(examples.REASON)),
        ),
    )
    async def reject(request: AnyRequest) -> ASGIResponse:
        return await command(request, events.reject, Rejection)

    @post(
        "/events/{id:str}/withdraw",
        status_code=200,
        operation=_command(
            id="withdrawEvent",
            summary="Withdraw",
            description="The author takes a SUBMITTED event back: it is a DRAFT again.",
            wrong=Status.DRAFT,
            after=Status.DRAFT,
            body=NO_BODY,
        ),
    )
    async def withdraw(request: AnyRequest) -> ASGIResponse:
        return await command(request, events.withdraw)

    @post(
        "/events/{id:str}/cancel",
        status_code=200,
        operation=_command(
            id="cancelEvent",
            summary="Cancel",
            description="The author or an ADMIN calls an APPROVED event off; every member still sees it.",
            wrong=Status.DRAFT,
            after=Status.CANCELLED,
            body=Body(example=Cancellation("The speaker is ill."), required=False),
        ),
    )
    async def cancel(request: AnyRequest) -> ASGIResponse:
        return await command(request, events.cancel, Cancellation)

    @get(
        "/events/{id:str}/history",
        operation=Operation(
            id="getEventHistory",
            summary="Read an event's history",
            description=(
                "Who did what, when, why, and under which correlation id: for its author, MODERATORs and ADMINs. It "
                "outlives the event."
            ),
            tag="Events",
            path=(EVENT_ID,),
            answers={200: Answer(description="All that was done, the oldest first.", example=examples.HISTORY)},
            problems=(
                UNKNOWN_PARAMETER,
                NOT_FOUND,
                ServiceError(Code.FORBIDDEN, "Its author and the moderators read an event's history."),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def history(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        return json_reply(await events.history(FindEvent(actor=actor, event_id=event_id(request))))

    @get(
        "/idempotency-keys/{key:path}",
        operation=Operation(
            id="getIdempotencyKey",
            summary="Look up an idempotency key",
            description=(
                "What became of a key that you sent with a write: `unknown`, `running`, or `done` with the status that "
                "was answered, when, on which resource, and under which correlation id."
            ),
            tag="Events",
            path=(KEY_IN_PATH,),
            answers={200: Answer(description="What became of it.", example=examples.KEY)},
            problems=(
                ServiceError(
                    Code.INVALID_IDEMPOTENCY_KEY, "A key is 1 to 255 visible ASCII characters, bare or quoted."
                ),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def find_key(request: AnyRequest) -> ASGIResponse:
        return await fate(request)

    # Where a key of slashes alone leads: to Litestar they are but the path's end.
    @get("/idempotency-keys", include_in_schema=False)
    async def find_key_of_slashes(request: AnyRequest) -> ASGIResponse:
        return await fate(request)

    async def fate(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        key = key_in_path(request)
        return json_reply(key_status(key, await events.find_key(FindKey(actor=actor, key=key))))

    writes = [create, update, remove, submit, approve, reject, withdraw, cancel]
    return [*writes, find_all, find_one, history, find_key, find_key_of_slashes]
