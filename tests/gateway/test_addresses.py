"""Where a client comes from, told from its connection, or by proxies that are trusted."""

from typing import Any, cast

import pytest
from litestar import Request

from eventboard.gateway.addresses import ClientAddress, networks

PROXIES = "10.0.0.0/8, fd00::/8"


def told(peer: str | None, *headers: tuple[str, str], trusted: str = PROXIES, header: str = "x-forwarded-for") -> str:
    scope = {
        "type": "http",
        "client": None if peer is None else (peer, 50000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    request: Request[Any, Any, Any] = Request(cast("Any", scope))
    return ClientAddress(networks(trusted), header)(request)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("somewhere", ""),
        (None, ""),
    ],
)
def test_connection(peer: str | None, address: str) -> None:
    """Its other end; of an IPv6 address the network that one customer has."""
    assert told(peer) == address


@pytest.mark.parametrize("trusted", ["", PROXIES, "192.0.2.2"])
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP", "CF-Connecting-IP"])
def test_stranger_says_something(name: str, trusted: str) -> None:
    """Who isn't a trusted proxy is where the connection comes from, whatever it says."""
    for value in ("203.0.113.9", "for=203.0.113.9", "10.0.0.1, 203.0.113.9"):
        for header in ("x-forwarded-for", "forwarded"):
            assert told("192.0.2.1", (name, value), trusted=trusted, header=header) == "192.0.2.1"


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
        # Nothing that can be read: the last proxy that is known.
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["unknown"], "10.0.0.1"),
        (["203.0.113.9, unknown"], "10.0.0.1"),
        (["203.0.113.9, unknown, 10.1.2.3"], "10.1.2.3"),
        (["10.2.2.2, 10.1.2.3"], "10.2.2.2"),
        (["203.0.113.999"], "10.0.0.1"),
        (["\x00"], "10.0.0.1"),
    ],
)
def test_trusted_proxy(values: list[str], address: str) -> None:
    """The right-most address that is no trusted proxy's."""
    assert told("10.0.0.1", *(("X-Forwarded-For", value) for value in values)) == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('For="[2001:db8:1:2:3::4]:4711"', "2001:db8:1:2::/64"),
        ('for="203.0.113.9:4711";proto=https;by=10.0.0.1', "203.0.113.9"),
        ("proto=https; for=203.0.113.9", "203.0.113.9"),
        ("for=198.51.100.7, for=203.0.113.9;proto=https, for=10.1.2.3", "203.0.113.9"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=203.0.113.9", "10.0.0.1"),
        ("xfor=203.0.113.9", "10.0.0.1"),
        ("203.0.113.9", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_forwarded(value: str, address: str) -> None:
    """The same in RFC 7239's words."""
    assert told("10.0.0.1", ("Forwarded", value), header="forwarded") == address


def test_the_other_header() -> None:
    """A proxy passes on what it doesn't write itself: that is the client's own word, and isn't read."""
    both = (("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=198.51.100.7"))
    assert told("10.0.0.1", *both, header="x-forwarded-for") == "203.0.113.9"
    assert told("10.0.0.1", *both, header="forwarded") == "198.51.100.7"
    assert told("10.0.0.1", both[1], header="x-forwarded-for") == "10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "somewhere", "10.0.0.0/8;fd00::/8", "*"])
def test_no_network(text: str) -> None:
    """What isn't one is refused; one whose host bits are set is mistaken for another."""
    with pytest.raises(ValueError, match=r".+"):
        networks(text)


def test_networks() -> None:
    """An address is a network of one; blanks and a comma too many are nothing."""
    assert networks("") == networks(" , ") == ()
    assert [str(network) for network in networks(" 10.0.0.1 ,fd00::/8,")] == ["10.0.0.1/32", "fd00::/8"]
