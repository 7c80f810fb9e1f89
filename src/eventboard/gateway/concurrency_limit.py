"""Limits how many calls of one user, and of one organization, a process works on at once."""

from collections.abc import Callable

from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import Principal
from eventboard.observability.metrics import Metrics
from eventboard.web.error_responses import RETRY_AFTER

BY_USER = "calls-by-user"
BY_ORGANIZATION = "calls-by-organization"


class ConcurrencyLimit:
    """A limit of 0 means no limit."""

    def __init__(self, by_user: int, by_organization: int, metrics: Metrics) -> None:
        self._by_user = by_user
        self._by_organization = by_organization
        # Calls in progress, by the id's number: a UUID is hashed in Python.
        self._users: dict[int, int] = {}
        self._organizations: dict[int, int] = {}
        self._rejected = metrics.rejected
        for limit in (BY_USER, BY_ORGANIZATION):
            self._rejected.labels(limit)

    def enter(self, caller: Principal) -> Callable[[], None]:
        """Returns a function to call when the call has ended. Raises `too-many-requests`."""
        users, organizations = self._users, self._organizations
        user, organization = caller.user_id.int, caller.organization_id.int
        of_user, of_organization = users.get(user, 0), organizations.get(organization, 0)
        if 0 < self._by_user <= of_user:
            raise self._rejection(BY_USER, f"You have {of_user}")
        if 0 < self._by_organization <= of_organization:
            raise self._rejection(BY_ORGANIZATION, f"Your organization has {of_organization}")
        users[user] = of_user + 1
        organizations[organization] = of_organization + 1

        def leave() -> None:
            for calls, id_ in ((users, user), (organizations, organization)):
                calls[id_] -= 1
                if not calls[id_]:
                    del calls[id_]

        return leave

    def _rejection(self, limit: str, has: str) -> ServiceError:
        self._rejected.labels(limit).inc()
        return ServiceError(
            Code.TOO_MANY_REQUESTS,
            f"{has} calls under way, as many as may be at once: wait for one of them to end.",
            retry_after=RETRY_AFTER,
            shed=True,
        )
