"""Opaque tokens: random, sent once, stored as a hash. 256 random bits need no slow hash."""

import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID


def new_token() -> str:
    return secrets.token_urlsafe(32)


def new_invitation_token(organization_id: UUID) -> str:
    """It holds its organization, so that its row can be read under that organization's row-level security."""
    return urlsafe_b64encode(organization_id.bytes + secrets.token_bytes(32)).decode()


def organization_of(invitation_token: str) -> UUID | None:
    """None where it is no token of ours."""
    try:
        raw = urlsafe_b64decode(invitation_token)
    except ValueError:
        return None
    return UUID(bytes=raw[:16]) if len(raw) == 48 else None


def fingerprint(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
