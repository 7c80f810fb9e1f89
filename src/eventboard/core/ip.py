"""IP addresses: their canonical form, and the network that belongs to one client."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Length of the IPv6 prefix that a provider gives to one client, who can use every address in it.
CLIENT_PREFIX = 64
# Length of the prefix that it gives to one site, such as a company: 65,536 networks of clients.
SITE_PREFIX = 48

# Networks whose last 32 bits are an IPv4 address: IPv4-mapped and IPv4-translated (RFC 2765, SIIT), IPv4-compatible
# (RFC 4291), and NAT64's well-known prefix (RFC 6052).
_TRANSLATED = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96")))
# NAT64 with a local prefix (RFC 8215).
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")

# Networks that aren't routed on the internet: private, shared, loopback, link-local, multicast, reserved.
_PRIVATE = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/3",
        ),
    )
)
_PRIVATE6 = tuple(map(IPv6Network, ("::/127", "fc00::/7", "fe80::/10", "ff00::/8")))


@lru_cache(1_000)  # called for each request, mostly with the address of a proxy or of a busy client
def parse_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def is_private(address: Address) -> bool:
    """Whether many hosts may have it, such as containers' bridges and proxies.

    Unlike `ipaddress.is_private`, it is false for the networks that are reserved for documentation.
    """
    return is_in(address, _PRIVATE if isinstance(address, IPv4Address) else _PRIVATE6)


def canonical(address: Address) -> Address:
    """The IPv4 address that is embedded in an IPv6 address, or the address itself.

    The ends of tunnels (6to4, Teredo) are public addresses. An embedded private one is forged, and ignored.
    """
    if isinstance(address, IPv4Address):
        return address
    embedded = _embedded(address)
    if embedded is not None:
        return embedded
    tunnel = address.sixtofour or (address.teredo[1] if address.teredo else None)
    return address if tunnel is None or is_private(tunnel) else tunnel


def _embedded(address: IPv6Address) -> IPv4Address | None:
    number = int(address)
    if is_in(address, _TRANSLATED):
        # Not `::` and `::1`: no IPv4 address is below 1.0.0.0.
        return IPv4Address(number & 0xFFFF_FFFF) if number >> 32 or number >> 24 else None
    if address not in _LOCAL_NAT64:
        return None
    if last := number & 0xFFFF_FFFF:
        return IPv4Address(last)
    # With a prefix of 48 bits: 16 bits of the IPv4 address, 8 zeros, and the other 16 (RFC 6052, section 2.2).
    first, zeros, second = number >> 64 & 0xFFFF, number >> 56 & 0xFF, number >> 40 & 0xFFFF
    return IPv4Address(first << 16 | second) if first and not zeros else None


def client_network(address: Address) -> str:
    """What belongs to one client: the IPv4 address, or the /64 network of the IPv6 address."""
    address = canonical(address)
    return str(address) if isinstance(address, IPv4Address) else _network(address, CLIENT_PREFIX)


def site_network(text: str) -> str | None:
    """The /48 network of a `client_network`; None for an IPv4 address."""
    address = parse_address(text.partition("/")[0])
    return _network(address, SITE_PREFIX) if isinstance(address, IPv6Address) else None


def translated_forms(network: Network) -> Iterator[Network]:
    """The network itself and, of an IPv4 network, its IPv6 forms."""
    yield network
    if isinstance(network, IPv4Network):
        for prefix in _TRANSLATED:
            first = int(prefix.network_address) | int(network.network_address)
            yield IPv6Network((first, prefix.prefixlen + network.prefixlen))


def _network(address: IPv6Address, bits: int) -> str:
    return str(IPv6Network((int(address), bits), strict=False))
