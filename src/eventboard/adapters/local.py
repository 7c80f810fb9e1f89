"""The in-process transport: a contract call is a method call."""

from typing import Any

from eventboard.platform.contract import Operation
from eventboard.platform.tracing import Span, service


class LocalTransport:
    def __init__(self, service: object) -> None:
        self._service = service

    async def call(self, operation: Operation, request: Any) -> Any:
        with Span(service(operation.module), operation.name):
            return await getattr(self._service, operation.method)(request)
