"""Mail by SMTP, in the background: from a bounded queue, with retries; the queue is emptied when the process ends."""

import asyncio
import math
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Literal

import aiosmtplib
import stamina
from aiosmtplib.email import parse_address
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.core import request_context
from eventboard.modules.auth.mail import Message
from eventboard.modules.auth.names import mailbox

# Mails that are sent at once: a slow recipient doesn't delay the others.
SENDERS = 4
# Seconds for the server to answer QUIT when the process ends.
QUIT_TIMEOUT = 0.5


class UndeliverableError(Exception):
    """A mail can't be sent to exactly its address. The message may be logged."""


class SmtpServer(Struct, frozen=True, kw_only=True):
    """`timeout` and `first_wait` (doubled for each retry) are in seconds; without a `username` there is no log-in."""

    host: str
    port: int
    tls: Literal["starttls", "implicit", "off"]
    username: str
    password: str
    timeout: float
    retries: int
    first_wait: float


class SmtpMail:
    """`queue` mails may wait; one more is dropped. `patience` returns the seconds that closing may take.

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
        correlation_id = request_context.current().correlation_id
        try:
            self._waiting.put_nowait((message, correlation_id))
        except asyncio.QueueFull:
            logger.bind(correlation_id=correlation_id).error(
                "a mail is dropped: {} wait already; check the mail server, or raise EVENTBOARD_MAIL_QUEUE",
                self._waiting.qsize(),
            )

    async def open(self) -> None:
        self._senders = [asyncio.create_task(self._run()) for _ in range(SENDERS)]

    async def close(self) -> None:
        """Sends what is queued, within `patience`."""
        try:
            async with asyncio.timeout(self._patience()):
                await self._waiting.join()
        except TimeoutError:
            logger.error(
                "the process ends with mails unsent: {} wait, and those on their way; invite these people again, and"
                " check whether the mail server is slow or EVENTBOARD_SERVER_GRACE short",
                self._waiting.qsize(),
            )
        # Cancelled once, a sender quits politely, which the server may not answer; cancelled again, it stops.
        for _ in range(2):
            for sender in self._senders:
                sender.cancel()
            if self._senders:
                await asyncio.wait(self._senders, timeout=QUIT_TIMEOUT)

    async def _run(self) -> None:
        while True:
            message, correlation_id = await self._waiting.get()
            try:
                await self._deliver(message, correlation_id)
            except Exception as error:  # noqa: BLE001 - a mail that can't be sent must not end the sending for good
                # Without the text and the address, which a traceback could show.
                logger.bind(correlation_id=correlation_id).error(
                    "a mail can't be sent: {}; once the cause is gone, invite that person again",
                    _describe(error),
                )
            finally:
                self._waiting.task_done()

    async def _deliver(self, message: Message, correlation_id: str) -> None:
        server = self._server
        message = replace(message, to=mailbox(message.to))
        # Built once: a mail that is sent twice, after an answer was lost, has one id.
        mail = build_message(message, self._from)

        def is_retryable(error: Exception) -> bool:
            if _is_final(error):
                return False
            logger.bind(correlation_id=correlation_id).warning(
                "a mail isn't sent yet: {}; it is tried again", _describe(error)
            )
            return True

        async for attempt in stamina.retry_context(
            on=is_retryable,
            attempts=server.retries + 1,
            timeout=None,
            wait_initial=server.first_wait,
            wait_jitter=server.first_wait / 10,
            wait_max=math.inf,
        ):
            with attempt:
                # An address beyond ASCII is sent unchanged, to servers with SMTPUTF8 only.
                await aiosmtplib.send(
                    mail,
                    sender=self._from.addr_spec,
                    recipients=[message.to],
                    hostname=server.host,
                    port=server.port,
                    username=server.username or None,
                    password=server.password or None,
                    timeout=server.timeout,
                    use_tls=server.tls == "implicit",
                    start_tls=server.tls == "starttls",
                    tls_context=self._tls,
                )


def build_message(message: Message, sender: Address) -> EmailMessage:
    """No name in it can add a header: a line end becomes a blank, and encoded words aren't decoded."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = _recipient(message.to)
    # The library would decode an encoded word of RFC 2047, with its line ends.
    mail["Subject"] = " ".join(message.subject.replace("=?", "= ?").split())
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain=sender.domain)
    # RFC 3834: prevents out-of-office replies.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _recipient(text: str) -> Address:
    """Raises UndeliverableError where the mail would be sent to another address than the stored one."""
    try:
        address = _address(text)
        exact = address.addr_spec == parse_address(text) == text
    except ValueError:
        exact = False
    if not exact:
        raise UndeliverableError("its address is none that mail can be sent to as it is written")
    return address


def _address(text: str, name: str = "") -> Address:
    """Exactly one address. Raises ValueError."""
    user, _, domain = text.rpartition("@")
    if not user or not domain or not text.isprintable() or "=?" in text:
        raise ValueError(f"{text!r} is no e-mail address")
    try:
        return Address(display_name=name, username=user, domain=domain)
    except (HeaderParseError, ValueError, IndexError):
        raise ValueError(f"{text!r} is no e-mail address") from None


def _is_final(error: Exception) -> bool:
    """Whether a retry is useless: for a 5xx of the server, and for a bug of ours."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refused.code >= 500 for refused in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return error.code >= 500
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return True
    return not isinstance(error, (aiosmtplib.SMTPException, OSError))


def _describe(error: Exception) -> str:
    """The kind of error and the server's code, without its text: that could repeat an address, or more."""
    if isinstance(error, UndeliverableError):
        return str(error)
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return "its address isn't ASCII, and the mail server has no SMTPUTF8"
    return f"{type(error).__name__} {getattr(error, 'code', '')}".rstrip()
