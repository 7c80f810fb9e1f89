"""Serves contracts to other processes: one ASGI mount, `POST /rpc/<operation>`, derived from the contracts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from eventboard.core import request_context
from eventboard.core.asgi import App, Receive, Scope, Send
from eventboard.core.contract import operations
from eventboard.core.errors import Code, ServiceError
from eventboard.core.problems import bug
from eventboard.observability.tracing import SERIALIZATION, step
from eventboard.rpc import codec
from eventboard.rpc.version_mismatch import VersionMismatch

# Bytes of a call: the public limit of a body, and as much again for the token and MessagePack's own bytes.
LARGEST = 2 * 1024 * 1024
# Seconds for a call without a budget header: the longest of the contracts' budgets.
DEFAULT_BUDGET = 10.0


class _Endpoint(Struct, frozen=True):
    method: Callable[[Any], Awaitable[Any]]
    decoder: msgspec.msgpack.Decoder[Any]
    contract: bytes
    mismatch: VersionMismatch
    operation: str


class RpcServer:
    """An ASGI application. A request without the service credential is answered 401, whatever its path.

    `max_answer`: the limit of an answer, in bytes.
    """

    def __init__(
        self, services: Mapping[type[Any], object], *, credential: str, max_answer: int = codec.LARGEST_ANSWER
    ) -> None:
        self._max_answer = max_answer
        self._expected = f"Bearer {credential}".encode()
        self._endpoints: dict[str, _Endpoint] = {}
        self._mismatches: dict[str, VersionMismatch] = {}
        for contract, service in services.items():
            contract_hash = codec.contract_hash(contract)
            for operation in operations(contract):
                module = operation.module
                self._endpoints[f"{codec.PREFIX}{operation.name}"] = _Endpoint(
                    getattr(service, operation.method),
                    msgspec.msgpack.Decoder(operation.request),
                    contract_hash.encode(),
                    self._mismatches.setdefault(module, VersionMismatch(f"a caller of {module}", contract_hash)),
                    operation.name,
                )

    def states(self) -> dict[str, Callable[[], dict[str, str]]]:
        """For /health, by module: whether a caller has another version of the contract."""
        return {module: mismatch.state for module, mismatch in self._mismatches.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        trusted = compare_digest(headers.get(b"authorization", b""), self._expected)
        endpoint = self._endpoints.get(scope["path"])
        log_fields = request_context.current().log_fields
        if endpoint is not None:
            # Litestar's key for the template of a route, which RequestContextMiddleware reads.
            scope["path_template"] = scope["path"]
            log_fields.operation = endpoint.operation
        try:
            if trusted:
                status, body = 200, await self._answer(scope, headers, endpoint, receive)
            else:
                log_fields.code = codec.UNTRUSTED_CALLER
                status, body = codec.encode_untrusted()
        except ServiceError as error:
            log_fields.failed(error, error.code)
            status, body = codec.encode_error(error)
        except Exception as error:  # noqa: BLE001 - a bug is answered as one
            logger.opt(exception=error).error("{} failed; this is a bug, please report what follows", scope["path"])
            log_fields.code = Code.INTERNAL
            status, body = codec.encode_error(bug())
        response_headers = [(b"content-type", codec.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if endpoint is not None:
            response_headers.append((codec.CONTRACT.encode(), endpoint.contract))
        await send({"type": "http.response.start", "status": status, "headers": response_headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], endpoint: _Endpoint | None, receive: Receive
    ) -> bytes:
        if endpoint is None or scope["method"] != "POST":
            raise ServiceError(Code.NOT_IMPLEMENTED, "This service doesn't know the operation.")
        if (contract_hash := headers.get(codec.CONTRACT.encode())) is not None:
            endpoint.mismatch.record(contract_hash.decode("latin-1"))
        result = await _run(endpoint, headers, receive)
        with step(SERIALIZATION):
            return codec.encode_result(result, self._max_answer)


def mount(app: App, rpc: App) -> App:
    """Requests to /rpc/ go to `rpc`, all others to `app`."""

    def mounted(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        inside = scope["type"] == "http" and scope["path"].startswith(codec.PREFIX)
        return (rpc if inside else app)(scope, receive, send)

    return mounted


async def _run(endpoint: _Endpoint, headers: Mapping[bytes, bytes], receive: Receive) -> Any:
    try:
        request = endpoint.decoder.decode(await _body(receive))
    except codec.UNREADABLE as error:
        raise ServiceError(Code.INVALID_REQUEST, f"The call can't be read: {error}") from None
    with request_context.budget(_budget(headers)) as deadline:
        try:
            async with asyncio.timeout(deadline - time.monotonic()) as limit:
                return await endpoint.method(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServiceError(Code.DEADLINE_EXCEEDED, "The call's time budget is used up.") from None


async def _body(receive: Receive) -> bytes:
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ServiceError(Code.INVALID_REQUEST, "The caller disconnected.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST:
            raise ServiceError(Code.TOO_LARGE, f"A call may have at most {LARGEST} bytes.")
        more = message.get("more_body", False)
    return b"".join(chunks)


def _budget(headers: Mapping[bytes, bytes]) -> float:
    text = headers.get(codec.BUDGET.encode(), b"")
    return int(text) / 1000 if text.isdigit() else DEFAULT_BUDGET


def encode_failure(error: ServiceError) -> tuple[int, dict[str, str], bytes]:
    """How the ASGI middleware answers a call that it rejects: status, headers and body."""
    status, body = codec.encode_error(error)
    return status, {"content-type": codec.MEDIA_TYPE}, body
