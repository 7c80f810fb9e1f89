"""ASGI's types.

An application is anything that returns an awaitable. So a middleware that only looks at a request is no coroutine: it
returns what the next one returns, and the event loop doesn't pass through it whenever the request goes on.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Middleware = Callable[[App], App]
