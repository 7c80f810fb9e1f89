"""Mail by SMTP, beside the requests: from a bounded queue, retried a little, finished when the process ends."""

import asyncio
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Literal

import aiosmtplib
import stamina
from loguru import logger
from msgspec import Struct

from eventboard.modules.auth.mail import Message
from eventboard.platform import context

# Mails on their way at once: one address that makes us wait doesn't hold up the next.
SENDERS = 4


class SmtpServer(Struct, frozen=True, kw_only=True):
    """`timeout` and `first_wait` (doubled each time) are in seconds; without a `username` nobody logs in."""

    host: str
    port: int
    tls: Literal["starttls", "implicit", "off"]
    username: str
    password: str
    timeout: float
    retries: int
    first_wait: float


class SmtpMail:
    """`queue` mails may wait; past that one is dropped. `patience` says how many seconds closing may take.

    Raises ValueError where `sender` is no address.
    """

    def __init__(
        self, server: SmtpServer, *, sender: str, queue: int, tls: ssl.SSLContext, patience: Callable[[], float]
    ) -> None:
        self._server = server
        self._tls = None if server.tls == "off" else tls
        name, address = parseaddr(sender) if sender.isprintable() else ("", sender)
        self._from = _address(address, name)
        self._waiting: asyncio.Queue[tuple[Message, str]] = asyncio.Queue(queue)
        self._patience = patience
        self._senders: list[asyncio.Task[None]] = []

    async def send(self, message: Message) -> None:
        correlation_id = context.current().correlation_id
        try:
            self._waiting.put_nowait((message, correlation_id))
        except asyncio.QueueFull:
            logger.bind(correlation_id=correlation_id).error(
                "a mail is dropped: {} wait already", self._waiting.qsize()
            )

    async def open(self) -> None:
        self._senders = [asyncio.create_task(self._run()) for _ in range(SENDERS)]

    async def close(self) -> None:
        """What is waiting is sent still, as long as there is patience."""
        try:
            async with asyncio.timeout(self._patience()):
                await self._waiting.join()
        except TimeoutError:
            logger.error("the process ends with mails unsent: {} wait, and those on their way", self._waiting.qsize())
        for sender in self._senders:
            sender.cancel()
        if self._senders:
            await asyncio.wait(self._senders)

    async def _run(self) -> None:
        while True:
            message, correlation_id = await self._waiting.get()
            try:
                await self._deliver(message, correlation_id)
            except Exception as error:  # noqa: BLE001 - a mail that can't be sent must not end the sending for good
                # No text, no address, no traceback with either: what the server said is enough.
                logger.bind(correlation_id=correlation_id).error("a mail can't be sent: {}", _said(error))
            finally:
                self._waiting.task_done()

    async def _deliver(self, message: Message, correlation_id: str) -> None:
        server = self._server
        # Made once: whoever gets a mail twice, after an answer that was lost, can tell by its id.
        mail = written(message, self._from)

        def again(error: Exception) -> bool:
            if _is_final(error):
                return False
            logger.bind(correlation_id=correlation_id).warning("a mail isn't sent yet: {}", _said(error))
            return True

        async for attempt in stamina.retry_context(
            on=again,
            attempts=server.retries + 1,
            timeout=None,
            wait_initial=server.first_wait,
            wait_jitter=server.first_wait / 10,
            wait_max=math.inf,
        ):
            with attempt:
                await self._attempt(mail, message.to)

    async def _attempt(self, mail: EmailMessage, to: str) -> None:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password or None,
            timeout=server.timeout,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=self._tls,
        )
        try:
            await client.connect()
            await client.send_message(mail, sender=self._from.addr_spec, recipients=[to])
            # It is theirs now, whatever they say to a goodbye.
            with suppress(aiosmtplib.SMTPException):
                await client.quit()
        finally:
            client.close()


def written(message: Message, sender: Address) -> EmailMessage:
    """No name in it can add a header: a line end becomes a blank, and what looks encoded isn't decoded."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = _address(message.to)
    # The library would decode an encoded word of RFC 2047, line ends in it included, and write them out.
    mail["Subject"] = " ".join(message.subject.replace("=?", "= ?").split())
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain=sender.domain)
    # RFC 3834: no out-of-office note comes back.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _address(text: str, name: str = "") -> Address:
    """One address, and no list of them. Raises ValueError."""
    user, _, domain = text.rpartition("@")
    if not user or not domain or not text.isprintable() or "=?" in text:
        raise ValueError(f"{text!r} is no e-mail address")
    try:
        return Address(display_name=name, username=user, domain=domain)
    except (HeaderParseError, ValueError, IndexError):
        raise ValueError(f"{text!r} is no e-mail address") from None


def _is_final(error: Exception) -> bool:
    """A server's 5xx stays what it is, and so does a mistake of ours; what can't be reached now may be there soon."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code >= 500 for refused in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return error.code >= 500
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return True
    return not isinstance(error, (aiosmtplib.SMTPException, OSError))


def _said(error: Exception) -> str:
    """The kind of error, and the server's code; its words could repeat an address, or more."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    return f"{type(error).__name__} {getattr(error, 'code', '')}".rstrip()
