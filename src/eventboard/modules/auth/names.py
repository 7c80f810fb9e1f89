"""Normalization: of e-mail addresses and organization names for comparison, of passwords for hashing."""

import re
import unicodedata
from uuid import UUID

import email_validator
import idna
from anyascii import anyascii
from email_validator import EmailNotValidError, validate_email

from eventboard.core.text import INVISIBLE

# Only a mail shows whether it reaches a domain: an intranet's `.local` is valid.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

# Characters of a slug: some words of a name, far below the limit of an index.
LONGEST_SLUG = 100

_NOT_ASCII_SPACE = re.compile(r"[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def email_key(email: str) -> str:
    """The address that is stored and compared: the local part in form C, the domain as Unicode (UTS 46), in lower case.

    Invisible characters and white space around it are removed. Raises ValueError, with a sentence for the client, where
    it is no address.
    """
    typed = _typed(email)
    try:
        address = validate_email(typed, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return unicodedata.normalize("NFC", address.normalized.lower())


def email_key_or_typed(email: str) -> str:
    """For existing accounts: earlier versions accepted addresses that `email_key` doesn't."""
    try:
        return email_key(email)
    except ValueError:
        return unicodedata.normalize("NFC", _typed(email).lower())


def email_spellings(email: str) -> list[str]:
    """How earlier versions, which stored an address as it was typed in lower case, may have stored this one.

    The most likely first: exactly as it is typed now, then `email_key`, then canonically equivalent forms of that.
    """
    key = email_key_or_typed(email)
    local, _, domain = key.rpartition("@")
    domains = [domain, unicodedata.normalize("NFD", domain), ascii_domain(domain)]
    locals_ = [local, unicodedata.normalize("NFD", local)]
    spelled = [email.strip().lower(), *(f"{local}@{domain}" for local in locals_ for domain in domains)]
    return list(dict.fromkeys(spelled))


def mailbox(email: str) -> str:
    """With the domain in ASCII, for mail servers that know no other."""
    local, _, domain = email.rpartition("@")
    return f"{local}@{ascii_domain(domain)}"


def ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return domain


def _typed(email: str) -> str:
    return INVISIBLE.sub("", email).strip()


def name_key(name: str) -> str:
    """Letters, digits and their combining marks, NFKC case-folded; empty where a name has no letter and no digit."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    kept = [character for character in INVISIBLE.sub("", folded) if character.isalnum() or _is_mark(character)]
    return "".join(kept) if any(character.isalnum() for character in kept) else ""


def _is_mark(character: str) -> bool:
    """Vowel signs and the like, which distinguish words in many scripts."""
    return unicodedata.category(character) in ("Mn", "Mc")


def slug(name: str, organization_id: UUID, *, distinct: bool) -> str:
    """`Smørrebrød & Co` becomes `smorrebrod-co`; `distinct` adds the random end of the id, where the slug is taken."""
    words = "-".join(re.findall(r"[a-z0-9]+", anyascii(unicodedata.normalize("NFC", name)).lower()))
    words = words[:LONGEST_SLUG].rstrip("-") or "org"
    return f"{words}-{organization_id.hex[-8:]}" if distinct else words


def prepared(password: str) -> str:
    """RFC 8265's OpaqueString: one password, whichever keyboard and system it is typed on."""
    if password.isascii():
        return password
    return unicodedata.normalize("NFC", _NOT_ASCII_SPACE.sub(" ", password))
