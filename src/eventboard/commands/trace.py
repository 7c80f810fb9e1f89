"""`eventboard trace`: collects the spans of a request from the processes on this machine, and draws them as a tree."""

import http.client
from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from eventboard.core.errors import CommandError
from eventboard.core.request_context import CORRELATION_ID
from eventboard.observability.tracing import ATTEMPT, ATTEMPT_NUMBER, ERROR_TYPE, GATEWAY, SERVICE, STEP
from eventboard.observability.tracing import CORRELATION_ID as CORRELATION_ATTRIBUTE
from eventboard.settings import ADMIN_ABOVE, PORTS, Server

# Seconds that a process may take to answer.
TIMEOUT = 3.0
# Terminal colours: details, and failures.
DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class SpanContext(Struct, frozen=True):
    trace_id: str
    span_id: str


class Span(Struct, frozen=True, kw_only=True):
    """The fields used here of OpenTelemetry's JSON for a span."""

    name: str
    context: SpanContext
    parent_id: str | None
    start_time: datetime
    end_time: datetime
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def milliseconds(self) -> float:
        return (self.end_time - self.start_time).total_seconds() * 1000

    @property
    def step(self) -> str:
        return str(self.attributes.get(STEP, self.name))

    @property
    def is_service(self) -> bool:
        return self.step.endswith(SERVICE)


read_spans = msgspec.json.Decoder(list[Span]).decode


def find_spans(server: Server, correlation_id: str) -> list[Span]:
    """From every process on this machine. Raises CommandError where there are none."""
    if not CORRELATION_ID.fullmatch(correlation_id):
        raise CommandError(f"{correlation_id!r} is not a correlation id")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.admin_host, server.admin_host)  # noqa: S104 - compared
    known = [server.port] if server.port else list(PORTS.values())
    ports = [server.admin_port] if server.admin_port else [port + ADMIN_ABOVE for port in known]
    found: dict[str, Span] = {}
    answered = False
    for port in ports:
        try:
            spans = _ask(host, port, correlation_id)
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise CommandError(f"{host}:{port}: {str(error) or type(error).__name__}") from None
        answered = True
        found |= {span.context.span_id: span for span in spans}
    if not answered:
        raise CommandError(f"nothing listens on {host}, port {', '.join(map(str, ports))}")
    if not found:
        raise CommandError(
            f"no request with the correlation id {correlation_id} was recorded, or it isn't kept any more: production"
            " records 1 % of requests (OTEL_TRACES_SAMPLER), and each process keeps the last (EVENTBOARD_TRACING_KEEP)"
        )
    return list(found.values())


def _ask(host: str, port: int, correlation_id: str) -> list[Span]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/debug/traces?id={quote(correlation_id, safe='')}")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"{answer.status} {answer.reason}")
    return read_spans(body)


def draw(spans: Sequence[Span], correlation_id: str, *, colour: bool) -> str:
    """A tree for each request with the id, the oldest first. Services are drawn next to the gateway, not below it."""
    ids = {span.context.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: span.start_time)
    entries = [span for span in ordered if span.attributes.get(CORRELATION_ATTRIBUTE) == correlation_id]
    # Without the gateway's span, start at the services'.
    roots = [span for span in entries if span.step == GATEWAY] or [s for s in entries if s.parent_id not in ids]
    return "\n\n".join("\n".join(_tree(root, ordered, _Pen(colour=colour))) for root in roots)


def _tree(root: Span, spans: Sequence[Span], pen: "_Pen") -> Iterator[str]:
    inside: dict[str, list[Span]] = {}
    for span in spans:
        inside.setdefault(span.parent_id or "", []).append(span)
    by_id = {span.context.span_id: span for span in spans}

    def below(span: Span) -> Iterator[Span]:
        yield span
        for child in inside.get(span.context.span_id, ()):
            yield from below(child)

    def branch(level: Sequence[Span], indent: str) -> Iterator[str]:
        for span in level:
            last = span is level[-1]
            yield pen.dim(indent + ("└─ " if last else "├─ ")) + pen.span(span, by_id.get(span.parent_id or ""))
            children = [child for child in inside.get(span.context.span_id, ()) if not child.is_service]
            yield from branch(children, indent + ("   " if last else "│  "))

    whole, attributes = root.context.trace_id.removeprefix("0x"), root.attributes
    when = root.start_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = [
        attributes.get("http.request.method"),
        attributes.get("http.route"),
        attributes.get("http.response.status_code"),
    ]
    about = f"{' '.join(str(part or '-') for part in line)}, {when}, trace {whole}"
    yield f"Request: {attributes[CORRELATION_ATTRIBUTE]}  {pen.dim(about)}"
    yield from branch([root, *(span for span in below(root) if span.is_service and span is not root)], "")


class _Pen:
    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def dim(self, text: str) -> str:
        return self._in(DIM, text)

    def span(self, span: Span, parent: Span | None) -> str:
        name, detail = span.step, "" if span.name == span.step or span.step == GATEWAY else span.name
        if name == ATTEMPT:
            name, detail = f"{name} {span.attributes.get(ATTEMPT_NUMBER, '')}", ""
        elif span.is_service and parent is not None and parent.step == ATTEMPT:
            detail = f"{detail}, attempt {parent.attributes.get(ATTEMPT_NUMBER, '')}"
        text = f"{name}: {_milliseconds(span.milliseconds)}"
        if detail:
            text += "  " + self.dim(detail)
        failure = span.attributes.get(ERROR_TYPE)
        return f"{text}  {self._in(RED, str(failure))}" if failure else text

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text


def _milliseconds(took: float) -> str:
    return f"{took:.1f}ms" if took < 100 else f"{took:.0f}ms"
