"""What every HTTP process does for every request: correlation, the log line, errors as problems."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litestar import HttpMethod, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_204_NO_CONTENT
from litestar.types import Method
from loguru import logger

from eventboard.platform import context, tracing
from eventboard.platform.asgi import App, Message, Receive, Scope, Send
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.logs import Log, told_path
from eventboard.platform.metrics import Metrics, rejections
from eventboard.platform.problems import MEDIA_TYPE, STATUS_CODES, bug, is_safe, problem
from eventboard.platform.quotas import quota_headers
from eventboard.platform.tracing import Recorder

# Seconds until a client should come back to a process that has too much to do.
RETRY_AFTER = 1

# Seconds that each part may take to close, however late it is: some milliseconds are all that most need.
LEAST_LEFT = 0.5

# What became of the client's Idempotency-Key: executed, replayed, or ignored where the operation takes none.
KEY_STATUS = "idempotency-status"
# Where a request's scope keeps the headers that tell of its limits, for whatever answers it.
LIMITS = "eventboard.limits"

# What asks for health, in every process: it takes nobody's place.
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

# Others are told as one: whoever invents methods makes no series.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

# How a refusal is told: as a problem to the public, as a failure frame between processes.
Refuse = Callable[[ServiceError], tuple[int, dict[str, str], bytes]]


class Gate:
    """How many requests a process holds, health's apart, and whether it is on its way out.

    `ends_at` is on `time.monotonic()`'s clock.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.draining = False
        self.ends_at = float("inf")

    def seconds_left(self) -> float:
        """Until a draining process has to be gone; a little, even where that has passed."""
        return max(LEAST_LEFT, self.ends_at - time.monotonic())

    async def check(self) -> None:
        """The health check: a draining process isn't ready."""
        if self.draining:
            raise ServiceError(Code.UNAVAILABLE, "This process is about to end.", not_run=True)


class Front:
    """The outermost ASGI application: gives each request its context and each answer its correlation id.

    `headers` are on every answer that doesn't say otherwise. Past the gate's limit a request is refused at once; health
    is answered still. `timed`: answers tell where their time went. Without a `recorder` nothing of it is known.
    """

    def __init__(
        self,
        app: App,
        gate: Gate,
        refuse: Refuse,
        headers: Mapping[str, str],
        metrics: Metrics | None = None,
        recorder: Recorder | None = None,
        log: Log | None = None,
        *,
        timed: bool = False,
    ) -> None:
        metrics = metrics or Metrics()
        self._requests = metrics.histogram(
            "http_server_request_duration_seconds",
            "Requests that were answered, or whose client hung up (then without a status).",
            ("http_request_method", "http_route", "http_response_status_code"),
        )
        self._rejected = rejections(metrics)
        self._rejected.index(("requests",))
        held = metrics.gauge("http_server_active_requests", "Requests that are being answered, health's apart.")
        metrics.sampling(lambda: held.set(gate.held))
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._app = app
        self._gate = gate
        self._refuse = refuse
        self._recorder = recorder
        self._timed = timed and recorder is not None
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gate, recorder = self._gate, self._recorder
        status = 0
        at, begun = time.time(), tracing.now()
        ids = context.new_ids()
        correlation_id, traceparent, tracestate, keyed = _told_by(scope)
        correlation_id = correlation_id or ids.correlation_id
        trace = None if recorder is None else recorder.begin(correlation_id, traceparent, ids, at, begun)
        about = context.Context(correlation_id, traceparent, None, tracestate, context.Notes(), trace)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {name for name, _ in message["headers"]}
                headers = [*message["headers"], *(header for header in self._headers if header[0] not in said)]
                headers += scope.get(LIMITS, ())
                headers.append((b"x-correlation-id", correlation_id.encode()))
                if trace is not None and self._timed:
                    # A refusal tells the whole alone: how far somebody came who may not is not for them to know.
                    told = tracing.server_timing(trace, parts=not 400 <= status < 500)
                    headers.append((b"server-timing", told))
                if gate.draining:
                    # The client's next request finds another process.
                    headers.append((b"connection", b"close"))
                if keyed and not _takes_key(scope):
                    headers.append((KEY_STATUS.encode(), b"ignored"))
                message["headers"] = headers
            await send(message)

        counts = scope["path"] not in HEALTH
        gate.held += counts
        with context.use(about):
            try:
                if counts and gate.held > gate.most:
                    self._rejected.add("requests")
                    await _send(answer, *self._refuse(_too_much()))
                else:
                    await self._app(scope, receive, answer)
            finally:
                gate.held -= counts
                ended = tracing.now()
                seconds = ended - begun
                method = scope["method"] if scope["method"] in METHODS else "_OTHER"
                route = scope.get("path_template", "")
                self._requests.at[method, route, status or ""](seconds)
                if self._log is not None:
                    self._log.request(scope, status, at + seconds, seconds, about)
                if recorder is not None and trace is not None:
                    recorder.end(trace, method, route, status, ended, scope["path"])


def refuse_as_problem(error: ServiceError) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = problem(error, safe=False)
    return status, {**headers, "content-type": MEDIA_TYPE}, body


def _too_much() -> ServiceError:
    return ServiceError(
        Code.UNAVAILABLE, "Too many requests are being served already.", retry_after=RETRY_AFTER, not_run=True
    )


async def _send(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _takes_key(scope: Any) -> bool:
    """Whether the route says of itself that it takes idempotency keys; where none was reached, nobody ignored one."""
    handler = scope.get("route_handler")
    return handler is None or getattr(handler.opt.get("operation"), "keyed", False)


def _told_by(scope: Scope) -> tuple[str, str, str, bool]:
    """The client's correlation id and trace context, "" where there is none; whether a key was sent."""
    correlation_id = traceparent = tracestate = ""
    keyed, parents = False, 0
    for name, value in scope["headers"]:
        if name == b"x-correlation-id" and not correlation_id:
            text = value.decode("latin-1")
            correlation_id = text if context.CORRELATION_ID.fullmatch(text) else ""
        elif name == b"traceparent":
            text = value.decode("latin-1")
            # Two of them are none (W3C Trace Context, section 3.2.1).
            parents += 1
            traceparent = text if parents == 1 and tracing.parsed(text) else ""
        elif name == b"tracestate":
            tracestate += ("," if tracestate else "") + value.decode("latin-1")
        elif name == b"idempotency-key":
            keyed = True
    if not traceparent or not context.TRACESTATE.fullmatch(tracestate):
        tracestate = ""
    return correlation_id, traceparent, tracestate, keyed


def with_options(handlers: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """HEAD wherever GET is; and OPTIONS, as Litestar's own answer names the methods of a path's first handler alone."""
    methods: defaultdict[str, set[Method]] = defaultdict(lambda: {"OPTIONS"})
    for handler in handlers:
        if "GET" in handler.http_methods:
            handler.http_methods.add(HttpMethod.HEAD)
        for path in handler.paths:
            methods[path] |= handler.http_methods
    return [*(_options(path, ", ".join(sorted(allowed))) for path, allowed in methods.items()), *handlers]


def _options(path: str, allowed: str) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS", include_in_schema=False)
    async def answer() -> ASGIResponse:
        return ASGIResponse(status_code=HTTP_204_NO_CONTENT, headers={"allow": allowed})

    return answer


def service_error(request: Request[Any, Any, Any], error: ServiceError) -> Response[bytes]:
    # A write with the client's own key happens once, however often it is sent.
    safe = is_safe(request.method) or (_takes_key(request.scope) and "idempotency-key" in request.headers)
    context.current().notes.failed(error, error.code)
    status, headers, body = problem(error, safe=safe)
    if error.key_status is not None:
        headers[KEY_STATUS] = error.key_status.value
    headers.update(quota_headers(error.quotas))
    if status == 401:
        headers["www-authenticate"] = _challenge(request, error)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: no such path, no such method, a body too large."""
    code = STATUS_CODES.get(error.status_code)
    if code is None:
        return unforeseen(request, error)
    response = service_error(request, ServiceError(code, _DETAILS.get(code, error.detail)))
    for name, value in (error.headers or {}).items():
        # Methods in one order, as OPTIONS tells them: Litestar's is that of a set.
        response.headers[name] = ", ".join(sorted(value.split(", "))) if name.lower() == "allow" else value
    return response


def unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.opt(exception=error).error("{} {} failed", request.method, told_path(request.scope["raw_path"]))
    return service_error(request, bug())


# In sentences, where Litestar has only the status' name.
_DETAILS = {
    Code.NOT_FOUND: "Nothing is at this path.",
    Code.METHOD_NOT_ALLOWED: "This path has other methods.",
    Code.TOO_LARGE: "The body is too large.",
}

EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
    ServiceError: service_error,
    HTTPException: framework_error,
    Exception: unforeseen,
}


def _challenge(request: Request[Any, Any, Any], error: ServiceError) -> str:
    """RFC 6750, section 3.1: no error code where no bearer token was given."""
    challenge = 'Bearer realm="eventboard"'
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if error.code is Code.INVALID_TOKEN and scheme == "bearer":
        challenge += f', error="invalid_token", error_description="{error.detail}"'
    return challenge
