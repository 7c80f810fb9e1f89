"""Targets: which parts of EventBoard run in a process, and on which ports."""

from collections.abc import Iterable

from eventboard.settings import ADMIN_ABOVE, PORTS, Settings

ALL = frozenset(PORTS)


def target_of(text: str) -> frozenset[str]:
    """`all`, or parts joined by commas. Raises ValueError."""
    parts = ALL if text == "all" else frozenset(text.split(","))
    if unknown := parts - ALL:
        raise ValueError(f"{', '.join(sorted(unknown))!r} must be all, or some of {', '.join(PORTS)}")
    return parts


def port_of(settings: Settings, target: Iterable[str]) -> int:
    port = settings.server.port
    return next(PORTS[part] for part in PORTS if part in target) if port is None else port


def admin_port_of(settings: Settings, target: Iterable[str]) -> int:
    port, admin_port = port_of(settings, target), settings.server.admin_port
    # Port 0 picks a free one, for this port too.
    return (port and port + ADMIN_ABOVE) if admin_port is None else admin_port
