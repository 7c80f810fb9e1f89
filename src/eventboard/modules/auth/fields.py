"""Types of user input, with their bounds."""

from typing import Annotated

from msgspec import Meta

from eventboard.core.text import CONTROLS, LINE, NORMALIZED, SHOWN

# RFC 5321 bounds an address to 254 characters. One "@" between two parts without white space; names.py checks the rest.
# A pasted address may have white space around it.
_PART = rf"[^@\s\ufeff{CONTROLS}]+"
_AROUND = r"[ \t\r\n\xa0\u2000-\u200a\u202f\u205f\u3000\ufeff]*"
LONGEST_EMAIL = 254
_EMAIL_RULE = {"rule": "It must be one e-mail address, such as ada@example.com, without a name, quotes or spaces."}
# Without characters that a mail program could read as a comment, a list, a display name or a quotation.
_PLAIN = rf"[^@\s\ufeff{CONTROLS}()<>\[\]:;,\\\"]+"
# For the OpenAPI document: RE2 has no \u.
_PUBLISHED = {"x-pattern": r"^\s*[^@\s]+@[^@\s]+\s*$"}
Email = Annotated[
    str,
    Meta(
        max_length=LONGEST_EMAIL,
        pattern=rf"^{_AROUND}{_PLAIN}@{_PLAIN}{_AROUND}$",
        extra_json_schema=_PUBLISHED,
        extra=_EMAIL_RULE,
    ),
]
# For log-in to accounts whose address an earlier version accepted.
TriedEmail = Annotated[
    str,
    Meta(
        max_length=LONGEST_EMAIL,
        pattern=rf"^{_AROUND}{_PART}@{_PART}{_AROUND}$",
        extra_json_schema=_PUBLISHED,
        extra=_EMAIL_RULE,
    ),
]
Password = Annotated[str, Meta(min_length=8, max_length=128, extra=NORMALIZED)]
# Only a new password must satisfy the rules. As it was typed: older hashes are of that.
TriedPassword = Annotated[str, Meta(max_length=1024)]
PersonName = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE, extra=SHOWN)]
OrganizationName = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE, extra=SHOWN)]
# Longer than any of ours.
OpaqueToken = Annotated[str, Meta(min_length=1, max_length=256)]
LONGEST_PAGE = 100
Limit = Annotated[int, Meta(ge=1, le=LONGEST_PAGE)]
