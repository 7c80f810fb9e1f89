"""Contracts: protocols whose methods take one frozen struct and return one, each marked with its operation."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar, get_type_hints

from msgspec import Meta, Struct

# Times in contracts have an offset.
Moment = Annotated[datetime, Meta(tz=True)]


def about(description: str) -> Meta:
    """Describes a field in the OpenAPI document: `title: Annotated[Title, about("…")]`."""
    return Meta(description=description)


Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])


# The field of a request that holds its idempotency key. Transports recognize such requests by it.
KEY_FIELD = "idempotency_key"


class Budget(StrEnum):
    """Kinds of time budget; their seconds are settings."""

    AUTH = "auth"
    READ = "read"
    LIST = "list"
    WRITE = "write"


class IdempotencyKey(Struct, frozen=True):
    """A write is executed once, however often it is sent with the same key.

    `lifetime`: seconds that a key is kept which a transport generated for its retries; None: a client's, for 24 h.
    """

    value: str
    lifetime: float | None = None


class Operation(Struct, frozen=True):
    """`repeatable`: sending it twice has the effect of sending it once. `keyed`: its request has an idempotency key.

    `retried`: transports may send it again. It is false where the caller can do without an answer.
    """

    name: str
    method: str
    budget: Budget
    repeatable: bool
    request: type[Any]
    result: type[Any]
    keyed: bool
    retried: bool = True

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]


def operation(name: str, *, budget: Budget, repeatable: bool, retried: bool = True) -> Callable[[Method], Method]:
    """Marks a method of a contract."""

    def mark(method: Method) -> Method:
        method.__operation__ = (name, budget, repeatable, retried)  # type: ignore[attr-defined]  # read back by operations()
        return method

    return mark


def operations(contract: type[Any]) -> tuple[Operation, ...]:
    """In the order of their definition. Raises TypeError for a method without the decorator."""
    found = []
    for attribute, method in vars(contract).items():
        if attribute.startswith("_") or not callable(method):
            continue
        if not hasattr(method, "__operation__"):
            raise TypeError(f"{contract.__name__}.{attribute} has no @operation")
        name, budget, repeatable, retried = method.__operation__
        hints = get_type_hints(method)
        result = hints.pop("return")
        (request,) = hints.values()
        keyed = KEY_FIELD in request.__struct_fields__
        found.append(Operation(name, attribute, budget, repeatable, request, result, keyed, retried))
    return tuple(found)
