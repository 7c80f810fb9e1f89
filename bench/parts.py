"""What is measured: each part starts its servers, and fires the same load at them in turn, A B A B."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import jwt
import msgspec
from msgspec import Struct

from bench import telemetry
from bench.data import (
    HITS,
    LARGE,
    LATER,
    MIDDLE,
    MODERATOR,
    NEEDLE,
    OURS,
    READER,
    SMALL,
    THEIRS,
    WRITER,
    Data,
    organization,
)
from bench.limit import limits
from bench.load import Figures, Load, Step, fire, fire_in_turn, warm
from bench.servers import (
    BARE,
    BASELINES,
    LIMITS,
    ONE,
    PORT,
    SECRET,
    SERVER_CORE,
    THREE,
    USUAL,
    Server,
    environment,
    running,
)
from eventboard.dev.demo import PASSWORD, demo_id

READ_IDS = 1_000  # different events that are read in turn
# Approvals that one turn can use up, for each second; a turn that is faster finds none that waits, and says so.
APPROVALS = 4_000

ME, READ, LIST, SEARCH, DEEP = (
    "GET /auth/me",
    "GET /events/{id}",
    "GET /events?limit=10",
    "search",
    "deep page by cursor",
)
CREATE, KEYED, APPROVE, MIX = "POST /events", "POST /events with a key", "approve", "mix 80/15/5"
LOGIN, ALONE = "login", "GET /events/{id}, one connection"

DRAFT = {
    "title": "Chess night",
    "description": "Bring a board and a friend.",
    "location": "Cafeteria",
    "startDate": LATER,
    "endDate": "2100-01-01T21:00:00Z",
    "timeZone": "Europe/Berlin",
}

# For each load, for each server, what each turn measured.
Measured = dict[str, dict[str, list[Figures]]]


class Bench(Struct, frozen=True):
    """`quick`: only what the table of targets needs."""

    data: Data
    environ: dict[str, str]
    rounds: int
    seconds: float
    quick: bool
    tokens: dict[tuple[str, int], str]
    ids: dict[int, list[str]]
    cursors: dict[int, str]

    @classmethod
    async def begin(
        cls, data: Data, folder: Path, sizes: Iterable[int], rounds: int, seconds: float, *, quick: bool = False
    ) -> "Bench":
        environ = environment(data, folder)
        tokens, cursors, ids = {}, {}, {}
        with running(ONE, environ) as server:
            for size in sizes:
                for email in (READER, WRITER, MODERATOR):
                    said = {"email": email, "password": PASSWORD, "organizationId": str(organization(size))}
                    tokens[email, size] = ask(server, "/auth/login", body=said)["accessToken"]
                cursors[size] = _deep_cursor(ask(server, "/events?limit=10", token=tokens[READER, size]))
                ids[size] = await data.ids(size, READ_IDS)
        return cls(data, environ, rounds, seconds, quick, tokens, ids, cursors)

    def token(self, server: str, email: str, size: int) -> str:
        if server not in BASELINES:
            return self.tokens[email, size]
        claims = {"sub": str(demo_id(email)), "org": str(organization(size)), "name": "Bench Writer"}
        return jwt.encode({**claims, "exp": 2**31}, SECRET, "HS256")

    async def load(self, name: str, server: str, seconds: float, size: int = MIDDLE) -> Load:
        reader, writer = self.token(server, READER, size), self.token(server, WRITER, size)
        read = Step(paths=[f"/events/{id_}" for id_ in self.ids[size]], token=reader)
        listed = Step(paths=["/events?limit=10"], token=reader)
        create = Step(paths=["/events"], method="POST", token=writer, body=DRAFT)
        match name:
            case "GET /auth/me":
                return Load(name, [Step(paths=["/auth/me"], token=reader)])
            case "GET /events/{id}":
                return Load(name, [read])
            case "GET /events/{id}, one connection":
                return Load(name, [read], connections=1)
            case "GET /events?limit=10":
                return Load(name, [listed])
            case "search":
                return Load(name, [Step(paths=[f"/events?limit=10&search={NEEDLE}"], token=reader)])
            case "deep page by cursor":
                path = f"/events?limit=10&cursor={quote(self.cursors[size])}"
                return Load(name, [Step(paths=[path], token=reader)])
            case "POST /events":
                return Load(name, [create])
            case "POST /events with a key":
                return Load(name, [msgspec.structs.replace(create, keyed=True)])
            case "approve":
                database = THEIRS if server in BASELINES else OURS
                waiting = await self.data.submitted(database, int(APPROVALS * max(1, seconds)))
                moderator = self.token(server, MODERATOR, size)
                return Load(
                    name, [Step(paths=[f"/events/{id_}/approve" for id_ in waiting], method="POST", token=moderator)]
                )
            case "mix 80/15/5":
                # Of twenty requests sixteen read, three list, one creates.
                order = [1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 3]
                return Load(name, [read, listed, create], order)
            case "login":
                said = {"email": READER, "password": PASSWORD, "organizationId": str(organization(size))}
                return Load(name, [Step(paths=["/auth/login"], method="POST", body=said)], connections=4)
            case _:
                raise AssertionError(name)


class Part(Struct, frozen=True):
    measure: Callable[[Bench], Awaitable[Measured]]
    sizes: Sequence[int] = (MIDDLE,)
    baselines: bool = False


def _against(loads: Sequence[str], others: Sequence[str]) -> Callable[[Bench], Awaitable[Measured]]:
    """`others` are in no target."""

    async def measure(bench: Bench) -> Measured:
        seen: dict[str, dict[str, bytes]] = {}

        async def compare(server: Server) -> None:
            if server.name in LIMITS:
                agree_on_values(bench, server, seen[ONE][READ])
            elif server.name not in seen:
                seen[server.name] = answers(bench, server)

        chosen = [*loads] if bench.quick else [*loads, *others]
        servers = [ONE, BARE, USUAL]
        only = {load: tuple(servers) for load in chosen if load != READ} | {ME: (ONE,)}
        if READ in chosen:
            servers += limits()
        measured = await in_turn(bench, servers, chosen, only=only, first=compare)
        agree(seen)
        return measured

    return measure


async def _shapes(bench: Bench) -> Measured:
    return await in_turn(bench, (ONE, THREE), (READ, ALONE) if bench.quick else (READ, LIST, KEYED, ALONE))


async def _telemetry(bench: Bench) -> Measured:
    return await telemetry.measure(bench, READ)


async def in_turn(
    bench: Bench,
    servers: Sequence[str],
    loads: Sequence[str],
    *,
    only: Mapping[str, Sequence[str]] = {},
    first: Callable[[Server], Awaitable[None]] | None = None,
) -> Measured:
    measured: Measured = {name: {} for name in loads}
    for number in range(bench.rounds):
        with ExitStack() as stack:
            up: dict[str, Server] = {}
            for name in servers:
                # Three processes have their peers' ports in their settings.
                port = PORT if name == THREE else PORT + 10 * (servers.index(name) + 1)
                up[name] = stack.enter_context(running(name, bench.environ, port=port))
                if first is not None:
                    await first(up[name])
            for load in loads:
                names = [name for name in servers if name in only.get(load, servers)]
                failed = {
                    name: figures
                    for name in names
                    if "failed" in (figures := warm(up[name], await bench.load(load, name, 1)))
                }
                given = [
                    (up[name], await bench.load(load, name, bench.seconds)) for name in names if name not in failed
                ]
                got = fire_in_turn(given, bench.seconds) if given else []
                turn = failed | {server.name: figures for (server, _), figures in zip(given, got, strict=True)}
                for name in names:
                    turn[name] |= {"ready_after": up[name].ready_after, "memory": up[name].memory()}
                    measured[load].setdefault(name, []).append(turn[name])
                line = ", ".join(f"{name} {_short(turn[name])}" for name in names)
                print(f"round {number + 1} of {bench.rounds}, {load}: {line}", flush=True)
    return measured


def _short(turn: Mapping[str, Any]) -> str:
    return f"failed ({turn['failed']})" if "failed" in turn else f"{turn['per_second']:.0f}/s"


async def _growth(bench: Bench) -> Measured:
    """One server, the organizations in turn; one connection, so that what is measured is the time of one request."""
    loads = (LIST, DEEP, SEARCH) if bench.quick else (LIST, DEEP, SEARCH, READ)
    measured: Measured = {name: {} for name in loads}
    with running(ONE, bench.environ) as server:
        for number in range(bench.rounds):
            for name, sizes in measured.items():
                for size in (SMALL, MIDDLE, LARGE):
                    load = await bench.load(name, ONE, bench.seconds, size)
                    load = msgspec.structs.replace(load, connections=1)
                    if not number:
                        warm(server, load)
                    sizes.setdefault(f"{size:,} events", []).append(fire(server, load, bench.seconds))
            print(f"round {number + 1} of {bench.rounds}", flush=True)
        for size in (SMALL, MIDDLE, LARGE):
            token = bench.token(ONE, READER, size)
            found = ask(server, f"/events?limit=1&search={NEEDLE}", token=token)["meta"]["total"]
            # All that contain it, but for those that this caller doesn't see.
            if not HITS / 2 < found <= HITS:
                sys.exit(f"the search finds {found} events of {size}")
    return measured


_HASHES = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from argon2 import PasswordHasher
memory, iterations, workers, seconds = map(float, sys.argv[1:])
hasher = PasswordHasher(time_cost=int(iterations), memory_cost=int(memory), parallelism=1)
hashed = hasher.hash("Password123!")
def verify(_):
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        hasher.verify(hashed, "Password123!")
        count += 1
    return count / (time.monotonic() - begun)
with ThreadPoolExecutor(int(workers)) as threads:
    print(sum(threads.map(verify, range(int(workers)))))
"""


def _number(command: Sequence[str]) -> float:
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def _login(bench: Bench) -> Measured:
    """Against Argon2 alone: as many hashing threads, on the same core."""
    given = msgspec.toml.decode(Path(__file__).parents[1].joinpath("config", "base.toml").read_bytes())["passwords"]
    # The core is one: one thread more would share it.
    parameters = [str(given["memory_kib"]), str(given["iterations"]), "1", "1"]
    measured: Measured = {LOGIN: {ONE: [], "Argon2 alone": []}}
    environ = {**bench.environ, "EVENTBOARD_PASSWORDS_WORKERS": "1"}
    with running(ONE, environ) as server:
        load = await bench.load(LOGIN, ONE, bench.seconds)
        warm(server, load)
        for number in range(max(6, bench.rounds * round(bench.seconds))):
            # A second each; one slot, so that what is under way at its end is counted with its time.
            measured[LOGIN][ONE] += fire_in_turn([(server, load)], 1, slot=1.5, open_=1)
            command = ["/usr/bin/taskset", "-c", SERVER_CORE, sys.executable, "-c", _HASHES, *parameters]
            alone = _number(command)
            measured[LOGIN]["Argon2 alone"].append({"per_second": alone})
            print(f"turn {number + 1}: {_short(measured[LOGIN][ONE][-1])}, alone {alone:.0f}/s", flush=True)
    return measured


PARTS = {
    "reads": Part(_against((READ, LIST), (ME, SEARCH)), baselines=True),
    "writes": Part(_against((CREATE, KEYED, APPROVE), (MIX,)), baselines=True),
    "shapes": Part(_shapes),
    "growth": Part(_growth, sizes=(SMALL, MIDDLE, LARGE)),
    "login": Part(_login),
    "telemetry": Part(_telemetry),
}


def ask(server: Server, path: str, *, token: str = "", body: Any = None) -> Any:
    return json.loads(_body(server, path, token=token, body=body))


def _body(server: Server, path: str, *, token: str = "", body: Any = None) -> bytes:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(server.url + path, data, headers)) as answer:  # noqa: S310 - the address is ours
        whole: bytes = answer.read()
        return whole


def _deep_cursor(page: Any) -> str:
    """The cursor of the first page, moved to the middle of what there is."""
    text = page["meta"]["nextCursor"]
    place = msgspec.msgpack.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    place[2] = datetime(2026, 7, 24, tzinfo=UTC)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).rstrip(b"=").decode()


def answers(bench: Bench, server: Server) -> dict[str, bytes]:
    """What a server says to the same requests, less what can't be alike: new ids, new times."""
    reader, writer = (bench.token(server.name, email, MIDDLE) for email in (READER, WRITER))
    created = _body(server, "/events", token=writer, body=DRAFT)
    return {
        READ: _body(server, f"/events/{bench.ids[MIDDLE][0]}", token=reader),
        LIST: _body(server, "/events?limit=10", token=reader),
        SEARCH: _body(server, f"/events?limit=10&search={NEEDLE}", token=reader),
        CREATE: re.sub(rb'("(?:id|createdAt|updatedAt)":)"[^"]+"', rb"\1", created),
    }


def agree(said: Mapping[str, Mapping[str, bytes]]) -> None:
    """Byte for byte; a list's `meta` aside, which the baselines leave out. Exits where they differ."""
    for name, ours in said[ONE].items():
        ours = ours.partition(b',"meta":')[0]
        for baseline in BASELINES:
            theirs = said[baseline][name]
            theirs = theirs.removesuffix(b"}") if name in (LIST, SEARCH) else theirs
            if ours.replace(b"Theo Turner", b"Bench Writer") != theirs:
                sys.exit(f"{name}: {baseline} answers otherwise:\n{ours!r}\n{theirs!r}")


def agree_on_values(bench: Bench, server: Server, ours: bytes) -> None:
    """JavaScript writes a time otherwise, and means the same. Exits where it doesn't."""
    theirs = _body(server, f"/events/{bench.ids[MIDDLE][0]}")
    if _values(ours) != _values(theirs):
        sys.exit(f"{READ}: {server.name} answers otherwise:\n{ours!r}\n{theirs!r}")


def _values(event: bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(event)
    times = ("startDate", "endDate", "createdAt", "updatedAt")
    return {name: datetime.fromisoformat(value) if name in times else value for name, value in values.items()}
