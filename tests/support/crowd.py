"""Many clients at once, cheap enough for thousands of requests: connections that stay open, and no client library."""

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.board import Member


@dataclass
class Call:
    """What one of them asks for."""

    member: Member
    method: str
    path: str
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    """`headers` are named in lower case."""

    status: int
    headers: dict[str, str]
    body: Any


class Crowd:
    def __init__(self, connections: Sequence[http.client.HTTPConnection]) -> None:
        self._connections = connections

    def at_once(self, calls: Sequence[Call]) -> list[Reply]:
        """Sends all calls, each on a connection of its own, before any answer is read."""
        used = self._connections[: len(calls)]
        for connection, call in zip(used, calls, strict=True):
            headers = {"authorization": f"Bearer {call.member.token}", **call.headers}
            if call.body is not None:
                headers["content-type"] = "application/json"
            content = None if call.body is None else json.dumps(call.body).encode()
            connection.request(call.method, call.path, content, headers)
        return [_read(connection.getresponse()) for connection in used]


@contextmanager
def crowd(url: str, size: int) -> Iterator[Crowd]:
    connections = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=30) for _ in range(size)]
    try:
        yield Crowd(connections)
    finally:
        for connection in connections:
            connection.close()


def _read(answer: http.client.HTTPResponse) -> Reply:
    content = answer.read()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, headers, json.loads(content) if content else None)
