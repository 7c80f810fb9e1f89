"""The in-process transport: a contract call is a method call."""

from typing import Any

from eventboard.core.contract import Operation
from eventboard.observability import tracing
from eventboard.rpc import codec


class LocalTransport:
    """`max_answer`: the limit in bytes that the answer would have between processes."""

    def __init__(self, service: object, *, max_answer: int = codec.LARGEST_ANSWER) -> None:
        self._service = service
        self._max_answer = max_answer

    def span_name(self, operation: Operation) -> str:
        return tracing.service(operation.module)

    async def call(self, operation: Operation, request: Any) -> Any:
        result = await getattr(self._service, operation.method)(request)
        # Encoded for its size alone, so that one process rejects the same answers as three.
        codec.encode_result(result, self._max_answer)
        return result
