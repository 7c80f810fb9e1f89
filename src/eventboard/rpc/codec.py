"""The format of calls between processes, for both sides: MessagePack bodies, and the call's context in headers."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct, field

from eventboard.core.contract import operations
from eventboard.core.errors import HTTP, Code, FieldError, KeyStatus, ServiceError
from eventboard.core.quotas import Quota

PREFIX = "/rpc/"
MEDIA_TYPE = "application/vnd.eventboard+msgpack"

# What is left of the call's time budget, in milliseconds: the clocks of two machines may differ.
BUDGET = "x-budget-ms"
CORRELATION_ID = "x-correlation-id"
# The `contract_hash` of the side that sends it.
CONTRACT = "x-contract"

# Default limit of an answer, in bytes; the setting is server.max_answer.
LARGEST_ANSWER = 8 * 1024 * 1024

# What msgspec raises for bytes that it can't decode.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


# The code of a call whose service credential is missing or wrong. It is for processes only, so `Code` doesn't have it.
UNTRUSTED_CALLER = "untrusted-caller"


class UntrustedCallerError(Exception):
    """The service rejects this process's credential."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """A ServiceError on the wire. `code` is text: a newer side may have codes that this one doesn't know."""

    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    retry_after: int | None = None
    # The name that adjacent versions use for it.
    shed: bool = field(default=False, name="not_run")
    key_status: KeyStatus | None = None
    quotas: tuple[Quota, ...] = ()
    title: str = ""
    version: int | None = None


def encode(value: Struct) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        # MessagePack has times in UTC only, where a time of year 1 or 9999 with an offset may be in year 0 or 10000. It
        # crosses as text, and the module rejects it.
        return msgspec.msgpack.encode(msgspec.to_builtins(value))


def encode_result(result: Struct, most: int) -> bytes:
    """Raises `answer-too-large` for a result of more than `most` bytes."""
    frame = encode(result)
    if len(frame) > most:
        raise too_large(most)
    return frame


def too_large(most: int) -> ServiceError:
    return ServiceError(Code.ANSWER_TOO_LARGE, f"The answer would have more than {most} bytes. Ask for less at once.")


def encode_error(error: ServiceError) -> tuple[int, bytes]:
    """Status and body of the answer."""
    frame = Failure(
        error.code,
        error.detail,
        error.errors,
        error.retry_after,
        error.shed,
        error.key_status,
        error.quotas,
        error.title,
        error.version,
    )
    return HTTP[error.code][0], msgspec.msgpack.encode(frame)


def encode_untrusted() -> tuple[int, bytes]:
    """Status and body of the answer to a caller without the service credential."""
    return 401, msgspec.msgpack.encode(Failure(UNTRUSTED_CALLER, "The service credential is missing or wrong."))


def decode_error(body: bytes) -> ServiceError:
    """Raises UntrustedCallerError, and one of UNREADABLE for a body that is no error."""
    frame = msgspec.msgpack.decode(body, type=Failure)
    if frame.code == UNTRUSTED_CALLER:
        raise UntrustedCallerError
    try:
        code = Code(frame.code)
    except ValueError:
        return ServiceError(Code.INTERNAL, "The service failed in a way that this gateway doesn't know.")
    return ServiceError(
        code,
        frame.detail,
        frame.errors,
        frame.retry_after,
        shed=frame.shed,
        key_status=frame.key_status,
        quotas=frame.quotas,
        title=frame.title,
        version=frame.version,
    )


def _undescribed(part: Any) -> Any:
    if isinstance(part, dict):
        # A field may be called so, too: its value is a schema.
        return {
            name: _undescribed(value)
            for name, value in part.items()
            if name != "description" or not isinstance(value, str)
        }
    return [_undescribed(item) for item in part] if isinstance(part, list) else part


def contract_hash(contract: type[Any]) -> str:
    """Changes whenever an operation, or a field or rule of what it takes or returns, changes; descriptions may."""
    known = operations(contract)
    _, schemas = msgspec.json.schema_components(
        [type_ for operation in known for type_ in (operation.request, operation.result)]
    )
    names = {operation.name: [operation.request.__name__, operation.result.__name__] for operation in known}
    text = msgspec.json.encode([names, _undescribed(schemas)], order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]
