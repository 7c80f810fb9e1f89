"""Who may come in: the first thing that a route asks, before it looks at anything else that was sent."""

from collections.abc import Awaitable, Callable

from eventboard.gateway.limits import UserLimit
from eventboard.gateway.requests import AnyRequest, bearer
from eventboard.platform.identity import Verify
from eventboard.platform.tracing import JWT, Span
from eventboard.platform.web import LIMITS

# The access token of a caller who stands, and may go on; raises `invalid-token` and `too-many-requests`.
Authenticate = Callable[[AnyRequest], Awaitable[str]]


def guard(verify: Verify, limit: UserLimit | None) -> Authenticate:
    """Without a `limit` everybody may send what they like."""

    async def authenticated(request: AnyRequest) -> str:
        token = bearer(request)
        caller = verify.known(token)
        if caller is None:
            with Span(JWT):
                caller = await verify(token)
        if limit is not None:
            request.scope[LIMITS] = await limit.admit(caller.user_id)  # type: ignore[literal-required]  # ours
        return token

    return authenticated
