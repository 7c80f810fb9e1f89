"""Plays requests against an API, and keeps every byte of what it answered."""

import json
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Exchange:
    """`request` is what was sent, in words; `headers` are as they came, in their order."""

    request: str
    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Its value, or "" where there is none."""
        return next((value for known, value in self.headers if known.lower() == name), "")


@dataclass
class Recording:
    """`begun` and `ended` are in Unix seconds: what was made in between was made by the shape."""

    shape: str
    exchanges: list[Exchange] = field(default_factory=list)
    begun: float = field(default_factory=time.time)
    ended: float = 0


class Player:
    """Sends nothing that it isn't told to send, but Host and the body's length."""

    def __init__(self, url: str, shape: str, tls: ssl.SSLContext | None = None) -> None:
        address = urlsplit(url).netloc
        if tls is None:
            self._connection = HTTPConnection(address, timeout=30)
        else:
            self._connection = HTTPSConnection(address, timeout=30, context=tls)
        self.recording = Recording(shape)
        # By the name of who sends them.
        self.tokens: dict[str, str] = {}

    def play(
        self,
        who: str,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> Any:
        """`who` is a name in `tokens`, or "" for nobody; a `body` that isn't bytes is sent as JSON.

        Returns the answer's JSON, or None where it isn't JSON; `last` has the rest.
        """
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = list(headers.items() if isinstance(headers, Mapping) else headers)
        if who:
            sent.append(("Authorization", f"Bearer {self.tokens[who]}"))
        if content is not None:
            if not any(name.lower() == "content-type" for name, _ in sent):
                sent.append(("Content-Type", "application/json"))
            sent.append(("Content-Length", str(len(content))))
        connection = self._connection
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in sent:
            connection.putheader(name, value)
        connection.endheaders(content)
        response = connection.getresponse()
        answer = response.read()
        said = [f"{name}: {value}" for name, value in sent if name not in ("Authorization", "Content-Length")]
        self.recording.exchanges.append(
            Exchange(
                f"{who or 'nobody'}: {method} {target} {said} {_shortened(content or b'')}",
                f"HTTP/{response.version / 10} {response.status} {response.reason}",
                tuple(response.getheaders()),
                answer,
            )
        )
        return json.loads(answer) if "json" in response.headers.get("Content-Type", "") and answer else None

    @property
    def last(self) -> Exchange:
        return self.recording.exchanges[-1]

    def close(self) -> None:
        self.recording.ended = time.time()
        self._connection.close()


def _shortened(body: bytes, most: int = 120) -> str:
    text = body.decode("latin-1")
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} bytes)"
