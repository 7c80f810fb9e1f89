"""Clients that hang up."""

import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.faults.conftest import SMALL
from tests.support import cluster as clusters
from tests.support.board import EVENT, PASSWORD, Board, Organization
from tests.support.load import Call, at_once
from tests.support.metrics import scraped
from tests.support.processes import Process, patiently, serving
from tests.support.services import Services
from tests.support.sessions import assert_whole
from tests.support.stopwatch import Stopwatch

TIMES, AT_ONCE = 1000, 16
# Seconds: a client hangs up so late at most, which is as long as most requests take.
LONGEST = 0.05


def hang_up(url: str, requests: list[bytes], chance: random.Random) -> None:
    """Sends a request, or a part of it, and is gone: with an end, or with a reset."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "", where.port or 80)) as connection:
        request = chance.choice(requests)
        connection.sendall(request[: chance.choice([len(request)] * 4 + [chance.randrange(len(request))])])
        time.sleep(chance.uniform(0, LONGEST))  # the random moment
        if chance.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def requests_of(organization: Organization) -> list[bytes]:
    """What clients of this organization send: reads, writes and a log-in."""
    user = organization.user
    event = user.create()["id"]

    def request(method: str, path: str, body: object = None) -> bytes:
        content = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {user.token}\r\n"
        if content:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return head.encode() + b"\r\n" + content

    return [
        request("GET", f"/events/{event}"),
        request("GET", "/events?search=chess"),
        request("POST", "/events", EVENT),
        request("PATCH", f"/events/{event}", {"title": "Another title"}),
        # Another user: so many log-ins end the oldest sessions of whoever logs in.
        request("POST", "/auth/login", {"email": organization.other.email, "password": PASSWORD}),
    ]


def hang_up_often(board: Board, *processes: Process) -> None:
    """A thousand times, and then nothing is left of it in these processes."""
    organization = board.organization()
    requests = requests_of(organization)
    chance = random.Random(1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for gone in [pool.submit(hang_up, board.url, requests, chance) for _ in range(TIMES)]:
            gone.result()
    assert_whole(board)
    # Log-ins of one account wait for each other, without a connection.
    for process in processes:
        for _ in patiently(process):
            if not scraped(process)["http_server_active_requests"]:
                break
    user = organization.user
    # As many at once as the pools hold, and all are served.
    calls: list[Call] = [lambda: user.http.get("/events"), lambda: user.http.post("/events", json=EVENT)]
    answers = at_once(calls * 20)
    assert {call.status for call in answers} == {200, 201}, [call.answer.text for call in answers if call.status > 201]
    assert_whole(board)


def test_thousand_times(three: Services, board: Board) -> None:
    """Through three processes: pools whole, no transaction open."""
    hang_up_often(board, three.gateway.process, three.auth.process, three.events.process)


def test_thousand_times_in_one_process(cluster_url: str, tmp_path: Path) -> None:
    """Nor is a request still counted, or a task left over: told to end, the process has nothing to wait for."""
    settings = {**SMALL, "SERVER_DRAIN": "0.1", "SERVER_MAX_REQUESTS": "60"}
    with (
        clusters.database(cluster_url) as url,
        serving(url, tmp_path, **settings) as process,
        closing(Board(process.url, url)) as board,
    ):
        hang_up_often(board, process)
        board.close()
        told = Stopwatch()
        assert process.stop() == 0
        # Else it would be the 12 s of grace.
        assert told.seconds < 3
        assert "Traceback" not in process.output
        assert " ERROR " not in process.output
