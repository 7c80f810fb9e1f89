"""`eventboard trace`: asks the processes of this machine where the time of a request went, and draws the answer."""

import http.client
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from eventboard.platform.context import CORRELATION_ID
from eventboard.platform.traces import ID, PATH, ToldSpan, ToldTrace, read_traces
from eventboard.platform.tracing import ATTEMPT, SERVICE
from eventboard.settings import ADMIN_ABOVE, PORTS, Server

# Seconds: longer than a worker waits for the others (platform/group.py).
PATIENCE = 3.0
# For a terminal: what is not the point, and what went wrong.
DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"


class TraceError(Exception):
    """One line for the user."""


def find(server: Server, correlation_id: str) -> list[ToldTrace]:
    """Of the first process that knows any. Raises TraceError where none does, or none is there, or none records."""
    if not CORRELATION_ID.fullmatch(correlation_id):
        raise TraceError(f"{correlation_id!r} is no correlation id")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.admin_host, server.admin_host)  # noqa: S104 - compared
    known = [server.port] if server.port else list(PORTS.values())
    ports = [server.admin_port] if server.admin_port else [port + ADMIN_ABOVE for port in known]
    answered, unrecorded = False, ""
    for port in ports:
        try:
            found = _ask(host, port, correlation_id)
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise TraceError(f"{host}:{port}: {str(error) or type(error).__name__}") from None
        if found is None:
            unrecorded = unrecorded or f"{host}:{port}"
            continue
        answered = True
        if found:
            return found
    if unrecorded and not answered:
        raise TraceError(f"{unrecorded} records nothing: its EVENTBOARD_TRACING_RECORD is off")
    if not answered:
        raise TraceError(f"nothing listens on {host}, port {', '.join(map(str, ports))}")
    raise TraceError(f"no request with the correlation id {correlation_id} is among the last that are kept")


def _ask(host: str, port: int, correlation_id: str) -> list[ToldTrace] | None:
    """None where the process records nothing: then it has no such page."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", f"{PATH}?{ID}={quote(correlation_id, safe='')}")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise http.client.HTTPException(f"{answer.status} {answer.reason}")
    return read_traces(body)


def drawn(trace: ToldTrace, *, colour: bool) -> str:
    """The tree, in lines. A service stands beside the gateway, whatever call of the gateway's it answered."""
    whole = trace.spans[0]
    inside: defaultdict[int, list[ToldSpan]] = defaultdict(list)
    beside = [whole]
    by_number = {span.number: span for span in trace.spans}
    for span in trace.spans[1:]:
        if span.name.endswith(SERVICE):
            beside.append(span)
        else:
            inside[span.parent].append(span)
    pen = _Pen(colour=colour)
    at = datetime.fromtimestamp(trace.at, UTC)
    when = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    about = f"{trace.method} {trace.route or '-'} {trace.status or '-'}, {when}, trace {trace.trace_id}"
    lines = [f"Request: {trace.correlation_id}  {pen.dim(about)}"]

    def branch(spans: list[ToldSpan], indent: str) -> Iterator[str]:
        for span in spans:
            last = span is spans[-1]
            yield pen.dim(indent + ("└─ " if last else "├─ ")) + pen.span(span, by_number.get(span.parent))
            yield from branch(inside[span.number], indent + ("   " if last else "│  "))

    return "\n".join([*lines, *branch(beside, "")])


class _Pen:
    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def dim(self, text: str) -> str:
        return self._in(DIM, text)

    def span(self, span: ToldSpan, parent: ToldSpan | None) -> str:
        name, detail = span.name, span.detail
        if name == ATTEMPT:
            name, detail = f"{name} {detail}", ""
        elif name.endswith(SERVICE) and parent is not None and parent.name == ATTEMPT:
            detail = f"{detail}, attempt {parent.detail}"
        text = f"{name}: {_milliseconds(span.took)}"
        if detail:
            text += "  " + self.dim(detail)
        return f"{text}  {self._in(RED, span.failure)}" if span.failure else text

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text


def _milliseconds(took: float) -> str:
    return f"{took:.1f}ms" if took < 100 else f"{took:.0f}ms"
