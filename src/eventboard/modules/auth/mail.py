"""Mail: how it is sent, which the settings choose, and the texts."""

import re
import unicodedata
from datetime import datetime
from itertools import pairwise
from typing import Protocol

from loguru import logger
from msgspec import Struct


class Message(Struct, frozen=True):
    to: str
    subject: str
    text: str


class Mail(Protocol):
    async def send(self, message: Message) -> None:
        """Queues the message. One that can't be delivered is logged and fails no request."""
        ...


class PrintedMail:
    """For development: the log shows the mail."""

    async def send(self, message: Message) -> None:
        logger.info("mail to {}: {}\n{}", message.to, message.subject, message.text.rstrip())


class NoMail:
    """For production without SMTP: its log must not hold the text of a mail, such as the token of an invitation."""

    async def send(self, message: Message) -> None:
        logger.warning(
            "no mail is sent: EVENTBOARD_MAIL_HOST is not set; set it, or let ADMINs pass on the tokens of invitations"
        )


# Mail programs make links of text around these: the dots of a domain (also IDNA's three), the "@" of an address, and
# the ":", "/" and "\\" of URLs and paths.
_LINKING = frozenset(".:@/\\\u3002")
_QUOTATION_MARKS = re.compile('["\u00ab\u00bb\u201c-\u201f\u2039\u203a\u301d-\u301f\uff02]')
# Characters of a name that a mail shows: enough for a name, too few for a message.
_SHOWN = 60
# They join letters of some scripts, and can't restore a link.
_JOINERS = "\u200c\u200d"


def quoted(name: str) -> str:
    """A user's own name or an organization's, in quotation marks that it can't close, without anything that becomes a
    link. Every mail shows such names by this function.
    """
    # White space becomes one blank, and hidden characters are removed.
    visible = "".join(character for character in " ".join(name.split()) if not _is_hidden(character))
    broken = "".join(
        f" {character} " if _is_linking(character) and after != " " else character
        for character, after in pairwise(f"{visible} ")
    )
    plain = " ".join(_QUOTATION_MARKS.sub("'", broken).split())
    return f'"{plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1].rstrip() + "…"}"'


def _is_hidden(character: str) -> bool:
    """Control and format characters (which reverse or hide text), and unassigned ones."""
    return unicodedata.category(character)[0] == "C" and character not in _JOINERS


def _is_linking(character: str) -> bool:
    return not _LINKING.isdisjoint(unicodedata.normalize("NFKC", character))


def invitation(
    *, to: str, inviter: str, organization: str, role: str, token: str, expires_at: datetime, address: str
) -> Message:
    """For somebody who may never have heard of EventBoard. `address`: where people reach it; "" if that isn't known."""
    inviter, organization = quoted(inviter), quoted(organization)
    where = f"EventBoard is here:\n\n{address}" if address else f"Ask {inviter} where to find EventBoard."
    return Message(
        to=to,
        subject=f"{inviter} invites you to {organization} on EventBoard",
        text=f"""\
{inviter} invites you to join {organization} on EventBoard, as {role}.
The names between quotation marks are what people have typed in; EventBoard doesn't know them.

This is your invitation token:

{token}

It works once, for {to} alone, until {expires_at:%d %B %Y, %H:%M} UTC.

{where}

If you are new there, sign up with this e-mail address and the token.
If you have an account already, log in and join the organization with the token.

If you don't know what this is about, do nothing: nobody joins anything without the token.
""",
    )
