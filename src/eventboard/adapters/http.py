"""The HTTP transport: a contract call is `POST /rpc/<operation>` to one of the module's replicas."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from loguru import logger
from msgspec.structs import replace

from eventboard.adapters import wire
from eventboard.adapters.addresses import LEFT_OUT_FOR, Addresses
from eventboard.adapters.http1 import Answer, Client, EndedError, NeverMadeError
from eventboard.adapters.resilience import (
    Breaker,
    BreakerPolicy,
    LostError,
    NeverReachedError,
    RefusedError,
    RetryBudget,
    RetryPolicy,
    UnreachableError,
    retrying,
)
from eventboard.adapters.skew import Skew
from eventboard.platform import context, tracing
from eventboard.platform.contract import KEY_FIELD, IdempotencyKey, Operation
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.metrics import Metrics
from eventboard.platform.tracing import ATTEMPT, CALL, WAIT, Attempt

# Seconds: longer than a process goes on accepting after SIGTERM (server.drain in config/base.toml).
ENDS_WITHIN = 2.0
# Seconds that the record of a key made here is kept beyond the call's budget.
OUTLIVES = 60.0
# No client's key begins so: a space isn't visible ASCII.
MINTED = "minted "


class HttpTransport:
    """`module` is the name that errors, logs and health give it. `connect_timeout` is in seconds."""

    def __init__(
        self,
        module: str,
        contract: type[Any],
        origins: Sequence[str],
        *,
        credential: str,
        connect_timeout: float,
        retries: RetryPolicy,
        breaker: BreakerPolicy,
        metrics: Metrics | None = None,
    ) -> None:
        self._module = module
        ours = wire.contract_hash(contract)
        self._skew = Skew(module, ours)
        self._addresses = Addresses(origins, connect_timeout)
        self._client = Client(connect_timeout=connect_timeout)
        self._headers = _lines(
            ("authorization", f"Bearer {credential}"), ("content-type", wire.MEDIA_TYPE), (wire.CONTRACT, ours)
        )
        self._retries = retries
        self._budget = RetryBudget(retries, metrics=metrics)
        self._decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}
        self.breaker = Breaker(module, breaker, metrics=metrics)

    async def open(self) -> None:
        """Nothing: connections are made when they are needed."""

    async def close(self) -> None:
        await self._addresses.close()
        await self._client.close()

    def span(self, operation: Operation) -> str:
        """The service's own span comes back with its reply."""
        return CALL

    async def call(self, operation: Operation, request: Any) -> Any:
        if operation.keyed and getattr(request, KEY_FIELD) is None:
            # So that its own retries are safe; the record outlives them, and then some.
            lifetime = (context.remaining() or 0) + OUTLIVES
            request = replace(request, **{KEY_FIELD: IdempotencyKey(f"{MINTED}{uuid4().hex}", lifetime)})
        body = wire.encode(request)
        about, attempts, failed_at = context.current(), 0, 0.0
        headers = self._headers + _lines(
            (wire.CORRELATION_ID, about.correlation_id),
            (wire.TRACESTATE, about.tracestate),
            ("content-length", str(len(body))),
        )

        async def attempt() -> Any:
            nonlocal attempts, failed_at
            if attempts:
                tracing.since(failed_at, WAIT)
            attempts += 1
            try:
                with Attempt(ATTEMPT, str(attempts)) as span:
                    parent = _lines((wire.TRACEPARENT, span.traceparent() or about.traceparent))
                    return await self._attempt(operation, headers + parent, body, span)
            finally:
                failed_at = time.perf_counter()

        return await self.breaker.run(lambda: retrying(self._module, operation, attempt, self._retries, self._budget))

    async def check(self) -> None:
        """A health check: some replica lives. Raises ServiceError."""
        for address in await self._addresses.in_turn():
            try:
                answer = await self._client.send(address, _request("GET", address, "/health/live", "", b""))
            except NeverMadeError:
                self._addresses.leave_out(address)
                continue
            except EndedError:
                continue
            # A check may be what tries a replica that was left out: calls are to know what came of it.
            self._heard(address, answer)
            if answer.status == 200:
                return
        raise UnreachableError(self._module, not_run=True)

    def state(self) -> dict[str, str]:
        """For /health: the breaker, and whether the other side was built with the same contract."""
        return {"breaker": self.breaker.state.value, **self._skew.state()}

    async def _attempt(self, operation: Operation, headers: str, body: bytes, span: Attempt) -> Any:
        """One answer from the first replica that a connection can be made to."""
        addresses = await self._addresses.in_turn()
        took, budget = 0.0, ""
        for address in addresses:
            left = context.remaining()
            if left is not None:
                if left < took:
                    # The last try took longer than what is left: time to say that nobody was reached.
                    break
                budget = _lines((wire.BUDGET, str(int(left * 1000))))
            begun = time.perf_counter()
            request = _request("POST", address, f"{wire.PREFIX}{operation.name}", headers + budget, body)
            try:
                answer = await self._client.send(address, request)
            except NeverMadeError:
                took = time.perf_counter() - begun
                self._addresses.leave_out(address)
                continue
            except EndedError as error:
                raise LostError(f"{address}: {error}") from None
            span.adopt(answer.header(wire.SPANS))
            if (theirs := answer.header(wire.CONTRACT)) is not None:
                self._skew.meet(theirs)
            self._heard(address, answer)
            try:
                return self._read(operation, answer, len(addresses))
            except RefusedError as refused:
                # Still left out when Retry-After is over: the retry is for another one.
                self._addresses.leave_out(address, (refused.error.retry_after or 0) + LEFT_OUT_FOR)
                raise
        raise NeverReachedError(f"no replica of {self._module} could be reached", took=took)

    def _heard(self, address: str, answer: Answer) -> None:
        if answer.header("connection") == "close":
            # About to end: no call is to be under way to it when it stops accepting.
            self._addresses.leave_out(address, ENDS_WITHIN)
        else:
            self._addresses.answered(address)

    def _read(self, operation: Operation, answer: Answer, replicas: int) -> Any:
        if answer.header("content-type") != wire.MEDIA_TYPE:
            raise LostError(f"{self._module} answered {answer.status} with {answer.header('content-type')}")
        try:
            if answer.status == 200:
                return self._decoder(operation.result).decode(answer.body)
            error = wire.error_of(answer.body)
        except wire.UNREADABLE as broken:
            raise LostError(f"{self._module} answered what can't be read: {broken}") from None
        if error.code is Code.UNAVAILABLE and error.not_run:
            raise RefusedError(error, elsewhere=replicas > 1)
        if answer.status == 401 and error.detail.startswith("The service credential"):
            logger.error("{} refuses this process's service credential", self._module)
            raise ServiceError(Code.INTERNAL, "The services are not set up to trust each other.")
        raise error

    def _decoder(self, type_: type[Any]) -> msgspec.msgpack.Decoder[Any]:
        decoder = self._decoders.get(type_)
        if decoder is None:
            decoder = self._decoders[type_] = msgspec.msgpack.Decoder(type_)
        return decoder


def _lines(*headers: tuple[str, str]) -> str:
    """Without those that have no value. What a client sent was checked where it came in: none has a line's end."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers if value])


def _request(method: str, address: str, path: str, headers: str, body: bytes) -> bytes:
    host = address.removeprefix("http://")
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n".encode() + body
