"""Runs an application on uvicorn until a signal, and finishes the requests that it has accepted."""

import asyncio
import errno
import gc
import os
import signal
import socket
import ssl
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import uvicorn
import uvloop
from loguru import logger
from msgspec import Struct

from eventboard.core.asgi import App
from eventboard.core.errors import CommandError
from eventboard.core.signals import handle_signals
from eventboard.settings import Server as ServerSettings
from eventboard.settings import Settings
from eventboard.settings.targets import admin_port_of, port_of
from eventboard.web.descriptors import raise_descriptors
from eventboard.web.serving_state import ServingState
from eventboard.web.upgrade_offers import ignore_offers

# Connections that may wait in the kernel to be accepted.
BACKLOG = 2048
# Bytes of a response that the kernel buffers for a client that doesn't read (Linux doubles it for its own needs).
# Without it the buffer grows to 4 MiB for each connection, which counts as the container's memory.
SEND_BUFFER = 131_072
# Seconds until an idle connection is closed: longer than clients keep theirs (rpc/http_client.py: 4 s; most load
# balancers 60 s), so that no request is sent while the server closes.
KEEP_ALIVE = 75
# Seconds that a connection that has just been accepted has to send its request.
ARRIVING = 0.3
# Seconds between two checks for signals.
POLL = 0.02


class Application(Struct, frozen=True):
    """`serving` is how the server tells the application that it is shutting down; `admin` is the admin port's."""

    asgi: App
    serving: ServingState
    admin: App


class Listeners(Struct, frozen=True):
    public: socket.socket
    admin: socket.socket

    def close(self) -> None:
        self.public.close()
        self.admin.close()


class ServeError(CommandError):
    """One line for the user."""


def listen(host: str, port: int, setting: str = "EVENTBOARD_SERVER") -> socket.socket:
    """Raises ServeError if the address can't be used. The settings `…_HOST` and `…_PORT` begin with `setting`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or "there is no such port"
        advice = f"{setting}_PORT chooses another port"
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            advice = f"{setting}_HOST has to be an address of this machine, such as 127.0.0.1"
        raise ServeError(f"can't listen on {host}:{port}: {reason}; {advice}") from None
    listener.setblocking(False)
    return listener


@contextmanager
def listening(settings: Settings, target: Collection[str]) -> Iterator[Listeners]:
    """On the ports of the settings, or the target's own. Raises ServeError."""
    server = settings.server
    with (
        listen(server.host, port_of(settings, target)) as public,
        listen(server.admin_host, admin_port_of(settings, target), "EVENTBOARD_SERVER_ADMIN") as admin,
    ):
        yield Listeners(public, admin)


def serve(
    app: Application,
    listeners: Listeners,
    settings: ServerSettings,
    *,
    announce: str = "",
    parent: int | None = None,
) -> None:
    """Returns after SIGINT, SIGTERM or SIGHUP, when the requests in progress have ended.

    `announce` is printed once it accepts requests. With `parent`, the end of that process is a signal, too.
    """
    raise_descriptors()
    _Servers(app, listeners, settings).run(announce, parent)


def encryption(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer; None for plain HTTP. Raises ServeError if certificate and key can't be used."""
    if not (settings.tls_certificate or settings.tls_key or settings.tls_client_ca):
        return None
    for name in ("tls_certificate", "tls_key"):
        if not getattr(settings, name):
            raise ServeError(f"EVENTBOARD_SERVER_{name.upper()}: it is not set; TLS needs a certificate and its key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        files = f"{settings.tls_certificate} and {settings.tls_key}"
        raise ServeError(f"{files}: no certificate with its key can be read: {error}") from None
    if settings.tls_client_ca:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise ServeError(f"{settings.tls_client_ca}: no certificates can be read: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Servers:
    """Two uvicorn servers in one event loop: the application's and the admin port's."""

    def __init__(self, app: Application, listeners: Listeners, settings: ServerSettings) -> None:
        tls = encryption(settings)
        self._listeners = listeners
        self._settings = settings
        self._serving = app.serving
        self._signals = deque[int]()
        self._public = _server(
            app.asgi,
            lifespan="on",
            ssl_context_factory=None if tls is None else lambda *_: tls,
            # uvicorn hands it to asyncio, which takes parts of a second.
            timeout_graceful_shutdown=settings.grace,
            backlog=BACKLOG,
        )
        # Its requests change nothing, so they may be aborted.
        self._admin = _server(app.admin, lifespan="off", timeout_graceful_shutdown=1)

    def run(self, announce: str, parent: int | None) -> None:
        """Raises ServeError if the application doesn't start."""
        # uvicorn replaces these handlers while it starts, and `_watch` replaces uvicorn's. Signals that uvicorn caught
        # are raised again at its end, where they have no effect any more.
        with handle_signals(self._caught):
            uvloop.run(self._serve(announce, parent))

    async def _serve(self, announce: str, parent: int | None) -> None:
        admin = asyncio.create_task(self._admin.serve(sockets=[self._listeners.admin]))
        watching = asyncio.create_task(self._watch(announce, parent))
        try:
            await self._public.serve(sockets=[self._listeners.public])
        except SystemExit:
            # Raised by uvicorn if the application's startup fails.
            raise ServeError("the application did not start; its reason is logged above") from None
        finally:
            watching.cancel()
            # The admin port answers until all requests have ended.
            self._admin.should_exit = True
            await admin

    async def _watch(self, announce: str, parent: int | None) -> None:
        """Waits for signals and for the end of the parent."""
        started = False
        with handle_signals(self._caught):
            while True:
                while self._signals:
                    # The terminal's Ctrl-C reaches the parent, too, which sends it again.
                    self._end(self._signals.popleft(), may_force=parent is None)
                if parent is not None and os.getppid() != parent:
                    self._end(signal.SIGTERM)
                if not started and self._public.started and self._admin.started:
                    started = True
                    self._announce(announce)
                await asyncio.sleep(POLL)

    def _caught(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _announce(self, announce: str) -> None:
        scheme = "https" if self._settings.tls_certificate else "http"
        public, admin = _url(self._listeners.public, scheme), _url(self._listeners.admin)
        logger.info("listening on {} and, for operators, on {}", public, admin)
        # Objects from the start live as long as the process: to scan them for cycles took 100 ms each time.
        gc.freeze()
        gc.enable()
        if announce:
            print(announce, flush=True)

    def _end(self, number: int, *, may_force: bool = False) -> None:
        """After SIGTERM it accepts requests for `drain` seconds more, until load balancers see that it isn't ready."""
        if self._serving.draining:
            # A second Ctrl-C aborts the requests in progress.
            if number == signal.SIGINT and may_force:
                self._public.should_exit = self._public.force_exit = self._admin.force_exit = True
            return
        self._serving.draining = True
        # There is no load balancer after Ctrl-C or a closed terminal, nor before the process has started.
        wait = self._settings.drain if number == signal.SIGTERM and self._public.started else 0
        self._serving.ends_at = time.monotonic() + wait + self._settings.grace
        loop = asyncio.get_running_loop()
        if wait:
            # uvicorn closes connections without a request at once, even those that have just been accepted.
            loop.call_later(wait, self._stop_accepting)
            wait += ARRIVING
        loop.call_later(wait, self._stop)

    def _stop_accepting(self) -> None:
        for server in self._public.servers:
            server.close()

    def _stop(self) -> None:
        self._public.should_exit = True


def _server(app: App, **options: Any) -> uvicorn.Server:
    shared: dict[str, Any] = {
        # uvicorn guesses it from whether the application is a coroutine function.
        "interface": "asgi3",
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE,
        # uvicorn trusts any proxy on this machine; gateway/client_address.py has a setting for them.
        "proxy_headers": False,
    }
    return uvicorn.Server(uvicorn.Config(cast("Any", app), http=ignore_offers(app, **shared), **shared, **options))


def _url(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
