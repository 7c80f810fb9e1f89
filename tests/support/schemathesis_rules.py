"""For schemathesis: what the OpenAPI document says in words because JSON Schema has none for it.

Every check runs on every operation. A failure is dropped only where it is exactly one of these rules.
"""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from eventboard.modules.auth.joining import NEEDS_A_LETTER
from eventboard.modules.events.contract import TIME_ZONE_RULE

YEARS = "In UTC it must lie between the first and the last moment of the years 1 to 9999."

# Refusals of requests that are valid by their schema: pointer and detail.
RULES = {
    ("/endDate", "It must be after startDate."),  # one field compared with another
    ("/startDateTo", "It must not be before startDateFrom."),
    ("/startDate", YEARS),  # valid with its offset alone
    ("/endDate", YEARS),
    ("/timeZone", TIME_ZONE_RULE),  # some 600 names, which change each year
    # a product of two fields
    ("/page", "page times limit must be 10000 or less. Go on from there with cursor, the nextCursor of a page."),
    ("/organizationName", "Give exactly one of organizationName, organizationId and invitationToken."),
    ("/password", "It is one of the most common passwords. Choose another."),  # a list of thousands
    ("/newPassword", "It is one of the most common passwords. Choose another."),
    ("/newPassword", "It must not be the current password. Choose another."),
    ("/name", NEEDS_A_LETTER),
    ("/password", "It must not be the e-mail address or the organization's name."),
    ("/organizationName", NEEDS_A_LETTER),  # by Unicode's tables
}
# Of these no schema says all: what an e-mail address is.
POINTERS = {"/email"}
CODES = {
    "invalid-cursor",  # a cursor is what an earlier list gave, and excludes `page`
    "idempotency-key-reused",  # what a key was used for before
    "version-changed",  # If-Match is a condition on what is stored
}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:  # noqa: ARG001 - the hook's own signature
    """Whether the failure stands."""
    if isinstance(failure, RejectedPositiveData):
        problem = response.json()
        errors = {(error["pointer"], error["detail"]) for error in problem.get("errors", [])}
        return not (
            problem["code"] in CODES or (errors and {error for error in errors if error[0] not in POINTERS} <= RULES)
        )
    if isinstance(failure, AcceptedNegativeData):
        # Clients of the original send an empty text for none, which the document doesn't recommend.
        body = case.body if isinstance(case.body, dict) else {}
        return "" not in ((case.query or {}).get("search"), body.get("location"))
    # History outlives a deletion, as it is meant to.
    return not (isinstance(failure, UseAfterFree) and case.operation.label == "GET /events/{id}/history")
