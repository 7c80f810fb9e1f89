"""Variables that Kubernetes puts into every pod for each Service of its namespace (`enableServiceLinks`).

Those of a Service named `eventboard`, or `eventboard-…`, look like settings.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address

_URL = re.compile(r"(?P<protocol>tcp|udp|sctp)://(?P<address>.+):(?P<port>[0-9]{1,5})")
# NAME_PORT and NAME_PORT_80_TCP are URLs, the last also in parts.
_PORT = re.compile(r".+?_PORT(_(?P<port>[0-9]{1,5})_(?P<protocol>TCP|UDP|SCTP)(_(?P<part>PROTO|PORT|ADDR))?)?")
# NAME_SERVICE_PORT is the first port, NAME_SERVICE_PORT_HTTP the one of that name.
_SERVICE_PORT = re.compile(r"_SERVICE_PORT(?=_|$)")


def is_service_link(name: str, environ: Mapping[str, str]) -> bool:
    """Judged by name and value: a mistyped setting has no such value."""
    value = environ[name]
    if name.endswith("_SERVICE_HOST"):
        return _is_address(value)
    # Kubernetes writes no port without its host.
    hosts = (environ.get(f"{name[: found.start()]}_SERVICE_HOST", "") for found in _SERVICE_PORT.finditer(name))
    if _is_port(value) and any(map(_is_address, hosts)):
        return True
    if not (found := _PORT.fullmatch(name)):
        return False
    port, protocol = found["port"], (found["protocol"] or "").lower()
    match found["part"]:
        case "PROTO":
            return value == protocol
        case "PORT":
            return value == port
        case "ADDR":
            return _is_address(value)
    url = _URL.fullmatch(value)
    if url is None or not _is_address(url["address"].removeprefix("[").removesuffix("]")):
        return False
    return port is None or (port, protocol) == (url["port"], url["protocol"])


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
