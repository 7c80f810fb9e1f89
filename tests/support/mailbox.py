"""A mail server to send to: it keeps what it gets, and can be in a bad mood."""

import asyncio
import email
import email.policy
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.processes import PATIENCE


class Mailbox:
    """`refusals` are answered to the next mails in their place; `log_ins` are all there were.

    While `open` isn't set, no mail is answered.
    """

    def __init__(self) -> None:
        self.refusals: deque[str] = deque()
        self.tried = 0
        self.log_ins: list[tuple[str, str]] = []
        self.envelopes: list[Envelope] = []
        self.open = asyncio.Event()
        self.open.set()
        self.port = 0
        self._changed = asyncio.Condition()

    @property
    def mails(self) -> list[EmailMessage]:
        return [self._parsed(envelope) for envelope in self.envelopes]

    async def until(self, count: int) -> list[EmailMessage]:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.envelopes) >= count)
        return self.mails

    async def until_tried(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.tried >= count)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        async with self._changed:
            self.tried += 1
            self._changed.notify_all()
        if self.refusals:
            return self.refusals.popleft()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        await self.open.wait()
        async with self._changed:
            self.envelopes.append(envelope)
            self._changed.notify_all()
        return "250 kept"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.log_ins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    @staticmethod
    def _parsed(envelope: Envelope) -> EmailMessage:
        assert isinstance(envelope.content, bytes)
        return email.message_from_bytes(envelope.content, policy=email.policy.default)


@asynccontextmanager
async def mailbox(tls: ssl.SSLContext | None = None, *, international: bool = True) -> AsyncIterator[Mailbox]:
    """In this loop, on a free port. With `tls` it wants STARTTLS, and a log-in. `international`: it has SMTPUTF8."""
    box = Mailbox()
    wanted = tls is not None
    connections: set[SMTP] = set()

    def connected() -> SMTP:
        connection = SMTP(
            box,
            enable_SMTPUTF8=international,
            tls_context=tls,
            require_starttls=wanted,
            auth_required=wanted,
            authenticator=box.authenticate,
        )
        connections.add(connection)
        return connection

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.close()
