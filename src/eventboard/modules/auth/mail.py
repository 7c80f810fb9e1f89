"""The port that mail leaves by, and what is written. What sends it is chosen at start."""

from datetime import datetime
from typing import Protocol

from loguru import logger
from msgspec import Struct


class Message(Struct, frozen=True):
    to: str
    subject: str
    text: str


class Mail(Protocol):
    async def send(self, message: Message) -> None:
        """Hands it over; one that can't be delivered is logged, and fails no request."""
        ...


class PrintedMail:
    """For development: whoever runs it reads the mail in the log."""

    async def send(self, message: Message) -> None:
        logger.info("mail to {}: {}\n{}", message.to, message.subject, message.text.rstrip())


class NoMail:
    """For production without SMTP: its log must not hold a mail's text, such as an invitation's token."""

    async def send(self, message: Message) -> None:
        logger.warning("no mail is sent; whoever asked for it was told what it would have said")


def invitation(*, to: str, inviter: str, organization: str, role: str, token: str, expires_at: datetime) -> Message:
    """What to do, for somebody who may never have heard of EventBoard."""
    return Message(
        to=to,
        subject=f"{inviter} invites you to {organization} on EventBoard",
        text=f"""\
{inviter} invites you to join {organization} on EventBoard, as {role}.

This is your invitation token:

{token}

It works once, for {to} alone, until {expires_at:%d %B %Y, %H:%M} UTC.

If you have no account yet, sign up with this address and the token as "invitationToken" (POST /auth/signup).
If you have one, log in and join with the token as "invitationToken" (POST /auth/join).
Whoever shows you EventBoard's pages asks for it there.

If you don't know what this is about, do nothing: nobody joins anything without the token.
""",
    )
