"""Requests that no decent client would send, byte by byte."""

import http.client
import socket
from urllib.parse import urlsplit

import httpx

from tests.support.processes import PATIENCE


def send(url: str, data: bytes) -> httpx.Response:
    """Sends the bytes as they are, and reads one answer."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=PATIENCE) as connection:
        connection.sendall(data)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
        headers = answer.getheaders()
    line = data.split(b"\r\n")[0].decode("latin-1")
    return httpx.Response(answer.status, headers=headers, content=body, request=httpx.Request(line.split(" ")[0], url))


def request(
    url: str, method: str, target: str | bytes, *, token: str = "", headers: tuple[str, ...] = (), body: bytes = b""
) -> httpx.Response:
    """A request whose method, target and headers are sent without any check."""
    path = target.encode() if isinstance(target, str) else target
    lines = ["Host: test", "Connection: close", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    head = method.encode() + b" " + path + b" HTTP/1.1\r\n" + "\r\n".join(lines).encode("latin-1")
    return send(url, head + b"\r\n\r\n" + body)
