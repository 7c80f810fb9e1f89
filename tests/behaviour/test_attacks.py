"""What somebody with bad intent sends, and what comes of it: nothing."""

import re
from uuid import uuid4

import pytest

from tests.support import raw
from tests.support.board import Board, Organization
from tests.support.processes import Process

# How a line of the log begins that was written by the program.
LOG_LINE = re.compile(r"(\x1b\[\d+m)*\d\d:\d\d:\d\d\.\d\d\d|\{")

# Line breaks and terminal commands, as they get into a path or a header.
BREAKS = ("%0A", "%0D%0A", "%0b", "%0c", "%1b[2J", "%C2%85", "%E2%80%A8", "%20")


@pytest.mark.parametrize("where", ["path", "x-correlation-id", "traceparent", "idempotency-key", "if-match"])
def test_log_injection(board: Board, server: tuple[Process, str], organization: Organization, where: str) -> None:
    """Nobody writes a line of the log, or a command to the terminal that shows it."""
    token, marks = organization.user.token, []
    for number, break_ in enumerate((*BREAKS, *(raw_break(break_) for break_ in BREAKS))):
        mark = f"forged{uuid4().hex}"
        marks.append(mark)
        evil = f"{number}{break_}{mark}"
        target = f"/events/{evil}" if where == "path" else f"/events/{uuid4()}"
        headers = () if where == "path" else (f"{where}: {evil}",)
        if where == "path" and not evil.isascii():
            raw.request(board.url, "GET", target.encode("latin-1"), token=token)
        elif not set(evil) & set("\r\n\x00"):
            raw.request(board.url, "GET", target, token=token, headers=headers)
    for line in server[0].output.splitlines():
        if any(mark in line for mark in marks):
            assert LOG_LINE.match(line), line
            assert "\x1b[2J" not in line


def raw_break(escaped: str) -> str:
    """The same bytes, unescaped; each is a character of Latin-1."""
    return re.sub("%(..)", lambda match: chr(int(match[1], 16)), escaped)
