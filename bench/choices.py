"""The figures behind decisions (docs/decisions): `python bench/choices.py statements | servers | signatures | clients`.

Variants take turns, so that what else the machine does meets all of them; medians of the rounds.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import UUID

import asyncpg
import jwt
import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from litestar import Litestar, get
from msgspec import Struct
from sqlalchemy import bindparam, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from eventboard.db.database import Database
from eventboard.dev.demo import demo_id
from eventboard.dev.postgres import start
from eventboard.modules.events import repository
from eventboard.modules.events.models import EventRow

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
ROUNDS = 5
SECONDS = 2.0
CALLERS = 16
ORGANIZATION, EVENT = demo_id("acme-corp"), demo_id("Summer party")


def statements() -> None:
    """0002: ways to read one event by its key, in one process; `CALLERS` at a time, 20 connections."""
    with tempfile.TemporaryDirectory(prefix="eventboard-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another account where this one is root
        server = start(Path(folder, "postgres"), durable=False)
        try:
            for command in ("migrate", "demo"):
                environ = {**os.environ, "EVENTBOARD_DATABASE_URL": server.url()}
                subprocess.run([BIN / "eventboard", command], env=environ, check=True, stdout=subprocess.DEVNULL)
            uvloop.run(_statements(server.url()))
        finally:
            server.stop()


async def _statements(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), pool_size=20)
    database = Database(url, role="eventboard_events", size=20, connect_timeout=2)
    await database.open()
    pool = await asyncpg.create_pool(url, min_size=0, max_size=20)
    core = select(*repository.COLUMNS).where(
        EventRow.organization_id == bindparam("organization_id"), EventRow.id == bindparam("event_id")
    )
    key = {"organization_id": ORGANIZATION, "event_id": EVENT}

    async def by_hand() -> Any:
        return await pool.fetchrow(repository.FIND.sql, ORGANIZATION, EVENT)

    async def compiled_once() -> Any:
        return await pool.fetchrow(repository.FIND.sql, *repository.FIND.arguments(key))

    async def as_a_module() -> Any:
        async with database.reading(ORGANIZATION, UUID(int=0)) as connection:
            return await connection.one(repository.FIND, **key)

    async def core_engine() -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(core, key)).one()

    async def orm_session() -> Any:
        async with AsyncSession(engine) as session:
            return await session.get_one(EventRow, (ORGANIZATION, EVENT))

    ways = {
        "asyncpg's default pool, SQL by hand": by_hand,
        "the same pool, Core compiled once": compiled_once,
        "as a module reads: also sets organization, user and deadline": as_a_module,
        "SQLAlchemy's engine, Core": core_engine,
        "SQLAlchemy's ORM session": orm_session,
    }
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            measured = await _rate(way)
            if number:  # the first warms up
                rounds[name].append(measured)
    base = rounds[next(iter(ways))]
    print("| way | reads per second | ratio | processor time, µs |\n| --- | --- | --- | --- |")
    for name, got in rounds.items():
        rate, cpu = (statistics.median(values) for values in zip(*got, strict=True))
        ratio = statistics.median(one[0] / other[0] for one, other in zip(got, base, strict=True))
        print(f"| {name} | {rate:,.0f} | {ratio:.2f} | {cpu * 1e6:.0f} |")
    await database.close()
    await pool.close()
    await engine.dispose()


async def _rate(way: Callable[[], Awaitable[Any]], callers: int = CALLERS) -> tuple[float, float]:
    """Calls per second, and seconds of this process's processor time for one."""
    end = time.perf_counter() + SECONDS

    async def caller() -> int:
        count = 0
        while time.perf_counter() < end:
            await way()
            count += 1
        return count

    begun, cpu = time.perf_counter(), time.process_time()
    count = sum(await asyncio.gather(*(caller() for _ in range(callers))))
    return count / (time.perf_counter() - begun), (time.process_time() - cpu) / count


class Greeting(Struct):
    text: str


@get("/")
async def greet() -> Greeting:
    return Greeting("Hello")


app = Litestar([greet], logging_config=None)


def servers() -> None:
    """0035: a Litestar handler without a database on uvicorn and granian, both on one core, the load on another."""
    if missing := [name for name in ("wrk", "taskset") if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} missing; on Debian and Ubuntu: apt-get install wrk util-linux")
    if not (BIN / "granian").exists():
        sys.exit("granian is no part of the environment: install it into .venv for this measurement")
    granian = "granian choices:app --port 3985 --interface asgi --loop uvloop --no-ws --log-level warning --working-dir"
    commands = {
        "uvicorn": ["uvicorn", "choices:app", "--port", "3984", "--no-access-log", "--app-dir", str(HERE)],
        "granian": [*granian.split(), str(HERE)],
    }
    running = {}
    try:
        for name, (program, *arguments) in commands.items():
            command = ["/usr/bin/taskset", "-c", "0", str(BIN / program), *arguments]
            running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rounds: dict[str, list[float]] = {name: [] for name in running}
        for number in range(ROUNDS + 1):
            for name, port in zip(running, (3984, 3985), strict=True):
                _wait(port)
                load = [
                    "/usr/bin/taskset",
                    "-c",
                    "1",
                    "wrk",
                    "-t1",
                    f"-c{CALLERS}",
                    "-d4s",
                    f"http://127.0.0.1:{port}/",
                ]
                said = subprocess.run(load, capture_output=True, text=True, check=True).stdout
                if number:
                    rounds[name].append(float(said.partition("Requests/sec:")[2].split()[0]))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    for name, got in rounds.items():
        ratio = statistics.median(one / other for one, other in zip(got, rounds["uvicorn"], strict=True))
        print(f"{name}: {statistics.median(got):,.0f} per second ({min(got):,.0f}-{max(got):,.0f}), ratio {ratio:.2f}")


def _wait(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/").close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


# A call of events.findOne as it crosses between processes, by its size.
CALL_HEADERS = {
    "authorization": f"Bearer {'x' * 42}",
    "content-type": "application/vnd.eventboard+msgpack",
    "x-contract": "0123456789abcdef",
    "x-correlation-id": "9ebe9fe2-85dc-4494-8923-21e6be850115",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-00",
    "x-budget-ms": "2000",
}
CALL, REPLY = b"x" * 500, b"x" * 600


async def reply(_: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-length", str(len(REPLY)).encode()), (b"x-spans", b"x" * 200)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": REPLY})


def clients() -> None:
    """0033: one small call over a kept connection, by each HTTP client on one core; the server on another."""
    server = f"uvicorn choices:reply --port 3984 --no-access-log --lifespan off --app-dir {HERE}".split()
    command = ["/usr/bin/taskset", "-c", "1", str(BIN / server[0]), *server[1:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(0, {0})
    try:
        _wait(3984)
        uvloop.run(_clients("http://127.0.0.1:3984/rpc/events.findOne"))
    finally:
        process.terminate()
        process.wait()


async def _clients(url: str) -> None:
    # Not all are part of the environment: install pyreqwest into .venv for this measurement.
    import aiohttp
    import httpx
    from pyreqwest.client import ClientBuilder

    from eventboard.rpc.http_client import HttpClient
    from eventboard.rpc.replicas import Replica

    ours = HttpClient(connect_timeout=1, keep_alive=4, max_answer=1 << 20)
    origin, slash, path = url.partition("/rpc")
    replica = Replica(origin, origin)
    rust = ClientBuilder().http1_only().tcp_nodelay(True).no_proxy().build()
    classic = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    modern = httpx.AsyncClient()

    async def by_ours() -> bytes:
        return (await ours.send(replica, "POST", slash + path, CALL_HEADERS, CALL)).body

    async def by_pyreqwest() -> bytes:
        answer = await rust.post(url).headers(CALL_HEADERS).body_bytes(CALL).build().send()
        return (await answer.bytes()).to_bytes()

    async def by_aiohttp() -> bytes:
        async with classic.post(url, data=CALL, headers=CALL_HEADERS, allow_redirects=False) as answer:
            return await answer.read()

    async def by_httpx() -> bytes:
        return (await modern.post(url, content=CALL, headers=CALL_HEADERS)).content

    ways = {"http_client.py": by_ours, "pyreqwest": by_pyreqwest, "aiohttp": by_aiohttp, "httpx": by_httpx}
    rows: dict[str, list[tuple[float, float]]] = {}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            if await way() != REPLY:
                sys.exit(f"{name} got another answer")
            for callers in (1, CALLERS):
                got = await _rate(way, callers)
                if number:
                    rows.setdefault(f"{name}, {callers} at a time", []).append(got)
    print("| client | calls per second | processor time of one, µs |\n| --- | --- | --- |")
    for name, measured in rows.items():
        rate, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
        print(f"| {name} | {rate:,.0f} | {cpu * 1e6:.0f} |")
    await ours.close()
    await rust.close()
    await classic.close()
    await modern.aclose()


def signatures() -> None:
    """0005: what a token costs under either algorithm: the bare signature, and PyJWT's whole decode."""
    message = b"x" * 400  # about what a token's signed part has
    p256, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    digest = ec.ECDSA(hashes.SHA256())
    by_p256, by_edwards = p256.sign(message, digest), edwards.sign(message)
    claims = {"sub": "x" * 36, "org": "x" * 36, "name": "Uma User", "exp": int(time.time()) + 3600}
    es256, eddsa = jwt.encode(claims, p256, "ES256"), jwt.encode(claims, edwards, "EdDSA")
    p256_public, edwards_public = p256.public_key(), edwards.public_key()
    works: dict[str, Callable[[], Any]] = {
        "ES256 sign": lambda: p256.sign(message, digest),
        "EdDSA sign": lambda: edwards.sign(message),
        "ES256 verify": lambda: p256_public.verify(by_p256, message, digest),
        "EdDSA verify": lambda: edwards_public.verify(by_edwards, message),
        "ES256 jwt.decode": lambda: jwt.decode(es256, p256_public, ["ES256"]),
        "EdDSA jwt.decode": lambda: jwt.decode(eddsa, edwards_public, ["EdDSA"]),
    }
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS * 4):
        for name, work in works.items():
            begun = time.process_time()
            for _ in range(500):
                work()
            took[name].append((time.process_time() - begun) / 500 * 1e6)
    for name, values in took.items():
        print(f"{name}: {statistics.median(values):.0f} µs ({min(values):.0f}-{max(values):.0f})")


if __name__ == "__main__":
    chosen = {"statements": statements, "servers": servers, "signatures": signatures, "clients": clients}
    if sys.argv[1:] not in [[name] for name in chosen]:
        sys.exit(f"which one: {', '.join(chosen)}?")
    chosen[sys.argv[1]]()
