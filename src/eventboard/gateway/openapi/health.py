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
        "`up` if every part is up. In production the answer doesn't name the parts.",
        {
            200: Answer(description="Every part is up.", example=_UP),
            503: Answer(description="At least one part is down.", example=_DOWN),
        },
    ),
    "getReadiness": _check(
        "Whether to send requests here",
        "`up` if the process can reach its database, the schema has the revision that the code needs, and the keys"
        " that verify access tokens are loaded.",
        {
            200: Answer(description="The process is ready for requests.", example=_UP),
            503: Answer(description="The process isn't ready: send requests to another one.", example=_DOWN),
        },
    ),
    "getLiveness": _check(
        "Whether the process is alive",
        "Doesn't depend on the database or on other processes.",
        {200: Answer(description="The process is alive.", example=Health(status="up"))},
    ),
}
