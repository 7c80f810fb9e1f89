"""Which characters a text may hold: patterns for msgspec's Meta, understood alike by Python and by ECMA-262."""

# PostgreSQL can't store NUL; the others have no place in a text that is shown to people, or on a terminal.
CONTROLS = r"\x00-\x1f\x7f-\x9f"
# What can be seen. `\s` leaves out U+FEFF in Python.
_VISIBLE = rf"[^\s\ufeff{CONTROLS}]"


def _of(character: str) -> str:
    """Some of them, one of which can be seen. Whatever the text is, that takes linear time: the event loop waits.

    `$` alone would let one more line end through in Python; the look-ahead takes it back.
    """
    return rf"^(?:(?!{_VISIBLE}){character})*{_VISIBLE}{character}*$(?!\n)"


# One line: no control characters at all, and no separators of lines.
LINE = _of(rf"[^{CONTROLS}\u2028\u2029]")
# Several lines: tabs and line ends too.
LINES = _of(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
