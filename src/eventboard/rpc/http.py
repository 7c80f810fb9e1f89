"""The HTTP transport: a contract call is `POST /rpc/<operation>` to one of the module's replicas."""

import time
from collections.abc import Mapping, Sequence
from ssl import SSLContext
from typing import Any
from uuid import uuid4

import msgspec
from loguru import logger
from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from eventboard.core import request_context
from eventboard.core.contract import KEY_FIELD, IdempotencyKey, Operation, operations
from eventboard.core.errors import Code, ServiceError
from eventboard.observability import tracing
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import ATTEMPT, ATTEMPT_NUMBER, CALL, step
from eventboard.rpc import codec
from eventboard.rpc.breaker import BreakerPolicy, CircuitBreaker
from eventboard.rpc.errors import LostError, NeverReachedError, ShedError, UnreachableError
from eventboard.rpc.http_client import Answer, HttpClient, TooLargeError, UntrustedError
from eventboard.rpc.replicas import EXCLUDED_FOR, LoadBalancer, Replica
from eventboard.rpc.retries import RetryBudget, RetryPolicy, call_with_retries
from eventboard.rpc.version_mismatch import VersionMismatch

# Seconds that a replica which is shutting down is excluded: longer than it accepts connections after SIGTERM
# (server.drain in config/base.toml).
SHUTDOWN = 2.0
# Seconds that the record of a generated key outlives the call's budget.
KEY_MARGIN = 60.0
# Seconds of its operation's budget that may be spent before a call still counts as one with its full budget.
BUDGET_MARGIN = 0.1
# A client's key has visible ASCII only, so none begins with this.
GENERATED = "minted "
UNTRUSTED = "The services are not set up to trust each other."


class HttpTransport:
    """`module` is the name in errors, logs and health. `connect_timeout` and `keep_alive` are in seconds.

    `budgets` gives each kind of budget its seconds; `max_answer` is in bytes. `tls` is for `https` origins.
    """

    def __init__(
        self,
        module: str,
        contract: type[Any],
        origins: Sequence[str],
        *,
        credential: str,
        connect_timeout: float,
        keep_alive: float,
        budgets: Mapping[str, float],
        retries: RetryPolicy,
        breaker: BreakerPolicy,
        max_answer: int = codec.LARGEST_ANSWER,
        tls: SSLContext | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._module = module
        self._budgets = budgets
        contract_hash = codec.contract_hash(contract)
        self._mismatch = VersionMismatch(module, contract_hash)
        self._balancer = LoadBalancer(origins, connect_timeout)
        self._max_answer = max_answer
        self._client = HttpClient(
            connect_timeout=connect_timeout, keep_alive=keep_alive, max_answer=max_answer, tls=tls
        )
        self._headers = {
            "authorization": f"Bearer {credential}",
            "content-type": codec.MEDIA_TYPE,
            codec.CONTRACT: contract_hash,
        }
        self._decoders = {known.name: msgspec.msgpack.Decoder(known.result) for known in operations(contract)}
        self._retries = retries
        self._retry_budget = RetryBudget(retries, metrics=metrics, operations=operations(contract))
        self.breaker = CircuitBreaker(module, breaker, metrics=metrics)

    async def open(self) -> None:
        """Connections are made when they are needed."""

    async def close(self) -> None:
        await self._balancer.close()
        await self._client.close()

    def span_name(self, operation: Operation) -> str:
        """The call's; the service records a span of its own."""
        return CALL

    async def call(self, operation: Operation, request: Any) -> Any:
        if operation.keyed and getattr(request, KEY_FIELD) is None:
            request = replace(request, **{KEY_FIELD: _generated_key()})
        body = codec.encode(request)

        async def send(number: int) -> Any:
            with step(ATTEMPT, operation.name, kind=SpanKind.CLIENT, attributes={ATTEMPT_NUMBER: number}):
                return await self._send(operation, body)

        left = request_context.remaining()
        return await self.breaker.run(
            lambda: call_with_retries(self._module, operation, send, self._retries, self._retry_budget),
            full_budget=left is None or left > self._budgets[operation.budget] - BUDGET_MARGIN,
        )

    async def check(self) -> None:
        """A health check: at least one replica is alive. Raises ServiceError."""
        for replica in await self._balancer.candidates():
            try:
                answer = await self._client.send(replica, "GET", "/health/live", {})
            except NeverReachedError:
                self._balancer.exclude(replica)
                continue
            except (LostError, TooLargeError):
                continue
            except UntrustedError as error:
                raise self._untrusted(replica, error) from error
            self._note_availability(replica, answer)
            if answer.status == 200:
                return
        raise UnreachableError(self._module, shed=True)

    def state(self) -> dict[str, str]:
        """For /health: the circuit breaker, and whether the replicas have another version of the contract."""
        return {"breaker": self.breaker.state.value, **self._mismatch.state()}

    async def _send(self, operation: Operation, body: bytes) -> Any:
        """One attempt: the result from the first replica that a connection can be made to."""
        correlation_id = request_context.current().correlation_id
        headers = {**self._headers, codec.CORRELATION_ID: correlation_id, **tracing.propagation_headers()}
        replicas = await self._balancer.candidates()
        took = 0.0
        for replica in replicas:
            left = request_context.remaining()
            if left is not None:
                if left < took:
                    break  # the last replica took longer than there is time
                headers[codec.BUDGET] = str(int(left * 1000))
            begun = time.perf_counter()
            try:
                answer = await self._client.send(replica, "POST", f"{codec.PREFIX}{operation.name}", headers, body)
            except NeverReachedError:
                took = time.perf_counter() - begun
                self._balancer.exclude(replica)
                continue
            except UntrustedError as error:
                raise self._untrusted(replica, error) from error
            except TooLargeError:
                # The service has another limit than this process.
                raise codec.too_large(self._max_answer) from None
            if answer.headers.get(codec.CORRELATION_ID, correlation_id) != correlation_id:
                raise LostError(f"{replica.url}: it sent the answer to another request")
            self._note_availability(replica, answer)
            self._note_context(answer)
            try:
                return self._read(operation, answer, others=len(replicas) > 1)
            except ShedError as shed:
                # Beyond its Retry-After, so that the retry goes to another replica.
                self._balancer.exclude(replica, (shed.error.retry_after or 0) + EXCLUDED_FOR)
                raise
        raise NeverReachedError(f"no replica of {self._module} could be reached", took=took)

    def _untrusted(self, replica: Replica, error: Exception) -> ServiceError:
        logger.error(
            "{}: TLS with {} ({}) failed: {}; check its certificate, and EVENTBOARD_RPC_TLS_CA here",
            self._module,
            replica.origin,
            replica.url,
            error,
        )
        return ServiceError(Code.INTERNAL, UNTRUSTED)

    def _note_availability(self, replica: Replica, answer: Answer) -> None:
        if answer.headers.get("connection") == "close":
            # It is shutting down: no call may be on its way to it when it stops accepting connections.
            self._balancer.exclude(replica, SHUTDOWN)
        else:
            self._balancer.include(replica)

    def _note_context(self, answer: Answer) -> None:
        """What the service spent its time on, and the version of its contract."""
        if (timing := answer.headers.get("server-timing")) and request_context.current().recorded:
            request_context.current().log_fields.add_timings(tracing.parse_server_timing(timing))
        if (contract_hash := answer.headers.get(codec.CONTRACT)) is not None:
            self._mismatch.record(contract_hash)

    def _read(self, operation: Operation, answer: Answer, *, others: bool) -> Any:
        """The result that the answer carries; raises the ServiceError that it carries."""
        if answer.headers.get("content-type") != codec.MEDIA_TYPE:
            raise LostError(f"{self._module} answered {answer.status} with {answer.headers.get('content-type')}")
        try:
            if answer.status == 200:
                return self._decoders[operation.name].decode(answer.body)
            error = codec.decode_error(answer.body)
        except codec.UntrustedCallerError:
            logger.error(
                "{} rejects this process's service credential; set the same EVENTBOARD_RPC_CREDENTIAL in both",
                self._module,
            )
            raise ServiceError(Code.INTERNAL, UNTRUSTED) from None
        except codec.UNREADABLE as unreadable:
            raise LostError(f"the answer of {self._module} can't be read: {unreadable}") from None
        if error.code is Code.UNAVAILABLE and error.shed:
            raise ShedError(error, others=others)
        raise error


def _generated_key() -> IdempotencyKey:
    """Makes the retries of this call safe; its record is kept until long after they have ended."""
    lifetime = (request_context.remaining() or 0) + KEY_MARGIN
    return IdempotencyKey(f"{GENERATED}{uuid4().hex}", lifetime)
