"""The client's address: the connection's, or what a trusted proxy has written into X-Forwarded-For."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, cast

from litestar import Request
from loguru import logger
from msgspec import Struct
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from eventboard.core.asgi import App, Receive, Scope, Send
from eventboard.core.ip import (
    Address,
    Network,
    canonical,
    client_network,
    is_in,
    is_private,
    parse_address,
    translated_forms,
)
from eventboard.gateway.request_headers import AnyRequest
from eventboard.settings.safety import split

# The key of a request's scope for the connection's address. `client` is the forwarded one, behind a trusted proxy.
PEER = "eventboard.peer"

# Headers that proxies add. A client that is connected directly has no reason to send one.
_PROXY_HEADERS = frozenset((b"x-forwarded-for", b"forwarded", b"x-real-ip"))
# Seconds between two warnings of a proxy that isn't trusted.
WARN_EVERY = 600.0

_MAPPED = IPv6Network("::ffff:0:0/96")


class Origin(Struct, frozen=True):
    """`address` is empty where it isn't known; of an IPv6 address it is the network of 64 bits.

    `shared`: the address is a proxy's, so it may be any number of clients'.
    """

    address: str
    shared: bool = False


def networks(text: str) -> tuple[Network, ...]:
    """Networks or addresses, separated by commas or blanks. Raises ValueError."""
    return tuple(_unmapped(ip_network(part)) for part in split(text))


class ClientAddress:
    """Reads a request's address from what `ClientAddressMiddleware` has put into its scope."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def origin(self, request: AnyRequest) -> Origin:
        scope = request.scope
        peer = _peer(cast("Scope", scope))
        if peer is None:
            return Origin("")
        if not is_in(peer, self._trusted):
            # Any client on the internet may write such a header. From a private network it is a proxy that nobody
            # configured: counted by its address, one client would use up what all of them have.
            return Origin(client_network(peer), shared=is_private(peer) and _proxy_header(scope["headers"]) is not None)
        client = scope["client"]
        # uvicorn takes whatever the right-most proxy that isn't trusted is called, even "unknown".
        address = None if client is None or client is scope.get(PEER) else parse_address(client[0])
        return Origin(client_network(peer), shared=True) if address is None else Origin(client_network(address))

    def single_client(self, scope: Scope) -> str:
        """The address if it is one client's; "" if it is private, or a proxy's that isn't trusted."""
        origin = self.origin(Request(scope))  # type: ignore[arg-type]  # the same shapes
        address = parse_address(origin.address.partition("/")[0])
        return "" if origin.shared or address is None or is_private(address) else origin.address


class ClientAddressMiddleware:
    """Sets `client` of a request's scope from X-Forwarded-For, by uvicorn's middleware, for `trusted` proxies.

    It logs a warning if a proxy seems to be missing from them.
    """

    def __init__(self, app: App, trusted: Sequence[Network], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._trusted = trusted
        self._clock = clock
        self._warn_at = clock()
        hosts = [str(form) for network in trusted for form in translated_forms(network)]
        self._app: Any = ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=hosts) if hosts else app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["client"]:
            host, port = scope["client"]
            peer = parse_address(host)
            if peer is not None:
                # An IPv4 proxy that is connected to an IPv6 socket is an IPv4 proxy.
                address = canonical(peer)
                if address is not peer:
                    scope["client"] = (str(address), port)
                self._warn_of_untrusted(scope, address)
            scope[PEER] = scope["client"]
        awaitable: Awaitable[None] = self._app(scope, receive, send)
        return awaitable

    def _warn_of_untrusted(self, scope: Scope, peer: Address) -> None:
        now = self._clock()
        if now < self._warn_at or (name := _proxy_header(scope["headers"])) is None or is_in(peer, self._trusted):
            return
        self._warn_at = now + WARN_EVERY
        logger.warning(
            "{} sends the header {} and isn't in server.trusted_proxies, so the header is ignored. If that is a proxy, "
            "all its clients are taken for one: add it to EVENTBOARD_SERVER_TRUSTED_PROXIES",
            peer,
            name.decode(),
        )


def _peer(scope: Scope) -> Address | None:
    peer = scope.get(PEER)
    return parse_address(peer[0]) if peer else None


def _proxy_header(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, _ in headers:
        if name in _PROXY_HEADERS:
            return name
    return None


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen))
    return network
