"""Settings that production rejects, and those that it, or development, warns of."""

import re
import zlib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Any, NamedTuple

Values = Mapping[str, Mapping[str, Any]]

# What a browser calls a site: no path, no wildcard, and not the `null` of a page that hides where it is from.
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")
# `trusted_proxies` where the gateway has no proxy in front of it. Unset, production warns.
NO_PROXY = "none"

DAY = 86_400
# Seconds. A stolen access token lasts as long as it says; NIST and OWASP end sessions after 30 days, or much sooner.
LONGEST = {
    "lifetime": DAY,
    "refresh_lifetime": 366 * DAY,
    "session_lifetime": 366 * DAY,
    "invitation_lifetime": 90 * DAY,
}
LOG_IN_LIMITS = ("login_by_address", "login_failures", "login_failures_by_account")
# What is routed on the internet: all of IPv4, and this much of IPv6.
INTERNET = (IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3"))
# Of a compressed credential: 32 random digits take 26 bytes or more, 32 hexadecimal ones 30; a repeated letter, word or
# sixteen characters take 21 or less.
LEAST_BYTES = 24


class Finding(NamedTuple):
    """A key of a section, and what is wrong with it."""

    section: str
    key: str
    why: str


def wrong_values(values: Values) -> Iterator[Finding]:
    """What no environment can use."""
    for origin in split(values["server"]["cors_origins"]):
        if origin not in ("*", "null") and not ORIGIN.fullmatch(origin.replace("*", "x")):
            why = f"must be origins such as https://app.example or http://localhost:5173, not {origin!r}"
            yield Finding("server", "cors_origins", why)


def unsafe_values(values: Values) -> Iterator[Finding]:
    """What production rejects. Missing secrets are found in composition.py: they depend on the target."""
    server, mail = values["server"], values["mail"]
    if values["logs"]["level"] == "DEBUG":
        yield Finding("logs", "level", "production can't log at DEBUG")
    for origin in split(server["cors_origins"]):
        if not ORIGIN.fullmatch(origin):
            why = f"production needs origins such as https://app.example, not {origin!r}"
            yield Finding("server", "cors_origins", why)
    if covers_internet(server["trusted_proxies"]):
        why = "production can't trust the whole internet: anybody could claim any address; name the proxies' networks"
        yield Finding("server", "trusted_proxies", why)
    if mail["host"] and mail["tls"] == "off":
        yield Finding("mail", "tls", "production needs TLS for mail, which contains invitations")
    for key, least in (("memory_kib", 19456), ("iterations", 2)):
        if values["passwords"][key] < least:
            yield Finding("passwords", key, f"production needs {least} or more, as OWASP recommends")
    for key, most in LONGEST.items():
        if values["tokens"][key] > most:
            yield Finding("tokens", key, f"production allows {most} seconds or less, so that stolen tokens expire")
    if not any(values["limits"][key] for key in LOG_IN_LIMITS):
        why = f"production needs a limit on log-ins: {', '.join(LOG_IN_LIMITS)} are all 0, so passwords can be guessed"
        yield Finding("limits", "login_failures", why)


def risky_values(environment: str, values: Values, *, gateway: bool) -> Iterator[Finding]:
    """What may be intended but is risky. `gateway`: whether clients reach this process."""
    server = values["server"]
    if environment == "development":
        if not _is_loopback(server["host"]):
            why = (
                f"DEVELOPMENT MODE on {server['host']}, where others can reach it: it shows mails, metrics and details"
                " of errors, and demo accounts have known passwords; set EVENTBOARD_ENVIRONMENT=production"
            )
            yield Finding("server", "host", why)
    elif gateway and not server["trusted_proxies"].strip():
        why = (
            "not set: behind a proxy that isn't trusted, all clients share one address and its limits; name the"
            f" proxies' networks, or {NO_PROXY!r} if there is none"
        )
        yield Finding("server", "trusted_proxies", why)


def covers_internet(proxies: str) -> bool:
    """Whether the networks together cover half of the internet's addresses or more; False if they can't be parsed."""
    try:
        networks = [ip_network(part) for part in split(proxies)]
    except ValueError:
        return False
    for internet in INTERNET:
        same = collapse_addresses(network for network in networks if network.version == internet.version)  # type: ignore[type-var] # one version only
        covered = sum(
            min(network.num_addresses, internet.num_addresses) for network in same if network.overlaps(internet)
        )
        if covered >= internet.num_addresses / 2:
            return True
    return False


def guessable(credential: str) -> bool:
    """Whether it is repetitive, such as one letter or word over and over."""
    return len(zlib.compress(credential.encode(), level=9, wbits=-15)) < LEAST_BYTES


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split(text: str) -> list[str]:
    """The parts between commas or blanks."""
    return text.replace(",", " ").split()
