"""What a contract is made of: methods that take one frozen struct and return one, each marked with its operation."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar, get_type_hints

from msgspec import Meta, Struct

# A time in a contract has an offset.
Moment = Annotated[datetime, Meta(tz=True)]

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])


# The field of a request that holds its idempotency key, by which adapters know that it takes one.
KEY_FIELD = "idempotency_key"


class Budget(StrEnum):
    """Kinds of time budget; their seconds are settings."""

    AUTH = "auth"
    READ = "read"
    LIST = "list"
    WRITE = "write"


class IdempotencyKey(Struct, frozen=True):
    """Makes a write happen once however often it is sent.

    `lifetime` (seconds) is for a key that an adapter made for its own retries; None is a client's, kept for 24 h.
    """

    value: str
    lifetime: float | None = None


class Operation(Struct, frozen=True):
    """`repeatable`: sending it twice does what sending it once does. `keyed`: its request takes an idempotency key."""

    name: str
    method: str
    budget: Budget
    repeatable: bool
    request: type[Any]
    result: type[Any]
    keyed: bool

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]


def operation(name: str, *, budget: Budget, repeatable: bool) -> Callable[[Method], Method]:
    """Marks a method of a contract."""

    def mark(method: Method) -> Method:
        method.__operation__ = (name, budget, repeatable)  # type: ignore[attr-defined]  # read back by operations()
        return method

    return mark


def operations(contract: type[Any]) -> tuple[Operation, ...]:
    """Every operation of a contract, in the order it states them. A method without the mark is a TypeError."""
    found = []
    for attribute, method in vars(contract).items():
        if attribute.startswith("_") or not callable(method):
            continue
        if not hasattr(method, "__operation__"):
            raise TypeError(f"{contract.__name__}.{attribute} states no operation")
        name, budget, repeatable = method.__operation__
        hints = get_type_hints(method)
        result = hints.pop("return")
        (request,) = hints.values()
        keyed = KEY_FIELD in request.__struct_fields__
        found.append(Operation(name, attribute, budget, repeatable, request, result, keyed))
    return tuple(found)
