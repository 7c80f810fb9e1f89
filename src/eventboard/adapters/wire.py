"""What crosses between processes: MessagePack bodies, and the context in headers. Both sides read this one file."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from eventboard.platform.contract import operations
from eventboard.platform.errors import HTTP, Code, FieldError, KeyStatus, ServiceError
from eventboard.platform.quotas import Quota

PREFIX = "/rpc/"
MEDIA_TYPE = "application/vnd.eventboard+msgpack"

# A budget is a duration in milliseconds: two machines' clocks need not agree.
BUDGET = "x-budget-ms"
CORRELATION_ID = "x-correlation-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
# Comes back with a reply: where its time went (platform/tracing.py).
SPANS = "x-spans"
# Each side says which contract it was built with; see `contract_hash`.
CONTRACT = "x-contract"

# What msgspec raises for bytes that aren't what they should be.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Failure(Struct, frozen=True, omit_defaults=True):
    """A ServiceError on the wire. `code` is text: a newer side may have codes that this one doesn't know."""

    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    retry_after: int | None = None
    not_run: bool = False
    key_status: KeyStatus | None = None
    quotas: tuple[Quota, ...] = ()


def encode(value: Struct) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        # Years 1 and 9999 in some offset can be outside them in UTC, where MessagePack has its times: the module is to
        # refuse them, so they cross as text.
        return msgspec.msgpack.encode(msgspec.to_builtins(value))


def failure(error: ServiceError) -> tuple[int, bytes]:
    """Status and body of the answer that carries it."""
    frame = Failure(
        error.code, error.detail, error.errors, error.retry_after, error.not_run, error.key_status, error.quotas
    )
    return HTTP[error.code][0], msgspec.msgpack.encode(frame)


def error_of(body: bytes) -> ServiceError:
    """The ServiceError that an answer carries; raises one of UNREADABLE where it carries none."""
    frame = msgspec.msgpack.decode(body, type=Failure)
    try:
        code = Code(frame.code)
    except ValueError:
        return ServiceError(Code.INTERNAL, "The service failed in a way that this gateway doesn't know.")
    return ServiceError(
        code,
        frame.detail,
        frame.errors,
        frame.retry_after,
        not_run=frame.not_run,
        key_status=frame.key_status,
        quotas=frame.quotas,
    )


def contract_hash(contract: type[Any]) -> str:
    """Changes whenever an operation, or a field or rule of what it takes or returns, changes."""
    known = operations(contract)
    _, schemas = msgspec.json.schema_components(
        [type_ for operation in known for type_ in (operation.request, operation.result)]
    )
    stated = {operation.name: [operation.request.__name__, operation.result.__name__] for operation in known}
    text = msgspec.json.encode([stated, schemas], order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]
