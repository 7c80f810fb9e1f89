"""Which texts are let in."""

import re
import time
from typing import get_args

import pytest

from eventboard.core.text import LINE, LINES
from eventboard.gateway.normalization import normalize
from eventboard.modules.auth.fields import Email, TriedEmail
from eventboard.modules.events.contract import EventDraft

ADDRESS, TRIED_ADDRESS = (get_args(type_)[1].pattern for type_ in (Email, TriedEmail))
PATTERNS = {"a line": LINE, "lines": LINES, "an e-mail address": ADDRESS, "any address": TRIED_ADDRESS}
VISIBLE = ["a", "é", "日", "😀", "·"]
CONTROLS = ["\x00", "\x01", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9b", "\x9f"]
ENDS = ["\u2028", "\u2029"]
BLANKS = [" ", "\xa0", "\u2003", "\u3000", "\ufeff", "\u200b", "\u2066", "\xad", "\u3164", "\u2800", "\ufe0f"]


@pytest.mark.parametrize("pattern", [LINE, LINES], ids=["a line", "lines"])
def test_characters(pattern: str) -> None:
    """Of the rest of a text, and of its ends: no control character; and something can be seen."""
    for character in VISIBLE:
        for text in (character, f"a{character}b", f" {character} "):
            assert re.search(pattern, text), text
    for character in CONTROLS:
        for text in (character, f"a{character}b", f"a{character}", f"{character}a"):
            assert not re.search(pattern, text), text
    for blank in BLANKS:
        assert not re.search(pattern, blank * 3), blank
        assert re.search(pattern, f"{blank}a{blank}"), blank


@pytest.mark.parametrize("end", ["\n", "\r", "\t", *ENDS])
def test_ends_of_lines(end: str) -> None:
    """Only where there may be several lines, and at least one of them is seen."""
    for text in (f"a{end}b", f"{end}a", f"a{end}"):
        assert not re.search(LINE, text), text
        assert re.search(LINES, text), text
    assert not re.search(LINES, end * 10)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("begin", ["a", " ", "a ", "a@a", " a@ ", "日本"])
@pytest.mark.parametrize("end", ["\x01", "\n", "@", ""])
def test_long_texts(pattern: str, begin: str, end: str) -> None:
    """Whatever one is, the time that it takes grows with its length, and not faster: the event loop waits for it."""
    text = begin * 50_000 + end
    started = time.thread_time()
    re.search(pattern, text)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize(
    "text",
    ["\u0301\u0316" * 10_000, "e\u0301" * 10_000, "e" + "\u0316" * 30 + "\u0301" * 200_000, "\u202a\u202c" * 500_000],
    ids=["marks in the wrong order", "composable", "more than one character takes", "directions"],
)
def test_long_texts_to_normalize(text: str) -> None:
    """Likewise. Python's own normalization takes the square of a run of marks."""
    started = time.thread_time()
    normalize({"title": text[:800], "description": text[:20_000], "location": text}, EventDraft)
    assert time.thread_time() - started < 0.2
