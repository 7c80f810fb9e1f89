"""Authentication of a request: access token and limits, before anything else of it is read."""

import asyncio
import time

from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from eventboard.core import request_context
from eventboard.gateway.concurrency_limit import ConcurrencyLimit
from eventboard.gateway.rate_limit import UserLimit
from eventboard.gateway.request_headers import AnyRequest, bearer_token
from eventboard.identity.access_tokens import Principal, Verify, no_keys
from eventboard.observability.tracing import JWT, step
from eventboard.web.load_shedding import ON_RESPONSE_START
from eventboard.web.request_context import RATE_LIMIT_HEADERS


class Authentication:
    """Verifies a caller's token, and counts the request against their limits. Without `limit` requests aren't limited.

    A token that can't be verified within `patience` seconds is `unavailable`. The time spent here is taken from the
    budget of the call that follows.
    """

    def __init__(
        self, verify: Verify, limit: UserLimit | None, concurrency: ConcurrencyLimit, *, patience: float
    ) -> None:
        self._verify = verify
        self._limit = limit
        self._concurrency = concurrency
        self._patience = patience

    async def __call__(self, request: AnyRequest) -> tuple[Principal, str]:
        """The caller and the access token. Raises `invalid-token`, `too-many-requests` and `unavailable`."""
        begun = time.monotonic()
        token = bearer_token(request)
        caller = self._verify.known(token)
        if caller is None:
            caller = await self._verified(token)
        if self._limit is not None:
            headers = await self._limit.admit(caller.user_id, begun + self._patience)
            request.scope[RATE_LIMIT_HEADERS] = headers  # type: ignore[literal-required]  # ours
        request_context.current().log_fields.waited = time.monotonic() - begun
        leave = self._concurrency.enter(caller)
        request.scope[ON_RESPONSE_START].append(leave)  # type: ignore[literal-required]  # ours
        return caller, token

    async def _verified(self, token: str) -> Principal:
        with step(JWT):
            try:
                async with asyncio.timeout(self._patience) as limit:
                    return await self._verify(token)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise no_keys() from None


class AuthenticationMiddleware(AbstractAuthenticationMiddleware):
    """Sets `request.user`, with the current role, and `request.auth`, the access token. OPTIONS needs none.

    A guard would do, but Litestar copies the whole handler for each guard at each request: a twentieth of a read.
    """

    async def authenticate_request(self, connection: AnyRequest) -> AuthenticationResult:
        user, token = await connection.app.state.authentication(connection)
        return AuthenticationResult(user=user, auth=token)
