"""How names of organizations and e-mail addresses are compared."""

import re
import unicodedata
from uuid import UUID


def email_key(email: str) -> str:
    return email.strip().lower()


def name_key(name: str) -> str:
    """Letters and digits alone, NFKC case-folded; empty where a name has none."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in folded if character.isalnum())


def slug(name: str, organization_id: UUID, *, distinct: bool) -> str:
    """`Acme Corporation` is `acme-corporation`; `distinct` adds the id's random end, where that one is taken."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", ascii_name)) or "org"
    return f"{words}-{organization_id.hex[-8:]}" if distinct else words
