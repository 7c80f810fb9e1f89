"""The characters that a text may have, and its normalization.

Text that is shown to people is stored in Unicode's normalization form C, so that what looks the same is equal. The
patterns are for msgspec's Meta, and mean the same in Python and in ECMA-262.
"""

import re
import unicodedata

# PostgreSQL can't store NUL; the others don't belong in a text that is shown to people, or on a terminal.
CONTROLS = r"\x00-\x1f\x7f-\x9f"
# Invisible characters: Unicode's Default_Ignorable_Code_Point, annotation marks, noncharacters, the Braille blank.
# Those above U+FFFF are separate: in a pattern ECMA-262 needs the flag `u` for them, which not every validator sets.
_INVISIBLE = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
)
_INVISIBLE_ABOVE = (
    r"\U00013441\U00013442\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    + "".join(rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(1, 17))
)
# In Python `\s` has no U+FEFF, which is among the invisible ones.
_VISIBLE = rf"[^\s{_INVISIBLE}{CONTROLS}]"
INVISIBLE = re.compile(f"[{_INVISIBLE}{_INVISIBLE_ABOVE}]")
_ANY_VISIBLE = re.compile(rf"[^\s{_INVISIBLE}{_INVISIBLE_ABOVE}{CONTROLS}]")

# Combining marks in a row, as in Unicode's Stream-Safe Text Format (UAX 15); no language needs as many. Python needs
# quadratic time to normalize a longer run, and would block the event loop.
MOST_MARKS = 30
# A quick check that most texts pass: marks are neither letters nor digits nor spaces.
_MAY_BE_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{MOST_MARKS + 1}}}")
# The most code points of another canonically equivalent form of one character in form C.
LONGEST_EQUIVALENT = 4

_LINE_BREAKS = "\n\r\x0b\x0c\x85\u2028\u2029"
BLANK = "It must not be blank: it needs a character that can be seen."

# For Meta(extra=...) of a field: its text is in form C; it is shown to people, too.
NORMALIZED = {"normalized": True}
SHOWN = {"normalized": True, "shown": True}


def _pattern(character: str) -> str:
    """One or more such characters, at least one of them visible. It matches any text in linear time.

    The look-ahead is for Python, where `$` alone would accept one more line end.
    """
    return rf"^(?:(?!{_VISIBLE}){character})*{_VISIBLE}{character}*$(?!\n)"


# One line: no control characters and no line separators.
LINE = _pattern(rf"[^{CONTROLS}\u2028\u2029]")
# Several lines: also tabs and line ends.
LINES = _pattern(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The same for the OpenAPI document, as far as a pattern without look-ahead can express it: RE2 has none.
PUBLISHED = {
    LINE: rf"^[^{CONTROLS}]*[^\s{CONTROLS}][^{CONTROLS}]*$",
    LINES: r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$",
}


def normalized(text: str) -> str:
    """In form C. Raises ValueError, with a message for the client, where too many combining marks are in a row."""
    if text.isascii():
        return text
    if _MAY_BE_MARKS.search(text):
        run = 0
        for character in text:
            run = run + 1 if unicodedata.combining(character) else 0
            if run > MOST_MARKS:
                raise ValueError(f"It must not have more than {MOST_MARKS} combining marks in a row.")
    return unicodedata.normalize("NFC", text)


def check_shown(text: str) -> None:
    """What the patterns can't express. Raises ValueError, with a message for the client."""
    if not _ANY_VISIBLE.search(text):
        raise ValueError(BLANK)


def explain(text: str, pattern: str) -> str:
    """Why the text doesn't match a pattern of characters: a message for the client."""
    allowed = re.compile(pattern)
    for position, character in enumerate(text, 1):
        if not allowed.search(f"a{character}a"):
            where = f"character {position} is {_name(character)}"
            rule = "be one line" if character in _LINE_BREAKS else "not have control characters"
            return f"It must {rule}, and {where}."
    return BLANK


def _name(character: str) -> str:
    if character in _LINE_BREAKS:
        return "a line break"
    if character == "\t":
        return "a tab"
    return f"U+{ord(character):04X}"
