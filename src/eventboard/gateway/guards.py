"""Who may come in: the first thing that a route asks, before it looks at anything else that was sent."""

from collections.abc import Awaitable, Callable

from eventboard.gateway.requests import AnyRequest, bearer
from eventboard.platform.identity import Verify

# The access token of a caller who stands; raises `invalid-token`.
Authenticate = Callable[[AnyRequest], Awaitable[str]]


def guard(verify: Verify) -> Authenticate:
    async def authenticated(request: AnyRequest) -> str:
        token = bearer(request)
        await verify(token)
        return token

    return authenticated
