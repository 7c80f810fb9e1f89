"""Two of the processes that clients reach, with narrow limits.

What a test calls an address is what the trusted proxy, which is the test, says of it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support import cluster as clusters
from tests.support.board import PASSWORD, Board, Organization
from tests.support.shapes import ALL, deployed

NARROW = {
    "SERVER_TRUSTED_PROXIES": "127.0.0.1",
    "LIMITS_LOGIN_BY_ADDRESS": "20",
    "LIMITS_LOGIN_FAILURES": "4",
    "LIMITS_LOGIN_FAILURES_BY_ACCOUNT": "6",
    "LIMITS_SIGNUP_BY_ADDRESS": "3",
    "LIMITS_SIGNUP_BY_ACCOUNT": "2",
    "LIMITS_REFRESH_BY_ADDRESS": "5",
    "LIMITS_REFRESH_BY_ACCOUNT": "3",
    "LIMITS_LOGIN_BY_ACCOUNT": "30",
    "LIMITS_NETWORK_FACTOR": "2",
    "LIMITS_PASSWORD_BY_ADDRESS": "8",
    "LIMITS_PASSWORD_BY_ACCOUNT": "5",
    "LIMITS_INVITATIONS_BY_USER": "8",
    "LIMITS_INVITATIONS_BY_ORGANIZATION": "6",
    "LIMITS_INVITATIONS_BY_RECIPIENT": "3",
    "LIMITS_REQUESTS": "40",
    "LIMITS_BLOCK": "5",
    # More log-ins at once than threads and queue would take is another refusal.
    "PASSWORDS_QUEUE": "200",
}
OFF = {name: "0" for name, most in NARROW.items() if "_BY_" in name or name.endswith(("FAILURES", "REQUESTS"))}
WRONG = "not the password"
_addresses = itertools.count(1)


class Faces:
    """Two processes that clients reach, on one database."""

    def __init__(self, boards: Sequence[Board]) -> None:
        self._turns = itertools.cycle(boards)
        self.boards = boards
        self.organization: Organization

    def age(self) -> None:
        """As if each window had ended; what is remembered is forgotten, too."""
        self.boards[0].sql("UPDATE auth.counters SET ends_at = now()")

    def post(self, path: str, body: dict[str, Any], address: str) -> httpx.Response:
        """To either, in turn."""
        return next(self._turns).client().post(path, json=body, headers={"x-forwarded-for": address})

    def log_in(self, email: str, address: str, password: str = PASSWORD) -> httpx.Response:
        return self.post("/auth/login", {"email": email, "password": password}, address)


@contextmanager
def two_faces(shape: str, cluster_url: str, folder: Path, **settings: str) -> Iterator[Faces]:
    """A shape with a second process of those that clients reach."""
    public = next(target for target in shape.split("+") if target == ALL or "gateway" in target)
    with (
        clusters.database(cluster_url) as url,
        deployed(f"{public}+{shape}", url, folder, **{**NARROW, **settings}) as deployment,
        ExitStack() as stack,
    ):
        boards = [Board(deployment.processes[name].url, url) for name in (public, f"{public} 2")]
        for board in boards:
            stack.callback(board.close)
        faces = Faces(boards)
        faces.organization = boards[0].organization()
        yield faces


def next_address() -> str:
    """Of a network that no other test of this process has; `near` gives others of it."""
    return f"198.51.{next(_addresses)}.1"


def near(address: str, number: int = 0) -> str:
    return f"{address.rpartition('.')[0]}.{number + 2}"


def at_once(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in set(found)}
