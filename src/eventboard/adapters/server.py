"""Serves contracts to other processes: one ASGI mount, `POST /rpc/<operation>`, derived from the contracts."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from eventboard.adapters import wire
from eventboard.adapters.skew import Skew
from eventboard.platform import context, tracing
from eventboard.platform.asgi import App, Receive, Scope, Send
from eventboard.platform.contract import operations
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.problems import bug
from eventboard.platform.tracing import LEAST_TOLD, SERIALIZATION

# Bytes: the public limit of a body, and as much again for MessagePack's frame, the token and what is escaped in JSON.
LARGEST = 2 * 1024 * 1024
# Seconds for a caller that names no budget: the longest of the contracts'.
DEFAULT_BUDGET = 10.0


class _Served(Struct, frozen=True):
    run: Callable[[Any], Awaitable[Any]]
    decoder: msgspec.msgpack.Decoder[Any]
    contract: bytes
    skew: Skew
    operation: str
    span: str


class RpcServer:
    """An ASGI application. Whoever doesn't send the service credential is answered 401, whatever they ask."""

    def __init__(self, services: Mapping[type[Any], object], *, credential: str) -> None:
        self._expected = f"Bearer {credential}".encode()
        self._served: dict[str, _Served] = {}
        self._skews: dict[str, Skew] = {}
        for contract, service in services.items():
            ours = wire.contract_hash(contract)
            for operation in operations(contract):
                module = operation.module
                self._served[f"{wire.PREFIX}{operation.name}"] = _Served(
                    getattr(service, operation.method),
                    msgspec.msgpack.Decoder(operation.request),
                    ours.encode(),
                    self._skews.setdefault(module, Skew(f"a caller of {module}", ours)),
                    operation.name,
                    tracing.service(module),
                )

    def states(self) -> dict[str, Callable[[], dict[str, str]]]:
        """For /health: of each module, whether a caller was built with another contract."""
        return {module: skew.state for module, skew in self._skews.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        trusted = compare_digest(headers.get(b"authorization", b""), self._expected)
        served = self._served.get(scope["path"])
        notes = context.current().notes
        if served is not None:
            # By Litestar's name for a route's template, where Front looks for it.
            scope["path_template"] = scope["path"]
            tracing.be(served.span, served.operation)
            notes.operation = served.operation
        try:
            status, body = 200, await self._answer(scope, headers, served, receive, trusted=trusted)
        except ServiceError as error:
            tracing.failed(error.code.value)
            notes.failed(error, error.code)
            status, body = wire.failure(error)
        except Exception as error:  # noqa: BLE001 - a bug here is this side's, and is told as such
            logger.opt(exception=error).error("{} failed", scope["path"])
            tracing.failed(type(error).__name__)
            notes.code = Code.INTERNAL
            status, body = wire.failure(bug())
        answered = [(b"content-type", wire.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if served is not None:
            answered.append((wire.CONTRACT.encode(), served.contract))
        if trusted and (spans := tracing.reply()):
            answered.append((wire.SPANS.encode(), spans))
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        served: _Served | None,
        receive: Receive,
        *,
        trusted: bool,
    ) -> bytes:
        if not trusted:
            raise ServiceError(Code.INVALID_TOKEN, "The service credential is missing or wrong.")
        if served is None or scope["method"] != "POST":
            raise ServiceError(Code.NOT_IMPLEMENTED, "This service doesn't know the operation.")
        if (theirs := headers.get(wire.CONTRACT.encode())) is not None:
            served.skew.meet(theirs.decode("latin-1"))
        result = await _run(served, headers, receive)
        begun = tracing.now()
        frame = msgspec.msgpack.encode(result)
        tracing.since(begun, SERIALIZATION, least=LEAST_TOLD)
        return frame


def mount(app: App, rpc: App) -> App:
    """`rpc` under /rpc/, `app` for the rest."""

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith(wire.PREFIX)
        await (rpc if inside else app)(scope, receive, send)

    return mounted


async def _run(served: _Served, headers: Mapping[bytes, bytes], receive: Receive) -> Any:
    try:
        request = served.decoder.decode(await _body(receive))
    except wire.UNREADABLE as error:
        raise ServiceError(Code.INVALID_REQUEST, f"The call can't be read: {error}") from None
    with context.budget(_budget(headers)) as deadline:
        try:
            async with asyncio.timeout(deadline - time.monotonic()) as limit:
                return await served.run(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServiceError(Code.DEADLINE_EXCEEDED, "The call's budget was spent.") from None


async def _body(receive: Receive) -> bytes:
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ServiceError(Code.INVALID_REQUEST, "The caller hung up.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST:
            raise ServiceError(Code.TOO_LARGE, f"A call may have {LARGEST} bytes.")
        more = message.get("more_body", False)
    return b"".join(chunks)


def _budget(headers: Mapping[bytes, bytes]) -> float:
    text = headers.get(wire.BUDGET.encode(), b"")
    return int(text) / 1000 if text.isdigit() else DEFAULT_BUDGET


def refuse_as_failure(error: ServiceError) -> tuple[int, dict[str, str], bytes]:
    """How a process that serves calls refuses one before it looks at it: see platform.web.Front."""
    status, body = wire.failure(error)
    return status, {"content-type": wire.MEDIA_TYPE}, body
