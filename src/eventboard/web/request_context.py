"""The request's context and span, the headers that every response has, and the access log."""

import time
from collections.abc import Awaitable, Mapping
from functools import cache

from loguru import logger
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, StatusCode
from uuid_utils import uuid4

from eventboard.core import request_context
from eventboard.core.asgi import App, Message, Receive, Scope, Send
from eventboard.observability import tracing
from eventboard.observability.logging import printable_path
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import GATEWAY, STEP
from eventboard.web.idempotency_headers import KEY_STATUS, takes_key
from eventboard.web.serving_state import ServingState

# Keys of a request's scope: the path prefix below which clients see this service, and the headers that describe the
# caller's rate limit, for whatever response is sent.
PATH_PREFIX = "eventboard.path_prefix"
RATE_LIMIT_HEADERS = "eventboard.rate_limit_headers"

# The metric's other methods are one, so that a client can't create time series by inventing methods.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class RequestContextMiddleware:
    """Gives each request its context, and each response its correlation id and server timing.

    `headers` are added to responses that don't have them. `name` is the process's in Server-Timing. `problem_base` is
    what the types of problems begin with, in place of the path prefix.
    """

    def __init__(
        self,
        app: App,
        serving: ServingState,
        headers: Mapping[str, str],
        metrics: Metrics,
        *,
        name: str = "gateway",
        problem_base: str = "",
    ) -> None:
        # A kept child costs a third of looking it up by its labels.
        self._duration = cache(metrics.request_duration.labels)
        metrics.active_requests.set_function(lambda: serving.in_progress)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._app = app
        self._serving = serving
        self._name = name
        self._problem_base = problem_base
        self._step = GATEWAY if name == "gateway" else tracing.service(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        started = time.perf_counter()
        correlation_id, key_sent = _request_headers(scope)
        prefix = scope.get(PATH_PREFIX, "")
        span = tracing.request_span(scope)
        context = request_context.Context(
            correlation_id or str(uuid4()),
            prefix=prefix,
            problem_base=self._problem_base or prefix,
            trace_id=tracing.trace_id(span),
            recorded=span.is_recording(),
        )

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                present = {header[0] for header in headers}
                headers = [*headers, *[header for header in self._headers if header[0] not in present]]
                headers += scope.get(RATE_LIMIT_HEADERS, ())
                headers.append((b"x-correlation-id", context.correlation_id.encode()))
                # A client error has the total only: how far the request came may tell what the caller must not know.
                steps = {} if 400 <= status < 500 else context.log_fields.timings
                timing = tracing.server_timing(self._name, time.perf_counter() - started, steps)
                headers.append((b"server-timing", timing.encode()))
                if self._serving.draining:
                    # The client's next request finds another process.
                    headers.append((b"connection", b"close"))
                if key_sent and not takes_key(scope):
                    headers.append((KEY_STATUS.encode(), b"ignored"))
                message["headers"] = headers
            return send(message)

        token = attach(trace.set_span_in_context(span))
        with request_context.use(context):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                seconds = time.perf_counter() - started
                method = scope["method"] if scope["method"] in METHODS else "_OTHER"
                route = scope.get("path_template", "")
                sampled = context.recorded and span.get_span_context().trace_flags.sampled
                exemplar = {"trace_id": context.trace_id} if sampled else None
                self._duration(method, route, status or "").observe(seconds, exemplar)
                _log_access(scope, status, seconds, context.log_fields)
                if context.recorded:
                    self._describe(span, method, route, status, context)
                detach(token)
                span.end()

    def _describe(self, span: Span, method: str, route: str, status: int, context: request_context.Context) -> None:
        """By OpenTelemetry's conventions. The path itself isn't recorded: it may hold anything."""
        operation = context.log_fields.operation
        span.update_name(f"{method} {route}" if self._name == "gateway" else operation or method)
        span.set_attributes(
            {
                STEP: self._step,
                tracing.CORRELATION_ID: context.correlation_id,
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                **({"rpc.method": operation} if operation else {}),
                **({tracing.ERROR_TYPE: context.log_fields.code} if context.log_fields.code else {}),
            }
        )
        if status >= 500 or not status:
            span.set_status(StatusCode.ERROR)


def _request_headers(scope: Scope) -> tuple[str, bool]:
    """The client's correlation id, "" if there is none or it isn't valid; whether an idempotency key was sent."""
    correlation_id, key_sent = "", False
    for name, value in scope["headers"]:
        if name == b"x-correlation-id" and not correlation_id:
            text = value.decode("latin-1")
            correlation_id = text if request_context.CORRELATION_ID.fullmatch(text) else ""
        elif name == b"idempotency-key":
            key_sent = True
    return correlation_id, key_sent


def _log_access(scope: Scope, status: int, seconds: float, log_fields: request_context.RequestLogFields) -> None:
    """One line for each request; without a status its client has disconnected first."""
    path, caller = printable_path(scope["raw_path"]), log_fields.caller
    logger.bind(
        method=scope["method"],
        path=path,
        status=status,
        duration_ms=round(seconds * 1000, 2),
        operation=log_fields.operation,
        code=log_fields.code,
        cause=log_fields.cause,
        **({} if caller is None else {"organization_id": caller.organization_id, "user_id": caller.user_id}),
    ).log("WARNING" if status >= 500 else "INFO", "{} {} {}", scope["method"], path, status or "-")
