"""A contract's client, derived from the contract: `client(Events, transport, budgets)` is an `Events`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from eventboard.platform import context
from eventboard.platform.contract import Operation, operations
from eventboard.platform.errors import Code, ServiceError

Contract = TypeVar("Contract")


class Transport(Protocol):
    async def call(self, operation: Operation, request: Any) -> Any:
        """Raises ServiceError, whatever went wrong on the way."""
        ...


def client(contract: type[Contract], transport: Transport, budgets: Mapping[str, float]) -> Contract:
    """`budgets` gives each kind of budget its seconds."""
    methods = {
        operation.method: staticmethod(_method(operation, transport, budgets[operation.budget]))
        for operation in operations(contract)
    }
    return cast("Contract", type(f"{contract.__name__}Client", (), methods)())


def _method(operation: Operation, transport: Transport, seconds: float) -> Callable[[Any], Awaitable[Any]]:
    async def call(request: Any) -> Any:
        with context.budget(seconds) as deadline:
            try:
                async with asyncio.timeout(deadline - time.monotonic()) as limit:
                    return await transport.call(operation, request)
            except TimeoutError:
                if not limit.expired():
                    raise
            except ServiceError as error:
                if error.code is not Code.DEADLINE_EXCEEDED:
                    raise
            # Database, module and this end of the call have one deadline: whichever notices first, it is told alike.
            raise ServiceError(Code.DEADLINE_EXCEEDED, f"{operation.name} was not done within its {seconds:g} s.")

    return call
