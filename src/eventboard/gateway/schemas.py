"""Bodies of the API that no contract has: commands have their content in fields of their own."""

from typing import Annotated

from msgspec import Struct

from eventboard.core.contract import Moment, about
from eventboard.modules.events.contract import KeyState, Reason


class EmptyObject(Struct, frozen=True):
    """An object without fields."""


EMPTY = EmptyObject()


class Rejection(Struct, frozen=True):
    """Why an event is rejected."""

    reason: Annotated[Reason, about("What its author has to change.")]


class Cancellation(Struct, frozen=True):
    """Why an event is called off."""

    reason: Annotated[Reason | None, about("What its readers should know.")] = None


NO_REASON = Cancellation()


class IdempotencyKeyOutcome(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of an idempotency key. It has all fields once its `state` is done, and the first two before."""

    key: Annotated[str, about("The key that was asked for.")]
    state: Annotated[KeyState, about("Whether its request is known, and has ended.")]
    status: Annotated[int | None, about("The HTTP status that was answered.")] = None
    at: Annotated[Moment | None, about("When it was done.")] = None
    operation: Annotated[str | None, about("What it was sent with, such as `events.create`.")] = None
    resource: Annotated[str | None, about("The path of the event.")] = None
    correlation_id: Annotated[str | None, about("The correlation id of the request.")] = None


class JsonWebKeySet(Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517)."""

    keys: Annotated[list[dict[str, str]], about("The public keys; `kid` in a token's header names one of them.")]
