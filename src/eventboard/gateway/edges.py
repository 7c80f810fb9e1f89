"""What browsers are told: which other sites may call, and what no page may do with an answer."""

from litestar.config.cors import CORSConfig

# Two years, as the preload lists ask for at least one.
HSTS = "max-age=63072000; includeSubDomains"
# Of what is no page: nothing may be loaded or run by it, nor may it be shown inside another.
NO_PAGE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Seconds that a browser may keep the answer to a preflight: the most that any of them does.
PREFLIGHT_MAX_AGE = 7200


def public_headers(*, hsts: bool) -> dict[str, str]:
    """On every answer of the gateway, where it doesn't say otherwise: pages bring a policy of their own."""
    headers = {
        "content-security-policy": NO_PAGE,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    return {**headers, "strict-transport-security": HSTS} if hsts else headers


def cors(allowed: list[str]) -> CORSConfig | None:
    """None where no other site may call. The token travels in a header, so no cookie needs credentials."""
    if not allowed:
        return None
    return CORSConfig(
        allow_origins=allowed,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            "authorization",
            "content-type",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "traceparent",
            "tracestate",
            "x-correlation-id",
        ],
        expose_headers=[
            "etag",
            "location",
            "idempotency-status",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "server-timing",
            "x-correlation-id",
        ],
        max_age=PREFLIGHT_MAX_AGE,
    )
