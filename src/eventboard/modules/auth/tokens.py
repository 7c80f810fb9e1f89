"""Issues access tokens."""

import json
import time
from typing import Any
from uuid import UUID, uuid4

import jwt

from eventboard.identity.access_tokens import ALGORITHM, TOKEN_TYPE, PublicKeys, Role
from eventboard.modules.auth.keys import Keys


class _Utf8(json.JSONEncoder):
    """Without escapes: they make a character up to three times as long, and a token's length is limited."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"ensure_ascii": False})


class TokenIssuer:
    """`lifetime` is in seconds."""

    def __init__(self, keys: Keys, *, issuer: str, audience: str, lifetime: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.lifetime = lifetime

    @property
    def public_keys(self) -> PublicKeys:
        """With the lifetime of a token: the other modules don't have the setting."""
        return PublicKeys(self._keys.published().keys, longest=self.lifetime)

    def issue(self, *, user_id: UUID, organization_id: UUID, role: Role, name: str, session_id: UUID) -> str:
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "org": str(organization_id),
            "role": role.value,
            "name": name,
            "sid": str(session_id),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": str(uuid4()),
        }
        key = self._keys.signing()
        headers = {"typ": TOKEN_TYPE, "kid": key.kid}
        return jwt.encode(claims, key.private, ALGORITHM, headers=headers, json_encoder=_Utf8)
