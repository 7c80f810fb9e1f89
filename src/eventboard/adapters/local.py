"""The in-process transport: a contract call is a method call."""

from typing import Any

from eventboard.platform.contract import Operation
from eventboard.platform.tracing import service


class LocalTransport:
    def __init__(self, service: object) -> None:
        self._service = service

    def span(self, operation: Operation) -> str:
        """Nothing is on the way to the service."""
        return service(operation.module)

    async def call(self, operation: Operation, request: Any) -> Any:
        return await getattr(self._service, operation.method)(request)
