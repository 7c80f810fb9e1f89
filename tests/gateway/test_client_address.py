"""Where a client comes from, told from its connection, or by proxies that are trusted."""

from typing import Any, cast

import pytest
from litestar import Request
from loguru import logger

from eventboard.core.asgi import Receive, Scope, Send
from eventboard.gateway.client_address import WARN_EVERY, ClientAddress, ClientAddressMiddleware, Origin, networks

PROXIES = "10.0.0.0/8, fd00::/8"


async def nothing(_: Scope, __: Receive, ___: Send) -> None:
    """An application that doesn't answer."""


async def located(client: ClientAddressMiddleware, peer: str | None, *headers: tuple[str, str]) -> Scope:
    """A request's scope as the application gets it."""
    scope: Scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 50000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    await client(scope, cast("Any", None), cast("Any", None))
    return scope


async def origin(peer: str | None, *headers: tuple[str, str], trusted: str = PROXIES) -> Origin:
    client = ClientAddressMiddleware(nothing, networks(trusted))
    scope = await located(client, peer, *headers)
    return ClientAddress(networks(trusted)).origin(Request(cast("Any", scope)))


async def address_of(peer: str | None, *headers: tuple[str, str], trusted: str = PROXIES) -> str:
    return (await origin(peer, *headers, trusted=trusted)).address


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        # What stands for an IPv4 address is that address: translated ...
        ("::192.0.2.1", "192.0.2.1"),
        ("::ffff:0:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("64:ff9b::10.0.0.7", "10.0.0.7"),
        ("64:ff9b:1::192.0.2.1", "192.0.2.1"),
        ("64:ff9b:1:ffff:ffff:ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b:1:c000:2:100::", "192.0.2.1"),
        # ... or through a tunnel, 6to4 or Teredo ...
        ("2002:c000:201::", "192.0.2.1"),
        ("2002:c000:201:ffff:1:2:3:4", "192.0.2.1"),
        ("2001:0:c633:6401:0:ffff:3fff:fdfe", "192.0.2.1"),
        # ... whose ends are addresses of the internet; others are made up.
        ("2002:a00:1::1", "2002:a00:1::/64"),
        ("2002:7f00:1::1", "2002:7f00:1::/64"),
        ("2001:0:c633:6401:0:ffff:f5ff:fffe", "2001:0:c633:6401::/64"),
        ("::1", "::/64"),
        ("::", "::/64"),
        ("::5", "::/64"),
        ("64:ff9b:2::192.0.2.1", "64:ff9b:2::/64"),
        ("64:ff9b:1::", "64:ff9b:1::/64"),
        ("", ""),
        ("somewhere", ""),
        (None, ""),
    ],
)
async def test_connection(peer: str | None, address: str) -> None:
    """Its other end; of an IPv6 address the network that one customer has."""
    assert await address_of(peer) == address


@pytest.mark.parametrize("trusted", ["", PROXIES, "192.0.2.2"])
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP", "CF-Connecting-IP"])
async def test_stranger_says_something(name: str, trusted: str) -> None:
    """Who isn't a trusted proxy is where the connection comes from, whatever it says."""
    for value in ("203.0.113.9", "for=203.0.113.9", "10.0.0.1, 203.0.113.9"):
        assert await address_of("192.0.2.1", (name, value), trusted=trusted) == "192.0.2.1"


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        # What is left of the last address that no proxy of ours has is what that client said.
        (["198.51.100.7, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.7", "203.0.113.9"], "203.0.113.9"),
        (["198.51.100.7, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (["198.51.100.7,203.0.113.9,fd00::1 , 10.1.2.3"], "203.0.113.9"),
        (["10.9.9.9, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        # Nothing that can be read: the proxy that is connected.
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["unknown"], "10.0.0.1"),
        (["203.0.113.9, unknown"], "10.0.0.1"),
        (["203.0.113.9, unknown, 10.1.2.3"], "10.0.0.1"),
        (["10.2.2.2, 10.1.2.3"], "10.2.2.2"),
        (["203.0.113.999"], "10.0.0.1"),
        (["\x00"], "10.0.0.1"),
    ],
)
async def test_trusted_proxy(values: list[str], address: str) -> None:
    """The right-most address that is no trusted proxy's."""
    assert await address_of("10.0.0.1", *(("X-Forwarded-For", value) for value in values)) == address


async def test_other_headers() -> None:
    """A proxy passes on what it doesn't write itself: that is the client's own word, and isn't read."""
    both = (("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=198.51.100.7"), ("X-Real-IP", "198.51.100.7"))
    assert await address_of("10.0.0.1", *both) == "203.0.113.9"
    assert await origin("10.0.0.1", *both[1:]) == Origin("10.0.0.1", shared=True)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "somewhere", "10.0.0.0/8;fd00::/8", "*"])
def test_no_network(text: str) -> None:
    """What isn't one is refused; one whose host bits are set is mistaken for another."""
    with pytest.raises(ValueError, match=r".+"):
        networks(text)


def test_networks() -> None:
    """An address is a network of one; blanks and a comma too many are nothing."""
    assert networks("") == networks(" , ") == ()
    for text in (" 10.0.0.1 ,fd00::/8,", "10.0.0.1 fd00::/8"):
        assert [str(network) for network in networks(text)] == ["10.0.0.1/32", "fd00::/8"]


@pytest.mark.parametrize("proxy", ["10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "fd00::1"])
async def test_form_of_a_trusted_proxy(proxy: str) -> None:
    """It is trusted however its address is carried, as the connection's other end and on the way."""
    assert await address_of(proxy, ("X-Forwarded-For", f"198.51.100.7, 203.0.113.9, {proxy}")) == "203.0.113.9"


@pytest.mark.parametrize("stranger", ["2002:a00:1::1", "2001:0:c633:6401:0:ffff:f5ff:fffe", "::ffff:192.0.2.1"])
async def test_stranger_in_a_proxys_clothes(stranger: str) -> None:
    """A tunnel's end is no private address, whatever it looks like: its word isn't believed."""
    assert await address_of(stranger, ("X-Forwarded-For", "203.0.113.9")) != "203.0.113.9"


@pytest.mark.parametrize("trusted", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "10.0.0.1"])
async def test_form_of_a_trusted_network(trusted: str) -> None:
    """An IPv4 network is one, too, however the setting writes it."""
    for proxy in ("10.0.0.1", "::ffff:10.0.0.1"):
        assert await address_of(proxy, ("X-Forwarded-For", "203.0.113.9"), trusted=trusted) == "203.0.113.9"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
@pytest.mark.parametrize(
    ("peer", "shared"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("172.17.0.1", True),
        ("::ffff:172.17.0.1", True),
        ("fd12::1", True),
        ("fe80::1%eth0", True),
        ("100.64.0.1", True),
        # What anybody on the internet may write says nothing of them.
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
async def test_proxy_that_nobody_named(name: str, peer: str, shared: bool) -> None:
    """A private address that says where others come from is a proxy's, and stands for many."""
    assert (await origin(peer, (name, "203.0.113.9"), trusted="")).shared is shared
    assert (await origin(peer, trusted="")).shared is False


async def test_trusted_proxy_that_does_not_say() -> None:
    """Then its own address is all that is known, and that stands for many; a client's, which it says, doesn't."""
    for headers in ((), (("X-Forwarded-For", "203.0.113.9, unknown"),), (("Forwarded", "for=203.0.113.9"),)):
        assert await origin("10.0.0.1", *headers) == Origin("10.0.0.1", shared=True)
    assert await origin("10.0.0.1", ("X-Forwarded-For", "203.0.113.9")) == Origin("203.0.113.9")
    assert await origin("10.0.0.1", ("X-Forwarded-For", "10.2.2.2")) == Origin("10.2.2.2")


async def test_warning() -> None:
    """Once in a while it is said who isn't trusted, and what to do; never of what is trusted, or says nothing."""
    now, lines = [0.0], list[str]()
    client = ClientAddressMiddleware(nothing, networks("10.0.0.0/8"), clock=lambda: now[0])
    sink = logger.add(lines.append, level="WARNING", format="{level} {message}")

    try:
        for _ in range(3):
            await located(client, "10.0.0.1", ("X-Forwarded-For", "203.0.113.9"))
            await located(client, "192.0.2.1")
        assert lines == []
        for peer in ("::ffff:192.0.2.1", "192.0.2.2"):
            await located(client, peer, ("X-Forwarded-For", "203.0.113.9"))
        (line,) = lines
        assert line.startswith("WARNING 192.0.2.1 sends the header x-forwarded-for and isn't in server.trusted_proxies")
        now[0] += WARN_EVERY
        await located(client, "192.0.2.2", ("Forwarded", "for=203.0.113.9"))
        assert len(lines) == 2
    finally:
        logger.remove(sink)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("8.8.8.8", "", "8.8.8.8"),
        ("8.8.8.8", "9.9.9.9", "8.8.8.8"),
        ("2a00:1450:1:2:3::", "", "2a00:1450:1:2::/64"),
        ("10.1.2.3", "9.9.9.9", "9.9.9.9"),
        # A proxy that says nothing, a bridge, a router, a gateway of somebody's own: many may be behind it.
        ("10.1.2.3", "", ""),
        ("10.1.2.3", "10.4.5.6", ""),
        ("10.1.2.3", "172.17.0.1", ""),
        ("10.1.2.3", "unknown", ""),
        ("172.17.0.1", "9.9.9.9", ""),
        ("127.0.0.1", "", ""),
        ("::1", "", ""),
        ("100.64.0.1", "", ""),
        ("fe80::1%eth0", "", ""),
        ("", "", ""),
        (None, "", ""),
    ],
)
async def test_one_client(peer: str | None, forwarded: str, address: str) -> None:
    """Only an address that one client has is held to a client's share."""
    client = ClientAddressMiddleware(nothing, networks(PROXIES))
    headers = [("X-Forwarded-For", forwarded)] if forwarded else []
    scope = await located(client, peer, *headers)
    assert ClientAddress(networks(PROXIES)).single_client(scope) == address


async def test_scheme() -> None:
    """A trusted proxy says by which the client came, too."""
    client = ClientAddressMiddleware(nothing, networks(PROXIES))
    for peer, scheme in (("10.0.0.1", "https"), ("192.0.2.1", "http")):
        assert (await located(client, peer, ("X-Forwarded-Proto", "https")))["scheme"] == scheme
