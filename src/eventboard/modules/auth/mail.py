"""The port that mail leaves by. What sends it is chosen at start."""

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
        logger.info("mail to {}: {}\n{}", message.to, message.subject, message.text)


class NoMail:
    """For production, which can't send any yet: its log must not hold a mail's text, such as an invitation's token."""

    async def send(self, message: Message) -> None:
        logger.warning("no mail is sent; whoever asked for it was told what it would have said")
