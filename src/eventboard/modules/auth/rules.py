"""What a new password must not be."""

from functools import cache
from importlib.resources import files

from eventboard.modules.auth.names import name_key
from eventboard.platform.errors import FieldError


@cache
def _common() -> frozenset[str]:
    """The most common passwords of eight characters or more: see common-passwords.md for where they are from."""
    text = files("eventboard.modules.auth").joinpath("common-passwords.txt").read_text()
    return frozenset(text.split("\n")) - {""}


def password_errors(pointer: str, password: str, email: str, organization_name: str | None) -> list[FieldError]:
    if password.casefold() == email.casefold() or (organization_name and _same(password, organization_name)):
        return [FieldError(pointer, "It must not be the e-mail address or the organization's name.")]
    if password.lower() in _common():
        return [FieldError(pointer, "It is one of the most common passwords.")]
    return []


def _same(password: str, name: str) -> bool:
    return name_key(password) == name_key(name) != ""
