"""Mail by SMTP, against a real server of it."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from loguru import logger
from msgspec.structs import replace

from eventboard.modules.auth.mail import Message, invitation, quoted
from eventboard.modules.auth.smtp import SmtpMail, SmtpServer, build_message
from tests.support.board import Board
from tests.support.certificates import certificate
from tests.support.mailbox import Mailbox, mailbox
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, serving
from tests.support.stopwatch import Stopwatch

SENDER = "EventBoard <board@example.com>"
MAIL = Message(to="nia@example.com", subject="Come", text="canary-token")


def server_at(port: int) -> SmtpServer:
    return SmtpServer(
        host="127.0.0.1", port=port, tls="off", username="", password="", timeout=PATIENCE, retries=2, first_wait=0.01
    )


@asynccontextmanager
async def sending(
    server: SmtpServer, *, queue: int = 10, patience: float = PATIENCE, tls: ssl.SSLContext | None = None
) -> AsyncIterator[SmtpMail]:
    context = tls or ssl.create_default_context()
    mail = SmtpMail(server, sender=SENDER, queue=queue, tls=context, patience=lambda: patience)
    await mail.open()
    try:
        yield mail
    finally:
        await mail.close()


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as box:
        yield box


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message} {exception}", diagnose=True)
    yield lines
    logger.remove(sink)


async def test_delivered(box: Mailbox) -> None:
    """What arrives says whom it is from, whom it is for, and the text as it was written."""
    async with sending(server_at(box.port)) as mail:
        await mail.send(Message(to="nia@example.com", subject="Grüße", text="Zeile 1\nZeile 2, für Nía\n"))
        (arrived,) = await box.until(1)
    assert box.envelopes[0].mail_from == "board@example.com"
    assert box.envelopes[0].rcpt_tos == ["nia@example.com"]
    assert str(arrived["From"]) == SENDER
    assert str(arrived["To"]) == "nia@example.com"
    assert str(arrived["Subject"]) == "Grüße"
    assert arrived["Auto-Submitted"] == "auto-generated"
    assert arrived["Message-ID"].endswith("@example.com>")
    assert arrived.get_content().splitlines() == ["Zeile 1", "Zeile 2, für Nía"]


async def test_domain_that_is_not_in_ascii(box: Mailbox) -> None:
    """It is in Punycode on the way, which servers without SMTPUTF8 take."""
    async with sending(server_at(box.port)) as mail:
        await mail.send(Message(to="nia@m\u00fcnchen.example", subject="Come", text="Now\n"))
        (arrived,) = await box.until(1)
    assert box.envelopes[0].rcpt_tos == ["nia@xn--mnchen-3ya.example"]
    assert str(arrived["To"]) == "nia@xn--mnchen-3ya.example"


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("https://example.com/board", "EventBoard is here:\n\nhttps://example.com/board\n"),
        ("", 'Ask "Ada Admin" where to find EventBoard.\n'),
    ],
)
def test_invitation_says_what_to_do(address: str, where: str) -> None:
    """Who invites, to what, until when, where, and both ways to use the token, in words for people."""
    text = invitation(
        to="nia@example.com",
        inviter="Ada Admin",
        organization="Acme Corporation",
        role="MODERATOR",
        token="the-token",
        expires_at=datetime(2027, 3, 1, 18, 0, tzinfo=UTC),
        address=address,
    ).text
    assert "/auth/" not in text
    for part in (
        where,
        '"Ada Admin" invites you to join "Acme Corporation"',
        "as MODERATOR",
        "\nthe-token\n",
        "for nia@example.com alone",
        "01 March 2027, 18:00 UTC",
        "sign up with this e-mail address and the token",
        "log in and join the organization with the token",
    ):
        assert part in text


# What mail programs make links of: a URL, a domain, an address, a path.
LINK = re.compile(r"\w+:\S|\S[.\u3002\uff0e\uff61\u2024]\w|\S@|@\S|//|\\\\\\\\|www\.", re.IGNORECASE)


@pytest.mark.parametrize(
    "name",
    [
        "https://evil.example/win?a=b",
        "HTTP://EVIL.EXAMPLE",
        "evil.example",
        "www.evil.example",
        "evil.example.",
        "evil\u3002example",
        "\uff45\uff56\uff49\uff4c\uff0e\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45",
        "evil\uff61example",
        "evil\u2024example",
        "evil.\u200bexample",
        "evil\u200d.\u200dexample",
        "evil\u00ad.example",
        "eve@evil.example",
        "eve\uff20evil.example",
        "mailto:eve@evil.example",
        "tel:+1-900-555",
        "javascript:alert(1)",
        "file:\\\\\\\\evil\\share",
        "\\\\\\\\evil\\share",
        "//evil.example",
        "192.0.2.1/win",
        "[2001:db8::1]",
        '" at https://evil.example "',
        "Win\u2029https://evil.example",
        "\u202eelpmaxe.live\u202c",
        "x" * 58 + ".example",
    ],
)
def test_name_that_would_be_a_link(name: str) -> None:
    """Neither subject nor text has one of it, whoever bears the name, and it can't leave its quotation marks."""
    for inviter, organization in ((name, "Acme"), ("Ada", name)):
        mail = invitation(
            to="nia@example.com",
            inviter=inviter,
            organization=organization,
            role="USER",
            token="the-token",
            expires_at=datetime(2027, 3, 1, 18, 0, tzinfo=UTC),
            address="",
        )
        first = mail.text.partition("\n")[0]
        for line in (mail.subject, first):
            assert line.count('"') == 4
            for shown in re.findall('"([^"]*)"', line):
                assert not LINK.search(shown), line
                assert len(shown) <= 60
                assert not re.search("[\u200b\u00ad\u202a-\u202e\u2028\u2029]", shown)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada Admin", '"Ada Admin"'),
        ("J. R. R. Tolkien", '"J. R. R. Tolkien"'),
        ("O'Neil & Søn", '"O\'Neil & Søn"'),
        ("दिन", '"दिन"'),
        ("می‌خواهم", '"می‌خواهم"'),
        ("Acme “The Best”", "\"Acme 'The Best'\""),
    ],
)
def test_ordinary_name(name: str, shown: str) -> None:
    """It is shown as it is."""
    assert quoted(name) == shown


@pytest.mark.parametrize(
    "name",
    [
        "Eve\r\nBcc: spy@example.org",
        "Eve\nBcc: spy@example.org",
        "Eve\rBcc: spy@example.org",
        "Eve\x85Bcc: spy@example.org",
        "Eve\u2028Bcc: spy@example.org",
        "Eve\r\n\r\nThis is the text now.\r\n.\r\nMAIL FROM:<spy@example.org>",
        "=?utf-8?q?Eve=0d=0aBcc=3a_spy=40example=2eorg?=",
        "x" * 990 + "\r\nBcc: spy@example.org",
    ],
)
async def test_name_that_would_be_a_header(box: Mailbox, name: str) -> None:
    """However a name is made, it adds no header, no receiver and no second mail."""
    async with sending(server_at(box.port)) as mail:
        await mail.send(
            invitation(
                to="nia@example.com",
                inviter=name,
                organization=name,
                role="USER",
                token="the-token",
                expires_at=datetime.now(UTC),
                address="",
            )
        )
        (arrived,) = await box.until(1)
    assert box.envelopes[0].rcpt_tos == ["nia@example.com"]
    assert set(arrived.keys()) == set(build_message(MAIL, arrived["From"].addresses[0]).keys())
    assert "the-token" in arrived.get_content()


@pytest.mark.parametrize(
    "address",
    [
        "a,b@example.com",
        "a;b@example.com",
        "ann(x)@example.com",
        "ann@example.com(x)",
        "ann@exa(x)mple.com",
        "(x)nia@example.com",
        "mailto:ann@example.com",
        '"a b"@example.com',
        "a b@example.com",
        "<nia@example.com>",
        "<nia@example.com",
        "nia@example.com>",
        "Nia <nia@example.com>",
        "nia@example.com,spy",
        "nia@example.com,spy@example.org",
        "nia@example.com> SIZE=1",
        "nia@example.com\r\nRCPT TO:<spy@example.org>",
        " nia@example.com",
        "nia@example.com ",
        "nia@",
        "nia",
        "=?utf-8?q?nia=0d=0aBcc=3aspy?=@example.com",
    ],
)
async def test_address_that_would_be_another(box: Mailbox, logged: list[str], address: str) -> None:
    """What would be read otherwise than it was stored reaches nobody; the log says so, without the address."""
    async with sending(server_at(box.port)) as mail:
        await mail.send(replace(MAIL, to=address))
        await mail.send(replace(MAIL, subject="after it"))
    assert [str(arrived["Subject"]) for arrived in box.mails] == ["after it"]
    assert "a mail can't be sent: its address is none that mail can be sent to as it is written" in logged[-1]
    assert address.strip() not in "".join(logged)


EXACT = ["ann+tag@example.com", "o'neil@example.com", "a/b=c@example.com", "grüße@example.com"]
# Domains are written as mail servers know them.
IN_ASCII = {
    "nia@bücher.example": "nia@xn--bcher-kva.example",
    "nia@xn--bcher-kva.example": "nia@xn--bcher-kva.example",
    "用户@例子.广告": "用户@xn--fsqu00a.xn--4rr70v",
}


@pytest.mark.parametrize(("stored", "address"), [*((each, each) for each in EXACT), *IN_ASCII.items()])
async def test_exactly_the_address(box: Mailbox, stored: str, address: str) -> None:
    """The envelope and the header have it as it was stored."""
    async with sending(server_at(box.port)) as mail:
        await mail.send(replace(MAIL, to=stored))
        await box.until(1)
    assert box.envelopes[0].rcpt_tos == [address]
    assert isinstance(box.envelopes[0].content, bytes)
    assert f"\r\nTo: {address}\r\n".encode() in box.envelopes[0].content
    assert ("SMTPUTF8" in box.envelopes[0].mail_options) is not address.isascii()


async def test_server_without_international_addresses(logged: list[str]) -> None:
    """What isn't ASCII isn't written otherwise: it stays here, the log says why, and other mail goes out."""
    async with mailbox(international=False) as box:
        async with sending(server_at(box.port)) as mail:
            for address in ("grüße@example.com", "用户@例子.广告"):
                await mail.send(replace(MAIL, to=address))
            await mail.send(MAIL)
        assert [envelope.rcpt_tos for envelope in box.envelopes] == [["nia@example.com"]]
        assert box.tried == 1
    assert len(logged) == 2
    assert all("its address isn't ASCII, and the mail server has no SMTPUTF8" in line for line in logged)


async def test_refused_for_now(box: Mailbox, logged: list[str]) -> None:
    """It is tried again, as the same mail."""
    box.refusals.extend(["451 canary-token: later", "451 later"])
    async with sending(server_at(box.port)) as mail:
        await mail.send(MAIL)
        await box.until(1)
    assert box.tried == 3
    expected = "a mail isn't sent yet: SMTPRecipientRefused 451; it is tried again"
    assert [line.split("\n")[0].rstrip() for line in logged] == [expected] * 2


async def test_long_wait(box: Mailbox) -> None:
    """It is as long as it is set; what a server may take to answer doesn't end it."""
    box.refusals.append("451 later")
    async with sending(replace(server_at(box.port), timeout=1, first_wait=1.3)) as mail:
        await mail.send(MAIL)
        await box.until_tried(1)
        begun = time.monotonic()
        await box.until(1)
        assert time.monotonic() - begun > 1.2  # the first try was a moment ago


@pytest.mark.parametrize("refusals", [["550 no canary-token here"], ["451 later"] * 3])
async def test_refused_for_good(box: Mailbox, logged: list[str], refusals: list[str]) -> None:
    """It is logged, without a word of it or of the server's; the next one goes out."""
    box.refusals.extend(refusals)
    async with sending(server_at(box.port)) as mail:
        await mail.send(MAIL)
        await box.until_tried(len(refusals))
        await mail.send(replace(MAIL, subject="after it"))
        await box.until(1)
    assert f"a mail can't be sent: SMTPRecipientRefused {refusals[0][:3]}" in logged[-1]
    assert not re.search("canary|nia@", "".join(logged))
    assert box.tried == len(refusals) + 1


async def test_nobody_there(logged: list[str]) -> None:
    """Whoever hands over a mail isn't told, and waits for nothing."""
    async with sending(server_at(free_port())) as mail:
        await mail.send(MAIL)
    assert "a mail can't be sent: SMTPConnectError" in logged[-1]
    assert not re.search("canary|nia@", "".join(logged))


async def test_server_that_holds_mail_up(box: Mailbox, logged: list[str]) -> None:
    """Handing over takes no time; past the queue's end mails are dropped, and the log says so."""
    box.open.clear()
    async with sending(server_at(box.port), queue=3) as mail:
        begun = time.monotonic()
        for _ in range(3):
            await mail.send(MAIL)
        assert time.monotonic() - begun < 1
        await mail.send(MAIL)
        assert "a mail is dropped: 3 wait already" in logged[-1]
        box.open.set()
        await box.until(3)
    assert len(box.envelopes) == 3


async def test_process_that_ends(box: Mailbox) -> None:
    """What was handed over is sent still."""
    async with sending(server_at(box.port)) as mail:
        for _ in range(10):
            await mail.send(MAIL)
    assert len(box.envelopes) == 10


async def test_process_that_ends_while_mail_is_held_up(box: Mailbox, logged: list[str]) -> None:
    """It ends when its time is over, and says that mails are lost."""
    box.open.clear()
    with Stopwatch() as watch:
        async with sending(server_at(box.port), patience=0.2) as mail:
            for _ in range(6):
                await mail.send(MAIL)
            await box.until_tried(1)
    assert watch.seconds < 4
    assert "the process ends with mails unsent" in logged[-1]
    box.open.set()


async def test_log_in_over_tls(tmp_path: Path) -> None:
    """With STARTTLS, a certificate that is trusted, and an account."""
    made = certificate(tmp_path)
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    theirs.load_cert_chain(made.certificate, made.key)
    ours.load_verify_locations(made.certificate)
    async with mailbox(theirs) as box:
        server = replace(server_at(box.port), tls="starttls", username="board", password="secret")
        async with sending(server, tls=ours) as mail:
            await mail.send(MAIL)
            await box.until(1)
        assert box.log_ins == [("board", "secret")]


async def test_certificate_of_a_stranger(tmp_path: Path, logged: list[str]) -> None:
    """Neither account nor mail is shown to who can't prove who they are."""
    made = certificate(tmp_path)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(made.certificate, made.key)
    async with mailbox(theirs) as box:
        server = replace(server_at(box.port), tls="starttls", username="board", password="secret", retries=0)
        async with sending(server) as mail:
            await mail.send(MAIL)
        assert (box.log_ins, box.envelopes) == ([], [])
    assert "a mail can't be sent: " in logged[-1]


async def test_server_without_tls(box: Mailbox, logged: list[str]) -> None:
    """What has to be encrypted isn't sent in the clear instead."""
    async with sending(replace(server_at(box.port), tls="starttls")) as mail:
        await mail.send(MAIL)
    assert box.envelopes == []
    assert "a mail can't be sent: " in logged[-1]


async def test_invited_by_a_process_that_ends(box: Mailbox, database_url: str, tmp_path: Path) -> None:
    """The answer doesn't wait for the mail; the mail leaves before the process does; the log holds no token."""
    box.open.clear()
    settings = {"MAIL_HOST": "127.0.0.1", "MAIL_PORT": str(box.port), "MAIL_TLS": "off", "MAIL_SENDER": SENDER}

    def invite_and_end() -> tuple[str, str]:
        with serving(database_url, tmp_path, **settings) as process:
            board = Board(process.url, database_url)
            admin = board.organization().admin
            answer = admin.http.post("/invitations", json={"email": "nia@example.com", "role": "USER"})
            assert answer.status_code == 201
            board.close()
            loop.call_soon_threadsafe(box.open.set)
            assert process.stop() == 0
            return answer.json()["token"], process.output

    loop = asyncio.get_running_loop()
    token, output = await asyncio.to_thread(invite_and_end)
    (arrived,) = box.mails
    assert token in arrived.get_content()
    assert token not in output
