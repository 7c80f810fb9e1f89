"""What browsers may do with responses."""

# Two years; the preload lists ask for at least one.
HSTS = "max-age=63072000; includeSubDomains"
# Of responses that are no page: nothing may be loaded or run by them, nor may they be shown inside another page.
NO_PAGE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def security_headers(*, hsts: bool) -> dict[str, str]:
    """For every response of the gateway that doesn't set them: the explorers have a policy of their own."""
    headers = {
        "content-security-policy": NO_PAGE,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
    return {**headers, "strict-transport-security": HSTS} if hsts else headers
