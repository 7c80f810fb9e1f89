"""Who is calling: access tokens become principals."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import jwt
from msgspec import Struct

from eventboard.platform.errors import Code, ServiceError

ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type, not a secret
CLAIMS = ("iss", "aud", "sub", "org", "role", "name", "sid", "iat", "exp", "jti")

# An unknown key id asks for the keys at most this often, in seconds: a stranger's tokens must not cause a storm.
REFETCH_INTERVAL = 10.0
# Seconds after which the keys are asked for anew, beside the requests: a new key is known before it signs.
KEYS_REFRESH = 60.0
# Verified tokens kept; at about 1 KiB each this bounds the cache to some 10 MiB.
CACHE_SIZE = 10_000
# Seconds that the clock of the machine that issued a token may be ahead of this one's.
SKEW = 5
# Longer than any token that is issued here.
LONGEST_TOKEN = 4096


class Role(StrEnum):
    USER = "USER"
    MODERATOR = "MODERATOR"
    ADMIN = "ADMIN"


class Principal(Struct, frozen=True):
    """A caller whose token was verified. `expires_at` is in Unix seconds."""

    user_id: UUID
    organization_id: UUID
    role: Role
    name: str
    session_id: UUID
    expires_at: int


class Verify(Protocol):
    async def __call__(self, token: str) -> Principal:
        """Raises `invalid-token`; `unavailable` while no keys are known."""
        ...

    def known(self, token: str) -> Principal | None:
        """What a call would answer, where nothing has to be looked at or asked for that."""
        ...


class PublicKeys(Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]


FetchKeys = Callable[[], Awaitable[PublicKeys]]


class TokenVerifier:
    """Verifies access tokens with the published keys, and remembers those it has verified until they expire."""

    def __init__(
        self, fetch_keys: FetchKeys, *, issuer: str, audience: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch_keys = fetch_keys
        self._issuer = issuer
        self._audience = audience
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._clock = clock
        self._asked_at = self._answered_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._verified: dict[str, Principal] = {}

    def known(self, token: str) -> Principal | None:
        principal = self._verified.get(token)
        return principal if principal is not None and principal.expires_at > time.time() else None

    async def __call__(self, token: str) -> Principal:
        principal = self.known(token)
        if principal is not None:
            return principal
        self._verified.pop(token, None)
        principal = self._decode(token, await self._key_of(token))
        if len(self._verified) >= CACHE_SIZE:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = principal
        return principal

    async def load_keys(self) -> None:
        """Asks for the keys when none are known yet; raises `unavailable` when they can't be had."""
        if not self._keys:
            await self._refresh()
        if not self._keys:
            raise _no_keys()

    async def _key_of(self, token: str) -> jwt.PyJWK:
        if len(token) > LONGEST_TOKEN:
            raise refused("it is longer than any token issued here")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise refused("it is not a JSON Web Token") from None
        kid = header.get("kid")
        if header.get("typ") != TOKEN_TYPE or header.get("alg") != ALGORITHM or not isinstance(kid, str):
            raise refused("it is not an access token of this service")
        if kid not in self._keys:
            await self._refresh()
            await self.load_keys()
        elif self._clock() - self._answered_at > KEYS_REFRESH and self._asking is None:
            # Those known are kept until there is an answer.
            self._begin()
        key = self._keys.get(kid)
        if key is None:
            raise refused("its key is not known")
        return key

    async def _refresh(self) -> None:
        """Whoever needs the keys while they are being asked for waits for that answer, not for a turn to ask."""
        if self._asking is None:
            if self._keys and self._clock() - self._asked_at < REFETCH_INTERVAL:
                if self._answered_at < self._asked_at:
                    # Nobody answered: it may be a good one.
                    raise _no_keys()
                return
            self._begin()
        if self._asking is not None:
            await asyncio.shield(self._asking)

    def _begin(self) -> None:
        self._asked_at = self._clock()
        # In nobody's context: one caller's budget must not end what all of them wait for.
        self._asking = asyncio.create_task(self._ask(), context=Context())
        self._asking.add_done_callback(self._asked)

    async def _ask(self) -> None:
        try:
            published = await self._fetch_keys()
        except ServiceError as error:
            raise _no_keys() from error
        self._answered_at = self._clock()
        self._keys = {key["kid"]: jwt.PyJWK(key, ALGORITHM) for key in published.keys}

    def _asked(self, asking: asyncio.Task[None]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # for those who wait, if they still do

    def _decode(self, token: str, key: jwt.PyJWK) -> Principal:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": list(CLAIMS), "verify_iat": False, "verify_nbf": False},
            )
            if max(claims["iat"], claims.get("nbf", 0)) > time.time() + SKEW:
                raise refused("it isn't valid yet")
            return Principal(
                UUID(claims["sub"]),
                UUID(claims["org"]),
                Role(claims["role"]),
                str(claims["name"]),
                UUID(claims["sid"]),
                int(claims["exp"]),
            )
        except jwt.ExpiredSignatureError:
            raise refused("it has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise refused("its signature or its claims are wrong") from None


def refused(why: str) -> ServiceError:
    return ServiceError(Code.INVALID_TOKEN, f"The access token is refused: {why}.")


def _no_keys() -> ServiceError:
    """Whether a token is good can't be said: nothing ran, and nobody is refused."""
    return ServiceError(Code.UNAVAILABLE, "The keys that verify tokens can't be had now.", retry_after=1, not_run=True)
