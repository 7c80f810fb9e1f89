"""The header Idempotency-Status, and which routes take an idempotency key."""

from typing import Any

# What happened to the client's Idempotency-Key: executed, replayed, or ignored where the operation takes none.
KEY_STATUS = "idempotency-status"
# In the options of a route that takes one: `@post(…, takes_key=True)`.
TAKES_KEY = "takes_key"


def takes_key(scope: Any) -> bool:
    """True, too, where no route was found: no operation has ignored the key then."""
    handler = scope.get("route_handler")
    return handler is None or bool(handler.opt.get(TAKES_KEY))
