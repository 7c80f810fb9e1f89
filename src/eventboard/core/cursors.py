"""Cursors: a position in a list, as text that a client gives back to get the next page."""

from base64 import b64decode, urlsafe_b64encode
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from eventboard.core.errors import Code, ServiceError

Position = TypeVar("Position")

_RULE = "It must be the nextCursor of the page before, unchanged; leave it out to begin at the first page."
# What `encode` returns. Of other text no list says more than that.
Cursor = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[A-Za-z0-9_-]+$(?!\n)", extra={"rule": _RULE})]


def encode(position: Any) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(position)).rstrip(b"=").decode()


def decode(cursor: str, type_: type[Position]) -> Position:
    """Raises ValueError, also where the text is no cursor of this type."""
    try:
        raw = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(raw, type=type_)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def invalid(detail: str) -> ServiceError:
    return ServiceError(Code.INVALID_CURSOR, detail)


def not_of(what: str) -> ServiceError:
    """For a cursor that was changed, or is of another list."""
    return invalid(f"This cursor is not of {what}. Take nextCursor as it is, or begin again without a cursor.")
