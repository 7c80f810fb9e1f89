"""Which characters a text may hold: patterns for msgspec's Meta, understood alike by Python and by ECMA-262.

PostgreSQL can't store NUL; the other control characters have no place in a text that is shown to people.
"""

# `$` alone would let one more line end through in Python; the look-ahead takes it back. `\s` leaves out U+0085 in
# ECMA-262 and U+FEFF in Python; named beside it, they make it the same.
# What can be seen.
VISIBLE = r"[^\s\x85\ufeff\x00-\x1f\x7f]"
# One line: no control characters at all, and something that can be seen.
LINE = rf"^[^\x00-\x1f\x7f]*{VISIBLE}[^\x00-\x1f\x7f]*$(?!\n)"
# Several lines: tabs and line ends too.
LINES = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*{VISIBLE}[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$(?!\n)"
