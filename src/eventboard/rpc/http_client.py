"""HTTP between our own processes, by aiohttp: a session for each replica, and what aiohttp's errors mean for a call."""

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Mapping
from io import BytesIO

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
)
from msgspec import Struct

from eventboard.core import request_context
from eventboard.rpc.errors import LostError, NeverReachedError
from eventboard.rpc.replicas import Replica

# Seconds that sent bytes may stay unacknowledged before the kernel closes the connection, so that a host that vanished
# costs a retry. A process that is busy or stopped still acknowledges them.
USER_TIMEOUT = 2.0
# Seconds that a replica's session is kept without a call: replicas come and go, and their addresses with them.
SESSION_KEPT = 60.0

# How a TLS handshake fails when its connection ends: the replica restarts, its certificate isn't wrong.
_HANDSHAKE_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Answer(Struct, frozen=True):
    """`headers` is case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooLargeError(Exception):
    """The answer has more bytes than are read."""


class UntrustedError(Exception):
    """TLS failed: one side rejects the other's certificate, or only one of them speaks TLS."""


class _ReplicaSession:
    """The connections to one replica, with the number of calls that are running on them."""

    def __init__(self, http: ClientSession) -> None:
        self.http = http
        self.calls = 0
        self.used_at = time.monotonic()


class HttpClient:
    """`max_answer` is in bytes; `connect_timeout` and `keep_alive` are in seconds. A call's deadline is its caller's.

    `keep_alive`: how long an idle connection is kept, which has to be less than the server keeps it.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        keep_alive: float,
        max_answer: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # aiohttp rounds timeouts above its threshold of 5 s up to whole seconds.
        self._timeout = ClientTimeout(total=None, connect=connect_timeout, ceil_threshold=math.inf)
        self._user_timeout = max(connect_timeout, USER_TIMEOUT)
        self._keep_alive = keep_alive
        self._max_answer = max_answer
        self._tls = tls
        self._sessions: dict[Replica, _ReplicaSession] = {}
        # Sessions that take no new calls, and end with the last one that is running.
        self._retired: set[_ReplicaSession] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(
        self, replica: Replica, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Raises NeverReachedError, LostError, UntrustedError and TooLargeError."""
        session = self._session(replica)
        session.calls += 1
        try:
            async with session.http.request(
                method,
                replica.url + path,
                # As a file, which aiohttp writes part by part.
                data=BytesIO(body) if body else None,
                headers={"host": replica.authority, "accept-encoding": "identity", **headers},
                allow_redirects=False,
                # An answer that ends with its connection may be incomplete.
                read_until_eof=False,
                server_hostname=replica.host if replica.secure else None,
            ) as response:
                return Answer(response.status, response.headers, await self._read(response))
        except ClientSSLError as error:
            if isinstance(error.os_error, _HANDSHAKE_ENDED):
                raise NeverReachedError(str(error)) from error
            raise UntrustedError(str(error)) from error
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise NeverReachedError(str(error)) from error
        except ClientError as error:
            self._retire(replica, session)
            if isinstance(error.__cause__, ssl.SSLError) and not isinstance(error.__cause__, _HANDSHAKE_ENDED):
                # With TLS 1.3 the server verifies the client's certificate after the handshake.
                raise UntrustedError(str(error)) from error
            raise LostError(f"{replica.url}: {type(error).__name__}") from error
        except asyncio.CancelledError:
            if request_context.expired():
                # No answer until the deadline: the connection may be dead, and the idle ones with it.
                self._retire(replica, session)
            raise
        finally:
            session.calls -= 1
            self._close_retired(session)

    async def close(self) -> None:
        """Ends running calls, too."""
        for session in [*self._sessions.values(), *self._retired]:
            await session.http.close()
        self._sessions.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _read(self, response: ClientResponse) -> bytes:
        body = bytearray()
        if (response.content_length or 0) <= self._max_answer:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._max_answer:
                    break
            else:
                return bytes(body)
        response.close()
        raise TooLargeError

    def _session(self, replica: Replica) -> _ReplicaSession:
        """One for each replica, because aiohttp closes idle connections only with their session."""
        session = self._sessions.get(replica)
        if session is None:
            self._retire_unused()
            session = self._sessions[replica] = _ReplicaSession(self._new_session())
        session.used_at = time.monotonic()
        return session

    def _new_session(self) -> ClientSession:
        return ClientSession(
            connector=TCPConnector(
                limit=0,
                keepalive_timeout=self._keep_alive,
                ssl=True if self._tls is None else self._tls,
                socket_factory=self._socket,
            ),
            timeout=self._timeout,
            skip_auto_headers=("Accept", "User-Agent"),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )

    def _socket(self, address: tuple[int, int, int, str, object]) -> socket.socket:
        made = socket.socket(*address[:3])
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._user_timeout * 1000))
        return made

    def _retire(self, replica: Replica, session: _ReplicaSession) -> None:
        """The next call makes a new connection; running calls go on."""
        if self._sessions.get(replica) is session:
            del self._sessions[replica]
            self._retired.add(session)

    def _retire_unused(self) -> None:
        oldest = time.monotonic() - SESSION_KEPT
        for replica, session in list(self._sessions.items()):
            if session.used_at < oldest and not session.calls:
                self._retire(replica, session)
                self._close_retired(session)

    def _close_retired(self, session: _ReplicaSession) -> None:
        if session in self._retired and not session.calls:
            self._retired.remove(session)
            closing = asyncio.create_task(session.http.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def client_tls(ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """Trusts the CA in that PEM file, or the machine's CAs. Raises OSError for files that aren't readable PEM files."""
    tls = ssl.create_default_context(cafile=ca or None)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    if certificate:
        tls.load_cert_chain(certificate, key)
    return tls
