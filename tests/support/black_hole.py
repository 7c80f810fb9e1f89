"""An address where connections are neither made nor refused, as when its machine is gone."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def black_hole(port: int = 0) -> Iterator[str]:
    """On Linux, who wants to connect to a listener with a full queue hears nothing."""
    with socket.create_server(("127.0.0.1", port), backlog=0) as listener:
        queued = [socket.socket() for _ in range(4)]
        for client in queued:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield "http://127.0.0.1:{}".format(*listener.getsockname()[1:2])
        for client in queued:
            client.close()
