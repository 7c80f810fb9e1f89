"""Runs an application on uvicorn until a signal, without losing a request that it has accepted."""

import asyncio
import gc
import os
import signal
import socket
import ssl
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn
from loguru import logger
from msgspec import Struct

from eventboard.app import Application, admin_port_of, build, port_of
from eventboard.platform.asgi import App
from eventboard.platform.connections import Connection, bounded
from eventboard.platform.logs import Log
from eventboard.settings import Server as ServerSettings
from eventboard.settings import Settings

# Seconds between two looks at the clients; a fourth of what they may take, where that is little.
LOOK_EVERY = 1.0
# Connections that may wait in the kernel until they are accepted.
BACKLOG = 2048
# Seconds that an idle connection is kept: longer than clients keep theirs (adapters/http1.py: 30 s; load balancers
# mostly 60 s), so that the side that sends is the side that closes.
KEEP_ALIVE = 75
# Seconds after the last connection was accepted in which its request may still arrive.
ARRIVING = 0.3


class Listeners(Struct, frozen=True):
    """`admin` is for operators. `own` is where the other workers of a group ask this one."""

    public: socket.socket
    admin: socket.socket
    own: socket.socket | None = None

    def close(self) -> None:
        self.public.close()
        self.admin.close()


class ServeError(Exception):
    """One line for the user."""


def listen(host: str, port: int, chosen_by: str = "EVENTBOARD_SERVER_PORT") -> socket.socket:
    """Raises ServeError where the address can't be had; `chosen_by` is the setting that names another port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or "there is no such port"
        raise ServeError(f"can't listen on {host}:{port}: {why}; {chosen_by} chooses another port") from None
    listener.setblocking(False)
    return listener


@contextmanager
def listening(settings: Settings, target: Collection[str]) -> Iterator[Listeners]:
    """Where the settings say, or the target is known for. Raises ServeError."""
    server = settings.server
    with (
        listen(server.host, port_of(settings, target)) as public,
        listen(server.admin_host, admin_port_of(settings, target), "EVENTBOARD_SERVER_ADMIN_PORT") as admin,
    ):
        yield Listeners(public, admin)


def prepared(settings: Settings, target: frozenset[str], log: Log | None = None) -> Application:
    """What is to be served. Raises SettingsError, KeyFileError and ServeError where the settings let nothing be."""
    app = build(settings, target, log=log)
    encryption(settings.server)
    return app


def serve(
    app: Application,
    listeners: Listeners,
    settings: ServerSettings,
    *,
    announce: str = "",
    parent: int | None = None,
) -> None:
    """Returns after SIGINT or SIGTERM, when the requests in flight are done.

    `announce` is printed once it is up. With `parent`, the end of that process is a signal too.
    """
    tls = encryption(settings)
    config = uvicorn.Config(
        app.asgi,
        http=bounded(most=settings.max_headers),
        ws="none",
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        # uvicorn would believe whoever connects from this machine; which proxies to trust is gateway/addresses.py's.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.grace),
        backlog=BACKLOG,
    )
    sides = [_Side(app.admin, listeners.admin)]
    if listeners.own is not None:
        sides.append(_Side(app.own, listeners.own))
    _Server(config, app, sides, settings, announce, parent).run(sockets=[listeners.public])


class _Side(uvicorn.Server):
    """Serves a second application in the loop of the first, as long as that one serves and drains."""

    def __init__(self, app: App, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            # Nobody's work is lost with an answer about it.
            timeout_graceful_shutdown=1,
        )
        config.load()
        super().__init__(config)
        self.lifespan = config.lifespan_class(config)
        self.listener = listener

    async def open(self) -> None:
        await self.startup([self.listener])

    async def close(self) -> None:
        await self.shutdown([self.listener])


def encryption(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer; None where it speaks plain HTTP. Raises ServeError for what is no certificate with its key."""
    if not (settings.tls_certificate or settings.tls_key):
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
    return context


class _Server(uvicorn.Server):
    """After a signal it goes on accepting for `drain` seconds, with `Connection: close` and not ready any more."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Application,
        sides: Sequence["_Side"],
        settings: ServerSettings,
        announce: str,
        parent: int | None,
    ) -> None:
        super().__init__(config)
        self._sides = sides
        self._gate = app.gate
        self._drain = settings.drain
        self._grace = settings.grace
        self._announce = announce
        self._parent = parent
        self._accept_until = float("inf")
        self._client_timeout = settings.client_timeout
        self._scheme = "https" if settings.tls_certificate else "http"
        self._look_at = 0.0
        self._hurried = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            raise ServeError("the application did not start; its reason is logged above")
        for side in self._sides:
            await side.open()
        for listener in sockets or []:
            admin = _url(self._sides[0].listener)
            logger.info("listening on {} and, for operators, on {}", _url(listener, self._scheme), admin)
        # What is there now stays: looking through it for cycles held up every request for 100 ms, again and again.
        gc.freeze()
        gc.enable()
        if self._announce:
            print(self._announce, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, by uvicorn."""
        if self._parent is not None and os.getppid() != self._parent:
            self.handle_exit(signal.SIGTERM, None)
        now = time.monotonic()
        if now >= self._accept_until:
            self.should_exit = True
        if now >= self._look_at:
            self._look_at = now + min(LOOK_EVERY, self._client_timeout / 4)
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now, patience=self._client_timeout)
        for side in self._sides:
            await side.on_tick(counter)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, which closes connections without a request at once, those too that were made a moment ago."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        if self.server_state.connections and not self._hurried:
            await asyncio.sleep(ARRIVING)
        await super().shutdown(sockets)
        await asyncio.gather(*(side.close() for side in self._sides))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gate.draining:
            # A second Ctrl-C doesn't wait for requests any more.
            if sig == signal.SIGINT:
                super().handle_exit(sig, frame)
                super().handle_exit(sig, frame)
            return
        self._gate.draining = True
        # At a terminal nobody balances load: Ctrl-C needn't wait for a balancer to look away.
        self._hurried = sig == signal.SIGINT
        self._accept_until = time.monotonic() + (0 if self._hurried else self._drain)
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


def _url(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
