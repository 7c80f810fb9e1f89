"""The HTTP transport: a contract call is `POST /rpc/<operation>` to one of the module's replicas."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
from loguru import logger
from msgspec.structs import replace
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError

from eventboard.adapters import wire
from eventboard.adapters.addresses import LEFT_OUT_FOR, Addresses
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
from eventboard.platform.tracing import ATTEMPT, CALL, WAIT, Span

# Idle connections are closed by this side first: the server keeps them for longer (server.py).
IDLE = timedelta(seconds=30)
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
        self._addresses = Addresses(origins)
        self._connect_timeout = timedelta(seconds=connect_timeout)
        self._headers = {
            "authorization": f"Bearer {credential}",
            "content-type": wire.MEDIA_TYPE,
            wire.CONTRACT: ours,
        }
        self._retries = retries
        self._budget = RetryBudget(retries, metrics=metrics)
        self._decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}
        self.breaker = Breaker(module, breaker, metrics=metrics)

    async def open(self) -> None:
        self._client: Client = (
            ClientBuilder()
            .connect_timeout(self._connect_timeout)
            .pool_idle_timeout(IDLE)
            .http1_only()
            .tcp_nodelay(True)
            .no_proxy()
            .follow_redirects(False)
            .build()
        )

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
        headers = {**self._headers, wire.CORRELATION_ID: about.correlation_id}
        if about.traceparent:
            headers[wire.TRACEPARENT] = about.traceparent
        if about.tracestate:
            headers[wire.TRACESTATE] = about.tracestate

        async def attempt() -> Any:
            nonlocal attempts, failed_at
            if attempts:
                tracing.since(failed_at, WAIT)
            attempts += 1
            try:
                with Span(ATTEMPT, str(attempts)) as span:
                    if traceparent := span.traceparent():
                        headers[wire.TRACEPARENT] = traceparent
                    return await self._attempt(operation, headers, body, span)
            finally:
                failed_at = time.perf_counter()

        return await self.breaker.run(lambda: retrying(self._module, operation, attempt, self._retries, self._budget))

    async def check(self) -> None:
        """A health check: some replica lives. Raises ServiceError."""
        for address in await self._addresses.in_turn():
            try:
                answer = await self._client.get(f"{address}/health/live").build().send()
            except RequestError:
                continue
            if answer.status == 200:
                return
        raise UnreachableError(self._module, not_run=True)

    def state(self) -> dict[str, str]:
        """For /health: the breaker, and whether the other side was built with the same contract."""
        return {"breaker": self.breaker.state.value, **self._skew.state()}

    async def _attempt(self, operation: Operation, headers: dict[str, str], body: bytes, span: Span) -> Any:
        """One answer from the first replica that a connection can be made to."""
        addresses = await self._addresses.in_turn()
        took = 0.0
        for address in addresses:
            left = context.remaining()
            if left is not None:
                if left < took:
                    # The last try took longer than what is left: time to say that nobody was reached.
                    break
                headers[wire.BUDGET] = str(int(left * 1000))
            begun = time.perf_counter()
            try:
                request = self._client.post(f"{address}{wire.PREFIX}{operation.name}").headers(headers)
                answer = await request.body_bytes(body).build().send()
                content = (await answer.bytes()).to_bytes()
            except RequestError as error:
                if not _never_made(error):
                    raise LostError(f"{address}: {error}") from None
                took = time.perf_counter() - begun
                self._addresses.leave_out(address)
                continue
            span.adopt(answer.get_header(wire.SPANS))
            if (theirs := answer.get_header(wire.CONTRACT)) is not None:
                self._skew.meet(theirs)
            if answer.get_header("connection") == "close":
                # About to end: no call is to be under way to it when it stops accepting.
                self._addresses.leave_out(address, ENDS_WITHIN)
            else:
                self._addresses.answered(address)
            try:
                return self._read(operation, answer.status, answer.get_header("content-type"), content, len(addresses))
            except RefusedError as refused:
                # Still left out when Retry-After is over: the retry is for another one.
                self._addresses.leave_out(address, (refused.error.retry_after or 0) + LEFT_OUT_FOR)
                raise
        raise NeverReachedError(f"no replica of {self._module} could be reached", took=took)

    def _read(self, operation: Operation, status: int, media_type: str | None, content: bytes, replicas: int) -> Any:
        if media_type != wire.MEDIA_TYPE:
            raise LostError(f"{self._module} answered {status} with {media_type}")
        try:
            if status == 200:
                return self._decoder(operation.result).decode(content)
            error = wire.error_of(content)
        except wire.UNREADABLE as broken:
            raise LostError(f"{self._module} answered what can't be read: {broken}") from None
        if error.code is Code.UNAVAILABLE and error.not_run:
            raise RefusedError(error, elsewhere=replicas > 1)
        if status == 401 and error.detail.startswith("The service credential"):
            logger.error("{} refuses this process's service credential", self._module)
            raise ServiceError(Code.INTERNAL, "The services are not set up to trust each other.")
        raise error

    def _decoder(self, type_: type[Any]) -> msgspec.msgpack.Decoder[Any]:
        decoder = self._decoders.get(type_)
        if decoder is None:
            decoder = self._decoders[type_] = msgspec.msgpack.Decoder(type_)
        return decoder


def _never_made(error: RequestError) -> bool:
    """Whether no connection was made. In doubt there was one, and the call may have run.

    pyreqwest raises ConnectError for a connection that ended before its answer, too: the cause below tells them apart.
    """
    return any(cause["message"] == "client error (Connect)" for cause in error.details["causes"] or ())
