"""Ports for servers that a test starts."""

import random
import socket
from contextlib import ExitStack, suppress

# Below what Linux and others give to outgoing connections: none of those takes a port while its process is away.
_PORTS = range(20_000, 32_768)
_chance = random.SystemRandom()
_held: list[socket.socket] = []


def free_port(*above: int) -> int:
    """One that is this process's until its end; so are those that are so far `above` it.

    Its sockets are bound and don't listen: servers, which set SO_REUSEADDR, may still listen there, and whoever looks
    for a free port in another process finds none.
    """
    while True:
        port = _chance.choice(_PORTS[: len(_PORTS) - max(above, default=0)])
        with ExitStack() as attempt, suppress(OSError):
            holders = [attempt.enter_context(_bound(each)) for each in (port, *(port + each for each in above))]
            attempt.pop_all()
            _held.extend(holders)
            return port


def _bound(port: int) -> socket.socket:
    """Raises OSError where somebody has it."""
    holder = socket.socket()
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return holder
