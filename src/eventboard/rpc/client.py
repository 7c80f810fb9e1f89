"""A contract's client, derived from the contract: `client(Events, transport, budgets)` is an `Events`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from eventboard.core import request_context
from eventboard.core.contract import Operation, operations
from eventboard.core.errors import Code, KeyStatus, ServiceError
from eventboard.observability import tracing
from eventboard.observability.metrics import Metrics

Contract = TypeVar("Contract")

# Errors that are outcomes of an idempotency key.
_KEY_CONFLICTS = frozenset({Code.IDEMPOTENCY_KEY_REUSED, Code.REQUEST_IN_PROGRESS})


class Transport(Protocol):
    def span_name(self, operation: Operation) -> str:
        """The name of a call's step in the trace of its request."""
        ...

    async def call(self, operation: Operation, request: Any) -> Any:
        """Raises ServiceError for whatever fails on the way."""
        ...


def client(
    contract: type[Contract], transport: Transport, budgets: Mapping[str, float], metrics: Metrics | None = None
) -> Contract:
    """`budgets` gives each kind of budget its seconds."""
    call_metrics = CallMetrics(metrics or Metrics(), operations(contract))
    methods = {
        operation.method: staticmethod(_method(operation, transport, budgets[operation.budget], call_metrics))
        for operation in operations(contract)
    }
    return cast("Contract", type(f"{contract.__name__}Client", (), methods)())


class CallMetrics:
    """Duration and outcome of contract calls, and outcomes of idempotency keys: the same in every shape."""

    def __init__(self, metrics: Metrics, known: Iterable[Operation]) -> None:
        # A kept child costs a third of looking it up by its labels.
        self._duration = cache(metrics.call_duration.labels)
        self._keys = metrics.idempotency
        for operation in known:
            self._duration(operation.name, "")
            for outcome in (*KeyStatus, *_KEY_CONFLICTS) if operation.keyed else ():
                self._keys.labels(operation.name, outcome.value)

    def succeeded(self, operation: Operation, seconds: float, result: Any) -> None:
        self._duration(operation.name, "").observe(seconds)
        if operation.keyed:
            self._count_key(operation, getattr(result, "key_status", None))

    def failed(self, operation: Operation, seconds: float, error: BaseException) -> None:
        self._duration(operation.name, _error_type(error)).observe(seconds)
        if operation.keyed and isinstance(error, ServiceError):
            self._count_key(operation, error.key_status or (error.code if error.code in _KEY_CONFLICTS else None))

    def _count_key(self, operation: Operation, outcome: KeyStatus | Code | None) -> None:
        if outcome is not None:
            self._keys.labels(operation.name, outcome.value).inc()


def _error_type(error: BaseException) -> str:
    if isinstance(error, ServiceError):
        return error.code.value
    return "cancelled" if isinstance(error, asyncio.CancelledError) else Code.INTERNAL.value


def _method(
    operation: Operation, transport: Transport, seconds: float, metrics: CallMetrics
) -> Callable[[Any], Awaitable[Any]]:
    span_name = transport.span_name(operation)

    async def call(request: Any) -> Any:
        request_context.current().log_fields.operation = operation.name
        begun = time.perf_counter()
        try:
            with tracing.step(span_name, operation.name, attributes={"rpc.method": operation.name}):
                result = await _call_within(seconds, operation, transport, request)
        except BaseException as error:
            metrics.failed(operation, time.perf_counter() - begun, error)
            raise
        metrics.succeeded(operation, time.perf_counter() - begun, result)
        return result

    return call


async def _call_within(seconds: float, operation: Operation, transport: Transport, request: Any) -> Any:
    """Raises `deadline-exceeded` with the same detail whether the database, the module or this client timed out."""
    # What the request has waited for before is part of its budget.
    with request_context.budget(seconds - request_context.current().log_fields.waited) as deadline:
        try:
            async with asyncio.timeout(deadline - time.monotonic()) as limit:
                return await transport.call(operation, request)
        except TimeoutError:
            if not limit.expired():
                raise
        except ServiceError as error:
            if error.code is not Code.DEADLINE_EXCEEDED:
                raise
        raise ServiceError(Code.DEADLINE_EXCEEDED, f"This call was not done within its {seconds:g} s.")
