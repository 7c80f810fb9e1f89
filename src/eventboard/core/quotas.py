"""The headers that tell a client its limits (draft-ietf-httpapi-ratelimit-headers-10)."""

from collections.abc import Sequence

from msgspec import Struct

POLICY = "ratelimit-policy"
STATE = "ratelimit"


class Quota(Struct, frozen=True):
    """A limit that a request counted against: `most` in `window` seconds, of which `left` for the next `ends_in`.

    `name` has only letters from a to z and hyphens.
    """

    name: str
    most: int
    window: int
    left: int
    ends_in: int


def quota_headers(quotas: Sequence[Quota]) -> dict[str, str]:
    """Empty where no limit applied."""
    if not quotas:
        return {}
    return {
        POLICY: ", ".join(f'"{quota.name}";q={quota.most};w={quota.window}' for quota in quotas),
        STATE: ", ".join(f'"{quota.name}";r={quota.left};t={quota.ends_in}' for quota in quotas),
    }
