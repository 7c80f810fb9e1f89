"""The OpenAPI document on events, their approval and history, and on idempotency keys."""

from msgspec import Struct

from eventboard.core.errors import Code
from eventboard.gateway.openapi import examples
from eventboard.gateway.openapi.operation import Answer, Operation
from eventboard.modules.events.contract import EventQuery, HistoryQuery, Status

_TAG = "Events"
_EVENT_ID = ("The event's id.", str(examples.EVENT.id))
_RULES = (
    "`endDate` is after `startDate`. A time without an offset is local time in `timeZone`, which is a name of the IANA "
    "time zone database, UTC by default."
)
# The commands that each state allows.
_COMMANDS = {
    Status.DRAFT: ("submitEvent",),
    Status.SUBMITTED: ("approveEvent", "rejectEvent", "withdrawEvent"),
    Status.APPROVED: ("cancelEvent",),
    Status.REJECTED: ("submitEvent",),
    Status.CANCELLED: (),
}


def _command(
    name: str, description: str, *, after: Status, body: Struct | None = None, body_required: bool = False
) -> Operation:
    """A command on an event: not every caller may give it, and not every state allows it."""
    answer = Answer(
        description="The event as it is now.",
        example=examples.event_after(after),
        headers=("ETag",),
        links=_COMMANDS[after],
    )
    quota = (Code.QUOTA_EXCEEDED,) if after in (Status.SUBMITTED, Status.DRAFT) else ()
    return Operation(
        tag="Approval",
        summary=f"{name} an event",
        description=description,
        path=_EVENT_ID,
        headers=("If-Match",),
        body=body,
        body_required=body_required,
        answers={200: answer},
        problems=(Code.NOT_FOUND, Code.FORBIDDEN, *quota, Code.VERSION_CHANGED, Code.WRONG_STATE),
        takes_key=True,
    )


OPERATIONS = {
    "createEvent": Operation(
        tag=_TAG,
        summary="Draft an event",
        description=f"Any member may. The event is a DRAFT, which nobody but you and the moderators sees. {_RULES}",
        body=examples.DRAFT,
        answers={
            201: Answer(
                description="The new event.",
                example=examples.EVENT,
                headers=("Location", "ETag"),
                links=("getEvent", "updateEvent", "deleteEvent", "getEventHistory", *_COMMANDS[Status.DRAFT]),
            )
        },
        problems=(Code.QUOTA_EXCEEDED,),
        takes_key=True,
    ),
    "listEvents": Operation(
        tag=_TAG,
        summary="List events",
        description=(
            "Your own events and those that are APPROVED or CANCELLED; a MODERATOR and an ADMIN see all of the "
            "organization. `total` is exact up to 10,000, and `page` reaches no further; `cursor` reaches all "
            "events, and shows each that isn't changed meanwhile exactly once."
        ),
        query=EventQuery,
        answers={200: Answer(description="One page of the list.", example=examples.EVENTS)},
        problems=(Code.INVALID_CURSOR, Code.SEARCH_TOO_BROAD),
    ),
    "getEvent": Operation(
        tag=_TAG,
        summary="Read an event",
        description="What you may not see is a 404, as if it didn't exist.",
        path=_EVENT_ID,
        headers=("If-None-Match",),
        answers={
            200: Answer(description="The event.", example=examples.EVENT, headers=("ETag",)),
            304: Answer(
                description="It hasn't changed since the version that `If-None-Match` names.", headers=("ETag",)
            ),
        },
        problems=(Code.NOT_FOUND,),
    ),
    "updateEvent": Operation(
        tag=_TAG,
        summary="Edit an event",
        description=(
            "A merge patch (RFC 7396): a field that is left out stays as it is, and `null` clears an optional one. The "
            "author edits a DRAFT or a REJECTED event, a MODERATOR others' SUBMITTED and APPROVED events, an ADMIN "
            f"any event. {_RULES}"
        ),
        path=_EVENT_ID,
        headers=("If-Match",),
        body=examples.PATCH,
        answers={200: Answer(description="The event as it is now.", example=examples.PATCHED, headers=("ETag",))},
        problems=(Code.NOT_FOUND, Code.FORBIDDEN, Code.QUOTA_EXCEEDED, Code.VERSION_CHANGED),
        takes_key=True,
    ),
    "deleteEvent": Operation(
        tag=_TAG,
        summary="Delete an event",
        description="The author deletes a DRAFT, an ADMIN any event. Its history stays.",
        path=_EVENT_ID,
        headers=("If-Match",),
        answers={204: Answer(description="It is deleted.")},
        problems=(Code.NOT_FOUND, Code.FORBIDDEN, Code.VERSION_CHANGED),
        takes_key=True,
    ),
    "submitEvent": _command(
        "Submit", "The author asks for approval of a DRAFT or a REJECTED event.", after=Status.SUBMITTED
    ),
    "approveEvent": _command(
        "Approve", "A MODERATOR or an ADMIN lets every member see a SUBMITTED event.", after=Status.APPROVED
    ),
    "rejectEvent": _command(
        "Reject",
        "A MODERATOR or an ADMIN sends a SUBMITTED event back to its author, with a reason.",
        after=Status.REJECTED,
        body=examples.REJECTION,
        body_required=True,
    ),
    "withdrawEvent": _command(
        "Withdraw", "The author takes a SUBMITTED event back: it is a DRAFT again.", after=Status.DRAFT
    ),
    "cancelEvent": _command(
        "Cancel",
        "The author or an ADMIN calls an APPROVED event off; every member still sees it.",
        after=Status.CANCELLED,
        body=examples.CANCELLATION,
    ),
    "getEventHistory": Operation(
        tag=_TAG,
        summary="Read an event's history",
        description=(
            "Who did what, when, why, and under which correlation id: for its author, MODERATORs and ADMINs. It "
            "outlives the event."
        ),
        path=_EVENT_ID,
        query=HistoryQuery,
        answers={200: Answer(description="One page, the oldest entries first.", example=examples.HISTORY)},
        problems=(Code.NOT_FOUND, Code.FORBIDDEN, Code.INVALID_CURSOR),
    ),
    "getIdempotencyKey": Operation(
        tag=_TAG,
        summary="Look up an idempotency key",
        description=(
            "What became of a key that you sent with a write: `unknown`, `running`, or `done` with the status that "
            "was answered, when, on which resource, and under which correlation id."
        ),
        path=("The key, percent-encoded.", examples.KEY),
        answers={200: Answer(description="What became of it.", example=examples.KEY_OUTCOME)},
        problems=(Code.INVALID_IDEMPOTENCY_KEY,),
    ),
}
