"""What new passwords and addresses must not be, beyond what their types say."""

from functools import cache
from importlib.resources import files

from eventboard.modules.auth.contract import LONGEST_EMAIL
from eventboard.modules.auth.names import name_key
from eventboard.platform.errors import Code, FieldError, ServiceError


@cache
def _common() -> frozenset[str]:
    """The most common passwords of eight characters or more: see common-passwords.md for where they are from."""
    text = files("eventboard.modules.auth").joinpath("common-passwords.txt").read_text()
    return frozenset(text.split("\n")) - {""}


def refuse(*found: list[FieldError]) -> None:
    """Names all that is wrong at once."""
    errors = [error for errors in found for error in errors]
    if errors:
        raise ServiceError(Code.INVALID_REQUEST, "The request breaks a rule.", tuple(errors))


def email_errors(pointer: str, email: str) -> list[FieldError]:
    """In lower case a few letters are two."""
    if len(email) > LONGEST_EMAIL:
        return [FieldError(pointer, f"In lower case it is longer than {LONGEST_EMAIL} characters.")]
    return []


def password_errors(pointer: str, password: str, email: str, organization_name: str | None) -> list[FieldError]:
    if password.casefold() == email.casefold() or (organization_name and _same(password, organization_name)):
        return [FieldError(pointer, "It must not be the e-mail address or the organization's name.")]
    if password.lower() in _common():
        return [FieldError(pointer, "It is one of the most common passwords.")]
    return []


def _same(password: str, name: str) -> bool:
    return name_key(password) == name_key(name) != ""
