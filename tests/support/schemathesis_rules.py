"""For schemathesis: what the OpenAPI document says in words because JSON Schema has none for it.

Every check runs on every operation. A failure is dropped only where it is exactly one of these rules.
"""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# Refusals of requests that are valid by their schema: pointer and detail.
RULES = {
    ("/endDate", "It must be after startDate."),  # one field compared with another
    ("/startDate", "It is outside the years 1 to 9999 in UTC."),  # valid with its offset alone
    ("/endDate", "It is outside the years 1 to 9999 in UTC."),
    ("/timeZone", "It must be a name of the IANA time zone database."),  # some 600 names, which change each year
    ("/page", "page x limit goes to 10000; follow nextCursor beyond."),  # a product of two fields
    ("/organizationName", "Give exactly one of organizationName, organizationId and invitationToken."),
    ("/password", "It is one of the most common passwords."),  # a list of thousands
    ("/newPassword", "It is one of the most common passwords."),
    ("/name", "A name needs a letter or a digit."),
    ("/password", "It must not be the e-mail address or the organization's name."),
    ("/organizationName", "A name needs a letter or a digit."),  # by Unicode's tables
}
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
        return not (problem["code"] in CODES or (errors and errors <= RULES))
    # History outlives a deletion, as it is meant to.
    return not (isinstance(failure, UseAfterFree) and case.operation.label == "GET /events/{id}/history")
