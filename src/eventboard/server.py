"""Runs an application on uvicorn until a signal, without losing a request that it has accepted."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from loguru import logger

from eventboard.app import Application
from eventboard.settings import Server as ServerSettings

# Connections that may wait in the kernel until they are accepted.
BACKLOG = 2048
# Seconds that an idle connection is kept: longer than clients keep theirs (adapters/http.py: 30 s; load balancers
# mostly 60 s), so that the side that sends is the side that closes.
KEEP_ALIVE = 75


class ServeError(Exception):
    """One line for the user."""


def listen(host: str, port: int) -> socket.socket:
    """Raises ServeError where the address can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"can't listen on {host}:{port}: {error.strerror}; EVENTBOARD_SERVER_PORT chooses another port"
        ) from None
    listener.setblocking(False)
    return listener


def serve(
    app: Application,
    listener: socket.socket,
    settings: ServerSettings,
    *,
    announce: str = "",
    parent: int | None = None,
) -> None:
    """Returns after SIGINT or SIGTERM, when the requests in flight are done.

    `announce` is printed once it is up. With `parent`, the end of that process is a signal too.
    """
    config = uvicorn.Config(
        app.asgi,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.grace),
        backlog=BACKLOG,
    )
    _Server(config, app, settings, announce, parent).run(sockets=[listener])


class _Server(uvicorn.Server):
    """After a signal it goes on accepting for `drain` seconds, with `Connection: close` and not ready any more."""

    def __init__(
        self, config: uvicorn.Config, app: Application, settings: ServerSettings, announce: str, parent: int | None
    ) -> None:
        super().__init__(config)
        self._gate = app.gate
        self._drain = settings.drain
        self._grace = settings.grace
        self._announce = announce
        self._parent = parent
        self._accept_until = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            raise ServeError("the application did not start; its reason is logged above")
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            logger.info("listening on http://{}:{}", f"[{host}]" if ":" in host else host, port)
        if self._announce:
            print(self._announce, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, by uvicorn."""
        if self._parent is not None and os.getppid() != self._parent:
            self.handle_exit(signal.SIGTERM, None)
        if time.monotonic() >= self._accept_until:
            self.should_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gate.draining:
            # A second Ctrl-C doesn't wait for requests any more.
            if sig == signal.SIGINT:
                super().handle_exit(sig, frame)
                super().handle_exit(sig, frame)
            return
        self._gate.draining = True
        # At a terminal nobody balances load: Ctrl-C needn't wait for a balancer to look away.
        self._accept_until = time.monotonic() + (0 if sig == signal.SIGINT else self._drain)
        self._gate.ends_at = self._accept_until + self._grace

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal again afterwards: a clean stop is a clean exit."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
