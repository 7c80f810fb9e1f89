"""The OpenAPI document on health checks."""

from collections.abc import Mapping

from eventboard.gateway.openapi.operation import Answer, Operation
from eventboard.web.health import Health, PartHealth

_UP = Health(status="up", parts={"events": PartHealth(status="up")})
_DOWN = Health(status="down", parts={"events": PartHealth(status="down", detail="The database can't be reached now.")})


def _check(summary: str, description: str, answers: Mapping[int, Answer]) -> Operation:
    return Operation(
        tag="Health", summary=summary, description=description, answers=answers, public=True, limited=False
    )


OPERATIONS = {
    "getHealth": _check(
        "Health of all parts",
        "Up when every part is. Production doesn't name the parts.",
        {
            200: Answer(description="Every part works.", example=_UP),
            503: Answer(description="A part doesn't.", example=_DOWN),
        },
    ),
    "getReadiness": _check(
        "Whether to send requests here",
        "Up when this process's database is reachable and its schema is the right one, and the keys are known.",
        {
            200: Answer(description="Send them.", example=_UP),
            503: Answer(description="Send them elsewhere.", example=_DOWN),
        },
    ),
    "getLiveness": _check(
        "Whether the process lives",
        "Asks nobody else.",
        {200: Answer(description="It does.", example=Health(status="up"))},
    ),
}
