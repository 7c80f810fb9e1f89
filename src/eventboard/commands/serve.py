"""`eventboard serve`: what a process prepares before it serves."""

from importlib.metadata import version

from eventboard.observability.trace_provider import Tracing
from eventboard.settings import PORTS, Settings


def install_tracing(settings: Settings, target: frozenset[str]) -> Tracing:
    """Records requests from here on: in development all, in production a share."""
    parts = [part for part in PORTS if part in target]
    return Tracing(
        service="-".join(["eventboard", *(parts if len(parts) < len(PORTS) else [])]),
        version=version("eventboard"),
        record_all=settings.environment == "development",
        keep=settings.tracing.keep,
    ).install()
