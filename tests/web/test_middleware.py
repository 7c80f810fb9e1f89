"""What every HTTP process does for every request, where a client's view isn't enough."""

import socket
import time
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.support.processes import PATIENCE, Process, logged_so_far


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"Content-Length: 100\r\n\r\n", id="before the body"),
        pytest.param(b'Content-Length: 100\r\n\r\n{"email": ', id="in the body"),
        pytest.param(b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"ema\r\n', id="between two chunks"),
    ],
)
def test_client_that_leaves(server: tuple[Process, str], begun: bytes) -> None:
    """It is no failure of ours: one line tells of it, and no traceback."""
    process, _ = server
    where, correlation_id = urlsplit(process.url), str(uuid4())
    with socket.create_connection((where.hostname or "", where.port or 0)) as client:
        client.sendall(
            b"POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            b"X-Correlation-ID: " + correlation_id.encode() + b"\r\n" + begun
        )
    end = time.monotonic() + PATIENCE
    while not (lines := [line for line in process.output.splitlines() if correlation_id in line]):
        assert time.monotonic() < end
        time.sleep(0.01)  # between two looks at another process
    assert sum(correlation_id in line for line in logged_so_far(process).splitlines()) == 1
    assert "POST /auth/login" in lines[0]
    assert "ERROR" not in lines[0]
