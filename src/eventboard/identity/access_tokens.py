"""Verifies access tokens."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import jwt
from cachetools import LRUCache
from loguru import logger
from msgspec import Struct

from eventboard.core.errors import Code, ServiceError

ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type, not a secret
CLAIMS = ("iss", "aud", "sub", "org", "role", "name", "sid", "iat", "exp", "jti")

# Seconds between two requests for the keys because of an unknown key id: forged tokens must not cause a storm.
REFETCH_INTERVAL = 10.0
# Seconds between two refreshes of the keys in the background: a new key is known before it signs, and the tokens of a
# removed key become invalid.
KEYS_REFRESH = 60.0
# Verified tokens in the cache; at about 1 KiB each, some 10 MiB.
CACHE_SIZE = 10_000
# Seconds that the issuer's clock may be ahead of this machine's.
SKEW = 5
# Characters; longer than any token that is issued here.
LONGEST_TOKEN = 4096


# Characters that no token has (RFC 6750), but what was pasted may have.
_ODD = re.compile(r"[^A-Za-z0-9._~+/=-]")


class Role(StrEnum):
    """What a member may do in an organization."""

    USER = "USER"
    MODERATOR = "MODERATOR"
    ADMIN = "ADMIN"


class Principal(Struct, frozen=True):
    """A verified caller. `expires_at` is in Unix seconds."""

    user_id: UUID
    organization_id: UUID
    role: Role
    name: str
    session_id: UUID
    expires_at: int


class Verify(Protocol):
    async def __call__(self, token: str) -> Principal:
        """Raises `invalid-token`, and `unavailable` while no keys are known."""
        ...

    def known(self, token: str) -> Principal | None:
        """The principal of a token whose verification is cached, or None."""
        ...


class PublicKeys(Struct, frozen=True, omit_defaults=True):
    """A JSON Web Key Set (RFC 7517).

    `longest`: the most seconds that a token is valid, for the other modules. Older versions don't publish it.
    """

    keys: list[dict[str, str]]
    longest: int | None = None


FetchKeys = Callable[[], Awaitable[PublicKeys]]


class TokenVerifier:
    """Verifies access tokens with the published keys, and caches those that are valid until they expire.

    When the published keys change, the cache is cleared. Call `refresh` at least every KEYS_REFRESH seconds.
    """

    def __init__(
        self, fetch_keys: FetchKeys, *, issuer: str, audience: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch_keys = fetch_keys
        self._issuer = issuer
        self._audience = audience
        self._published = PublicKeys([])
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._clock = clock
        self._fetch_began_at = self._fetched_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._verified: LRUCache[str, Principal] = LRUCache(CACHE_SIZE)

    def known(self, token: str) -> Principal | None:
        try:
            principal = self._verified[token]
        except KeyError:
            return None
        return principal if principal.expires_at > time.time() else None

    async def __call__(self, token: str) -> Principal:
        principal = self.known(token)
        if principal is not None:
            return principal
        self._verified.pop(token, None)
        principal, lifetime = self._decode(token, await self._key_of(token))
        if self._too_long(lifetime):
            # The token is signed, so auth may have been configured with a longer lifetime.
            await self.refresh()
            principal, lifetime = self._decode(token, await self._key_of(token))
            if self._too_long(lifetime):
                raise invalid_token("its lifetime is longer than any issued here")
        self._verified[token] = principal
        logger.debug("access token: verified, and cached until it expires")
        return principal

    async def refresh(self) -> None:
        """Fetches the keys. Raises `unavailable` where they can't be fetched, and keeps the known ones."""
        await asyncio.shield(self._fetching or self._begin_fetch())

    async def load_keys(self) -> None:
        """Fetches the keys if none are known. Raises `unavailable` where they can't be fetched."""
        if not self._keys:
            await self._refresh()
        if not self._keys:
            raise no_keys()

    async def _key_of(self, token: str) -> jwt.PyJWK:
        if len(token) > LONGEST_TOKEN:
            raise invalid_token("it is longer than any token issued here")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise invalid_token(_why_no_jwt(token)) from None
        kid = header.get("kid")
        if header.get("typ") != TOKEN_TYPE or header.get("alg") != ALGORITHM or not isinstance(kid, str):
            raise invalid_token("it is another token than the accessToken of a log-in here")
        if kid not in self._keys:
            await self._refresh()
            await self.load_keys()
        key = self._keys.get(kid)
        if key is None:
            raise invalid_token("its signing key is not known here, or not any more. Log in again")
        return key

    async def _refresh(self) -> None:
        """Fetches the keys, or waits for a running fetch, unless the last one began within REFETCH_INTERVAL."""
        if self._fetching is None and self._keys and self._clock() - self._fetch_began_at < REFETCH_INTERVAL:
            if self._fetched_at < self._fetch_began_at:
                # It failed: the token may be valid.
                raise no_keys()
            return
        await self.refresh()

    def _begin_fetch(self) -> asyncio.Task[None]:
        self._fetch_began_at = self._clock()
        # Without the context of a caller, whose deadline must not end what others wait for.
        self._fetching = asyncio.create_task(self._fetch(), context=Context())
        self._fetching.add_done_callback(self._fetch_ended)
        return self._fetching

    async def _fetch(self) -> None:
        try:
            published = await self._fetch_keys()
        except ServiceError as error:
            raise no_keys() from error
        self._fetched_at = self._clock()
        logger.debug("public keys: fetched, {}", "unchanged" if published == self._published else "changed")
        if published != self._published:
            self._keys = {key["kid"]: jwt.PyJWK(key, ALGORITHM) for key in published.keys}
            self._published = published
            self._verified.clear()

    def _fetch_ended(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # retrieved here, as all waiters may be gone

    def _too_long(self, lifetime: int) -> bool:
        longest = self._published.longest
        return longest is not None and lifetime > longest

    def _decode(self, token: str, key: jwt.PyJWK) -> tuple[Principal, int]:
        """The principal, and the seconds that the token is valid in all."""
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
                raise invalid_token("it isn't valid yet")
            principal = Principal(
                UUID(claims["sub"]),
                UUID(claims["org"]),
                Role(claims["role"]),
                str(claims["name"]),
                UUID(claims["sid"]),
                int(claims["exp"]),
            )
            return principal, principal.expires_at - int(claims["iat"])
        except jwt.ExpiredSignatureError:
            raise invalid_token("it has expired. Refresh it, or log in again") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, OverflowError):
            raise invalid_token("its signature or its claims are wrong. Log in again") from None


def _why_no_jwt(token: str) -> str:
    if token.lower().startswith("bearer "):
        return "the Authorization header has the word Bearer twice. Send it once"
    if _ODD.search(token):
        return "it has quotation marks, brackets, spaces or the like. Send the accessToken of a log-in without them"
    return "it is not a JSON Web Token, or is cut off. Send the whole accessToken of a log-in, not the refreshToken"


def invalid_token(why: str) -> ServiceError:
    return ServiceError(Code.INVALID_TOKEN, f"The access token is rejected: {why}.")


def no_keys() -> ServiceError:
    """The token can't be verified now."""
    return ServiceError(Code.UNAVAILABLE, "The keys that verify tokens can't be fetched now.", retry_after=1, shed=True)
