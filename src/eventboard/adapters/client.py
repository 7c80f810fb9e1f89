"""A contract's client, derived from the contract: `client(Events, transport, budgets)` is an `Events`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from eventboard.platform import context
from eventboard.platform.contract import Operation, operations
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics
from eventboard.platform.tracing import now

Contract = TypeVar("Contract")


class Transport(Protocol):
    def span(self, operation: Operation) -> str:
        """What a call is in its request's tree."""
        ...

    async def call(self, operation: Operation, request: Any) -> Any:
        """Raises ServiceError, whatever went wrong on the way."""
        ...


def client(
    contract: type[Contract], transport: Transport, budgets: Mapping[str, float], metrics: Metrics | None = None
) -> Contract:
    """`budgets` gives each kind of budget its seconds."""
    calls = Calls(metrics or Metrics())
    methods = {
        operation.method: staticmethod(_method(operation, transport, budgets[operation.budget], calls))
        for operation in operations(contract)
    }
    return cast("Contract", type(f"{contract.__name__}Client", (), methods)())


class Calls:
    """Counts what became of contract calls, and of idempotency keys: the same in every shape."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.histogram(
            "rpc_client_call_duration_seconds",
            "Calls of a module's contract, in this process or in another, with all their retries.",
            ("rpc_method", "error_type"),
        )
        self._keys = metrics.counter(
            "eventboard_idempotency_total",
            "Writes with a client's idempotency key, by what became of them.",
            ("rpc_method", "outcome"),
        )

    def answered(self, operation: Operation, seconds: float, result: Any) -> None:
        self._calls.at[operation.name, ""](seconds)
        if operation.keyed and (status := getattr(result, "key_status", None)) is not None:
            self._keys.add(operation.name, status.value)

    def failed(self, operation: Operation, seconds: float, error: BaseException) -> None:
        if not isinstance(error, ServiceError):
            given_up = isinstance(error, asyncio.CancelledError)
            self._calls.observe(seconds, operation.name, "cancelled" if given_up else Code.INTERNAL.value)
            return
        self._calls.observe(seconds, operation.name, error.code.value)
        if not operation.keyed:
            return
        if error.key_status is not None:
            self._keys.add(operation.name, error.key_status.value)
        elif error.code in _CONFLICTS:
            self._keys.add(operation.name, error.code.value)


# What a key is refused for.
_CONFLICTS = frozenset({Code.IDEMPOTENCY_KEY_REUSED, Code.REQUEST_IN_PROGRESS})


def _method(
    operation: Operation, transport: Transport, seconds: float, calls: Calls
) -> Callable[[Any], Awaitable[Any]]:
    name = transport.span(operation)

    async def bounded(request: Any) -> Any:
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

    async def call(request: Any) -> Any:
        about = context.current()
        about.notes.operation = operation.name
        # What a Span does, with the same looks at the clock.
        trace = about.trace
        begun = now()
        try:
            result = await bounded(request)
        except BaseException as error:
            ended = now()
            if trace is not None:
                trace.record(name, begun, ended, operation.name, error)
            calls.failed(operation, ended - begun, error)
            raise
        ended = now()
        if trace is not None:
            trace.record(name, begun, ended, operation.name)
        calls.answered(operation, ended - begun, result)
        return result

    return call
