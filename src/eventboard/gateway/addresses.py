"""Where a client comes from: its connection's other end, or what a trusted proxy says of it."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from eventboard.gateway.requests import AnyRequest

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# RFC 7239; the other one, X-Forwarded-For, has addresses alone.
FORWARDED = "forwarded"

# Bits of an IPv6 address that a provider gives to one customer: whoever has one address has all below them.
CUSTOMER = 64

# One parameter of one element of RFC 7239's Forwarded; a quoted string holds no escapes worth reading.
_FORWARDED_FOR = re.compile(r'(?:^|;)[ \t]*for[ \t]*=[ \t]*(?:"([^"\\]*)"|([^;", \t]*))', re.IGNORECASE)


def networks(text: str) -> tuple[Network, ...]:
    """Networks or addresses, separated by commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


class ClientAddress:
    """Whoever isn't a trusted proxy may say what it likes of where it comes from: nobody reads it.

    `header` is the one that the proxies write. The other may be the client's own words, passed on as they are.
    """

    def __init__(self, trusted: Sequence[Network], header: str) -> None:
        self._trusted = trusted
        self._header = header

    def __call__(self, request: AnyRequest) -> str:
        """Empty where it isn't known; of an IPv6 address, its network of 64 bits."""
        client = request.scope["client"]
        address = _address(client[0]) if client else None
        if address is not None and self._trusts(address):
            address = self._forwarded(request, address)
        return "" if address is None else _told(address)

    def _forwarded(self, request: AnyRequest, proxy: Address) -> Address:
        """The right-most address that is no trusted proxy's: all to the left of it is what that client says."""
        for text in reversed(",".join(request.headers.getall(self._header, [])).split(",")):
            text = _for(text) if self._header == FORWARDED else text
            address = _address(text)
            if address is None:
                # Obfuscated, or nonsense: the one who passed it on is the last that is known.
                return proxy
            if not self._trusts(address):
                return address
            proxy = address
        return proxy

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _for(element: str) -> str:
    found = _FORWARDED_FOR.search(element)
    return "" if found is None else found[1] or found[2] or ""


def _address(text: str) -> Address | None:
    """With or without a port; an IPv4 address in IPv6's clothes is an IPv4 address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address


def _told(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), CUSTOMER), strict=False))
