"""Rules for new passwords and addresses, beyond those of their types."""

from functools import cache
from importlib.resources import files

from eventboard.core.errors import FieldError, invalid
from eventboard.modules.auth.fields import LONGEST_EMAIL
from eventboard.modules.auth.names import email_key, name_key, prepared


@cache
def _common() -> frozenset[str]:
    """The most common passwords of eight characters or more; common-passwords.md names their source."""
    text = files("eventboard.modules.auth").joinpath("common-passwords.txt").read_text()
    return frozenset(text.split("\n")) - {""}


def reject(*lists: list[FieldError]) -> None:
    """Raises `invalid-request` with all the errors at once."""
    errors = [error for errors in lists for error in errors]
    if errors:
        raise invalid(*errors)


def email_errors(pointer: str, email: str) -> list[FieldError]:
    try:
        key = email_key(email)
    except ValueError as error:
        return [FieldError(pointer, str(error))]
    if len(key) > LONGEST_EMAIL:
        # A few letters become two in lower case.
        return [FieldError(pointer, f"In lower case it is longer than {LONGEST_EMAIL} characters.")]
    return []


def password_errors(pointer: str, password: str, email: str, organization_name: str | None) -> list[FieldError]:
    password = prepared(password)
    if password.casefold() == email.casefold() or (organization_name and _same(password, organization_name)):
        return [FieldError(pointer, "It must not be the e-mail address or the organization's name.")]
    if password.lower() in _common():
        return [FieldError(pointer, "It is one of the most common passwords. Choose another.")]
    return []


def _same(password: str, name: str) -> bool:
    return name_key(password) == name_key(name) != ""
