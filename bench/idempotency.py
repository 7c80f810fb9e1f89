"""What exactly-once costs: creates with and without an idempotency key, the key table at a million, the sweeper.

`.venv/bin/python -m bench.idempotency`, some two minutes; needs what `make bench` needs. PostgreSQL doesn't wait
for the disk, which a create does once, with a key or without: beside a real disk the difference is smaller than here.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from msgspec.structs import asdict

from bench.load import Load, Step, fire, succeeded
from bench.parts import DRAFT, ask
from bench.report import RESULTS, about
from bench.servers import ONE, Server, running
from eventboard.core.contract import IdempotencyKey
from eventboard.db.database import Database
from eventboard.db.sweeper import Sweeper
from eventboard.dev.demo import PASSWORD, demo_id
from eventboard.dev.postgres import start
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.events.contract import CreateEvent, EventDraft
from eventboard.modules.events.listing_limiter import ListingLimiter, limits_for
from eventboard.modules.events.quotas import QuotaLimits, Quotas
from eventboard.modules.events.service import EventsService
from eventboard.modules.events.sweeps import EXPIRED_KEYS
from eventboard.settings import load

ROUNDS = 5
SECONDS = 3  # of load in a round
KEYS = 1_000_000
_FIGURES = {"per_second": "per_second", "milliseconds": "p50", "cpu_microseconds": "cpu_microseconds"}
WITHOUT, WITH = "without a key", "with a key"


def main() -> None:
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventboard-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as another account where this one is root
        postgres = start(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EVENTBOARD_")},
            "EVENTBOARD_DATABASE_URL": postgres.url(),
            "EVENTBOARD_TOKENS_KEY_FILE": str(folder / "signing-key.pem"),
            "BENCH_POSTMASTER": (postgres.data / "pgdata" / "postmaster.pid").read_text().split()[0],
            # Sweeping is measured by itself.
            "EVENTBOARD_IDEMPOTENCY_SWEEP_EVERY": "86400",
        }
        for command in (["migrate"], ["demo"]):
            run = [sys.executable, "-m", "eventboard", *command]
            subprocess.run(run, env=environ, check=True, stdout=subprocess.DEVNULL)
        statements = asyncio.run(_statements(postgres.url()))
        server = stack.enter_context(running(ONE, environ))
        said = {"email": "user@acme.com", "password": PASSWORD}
        token = ask(server, "/auth/login", body=said)["accessToken"]
        loads = {
            "16 clients": _compare(server, token, 16),
            "1 client": _compare(server, token, 1),
        }
        table = asyncio.run(_fill(postgres.url()))
        loads["16 clients, a million keys"] = _compare(server, token, 16)
        sweep = asyncio.run(_sweep(postgres.url()))
    _write(
        {
            **about(postgres.version, load_before),
            "rounds": ROUNDS,
            "seconds": SECONDS,
            "statements": statements,
            "creates": loads,
            "table": table,
            "sweep": sweep,
        }
    )


async def _statements(url: str) -> dict[str, list[str]]:
    """What one create sends, each a round trip; after a first one, which also prepares."""
    member = Principal(demo_id("user@acme.com"), demo_id("acme-corp"), Role.USER, "Bench", uuid4(), 2**31)

    async def verify(_: str) -> Principal:
        return member

    database = Database(url, role="eventboard_events", size=1, connect_timeout=2)
    await database.open()
    limiter = ListingLimiter(limits_for(1, **asdict(load({}).listing)))
    unlimited = Quotas(QuotaLimits(bytes_by_organization=0, keys_by_user=0, changes_by_event=0))
    service = EventsService(database, verify, limiter, unlimited)
    starts, ends = (datetime.fromisoformat(DRAFT[name]) for name in ("startDate", "endDate"))
    draft = EventDraft(title=DRAFT["title"], description=DRAFT["description"], start_date=starts, end_date=ends)
    sent: dict[str, list[str]] = {}
    methods = ("execute", "fetch", "fetchrow", "fetchval")
    originals = {name: getattr(asyncpg.Connection, name) for name in methods}
    for kind in (WITHOUT, WITH):
        for _ in range(2):
            statements = sent[kind] = []
            for name, original in originals.items():
                setattr(asyncpg.Connection, name, _noting(original, statements))
            key = IdempotencyKey(uuid4().hex) if kind == WITH else None
            await service.create(CreateEvent(actor="", draft=draft, idempotency_key=key))
    for name, original in originals.items():
        setattr(asyncpg.Connection, name, original)
    await database.close()
    return sent


def _noting(original: Any, statements: list[str]) -> Any:
    async def noting(self: Any, statement: str, *arguments: Any, **options: Any) -> Any:
        words = re.sub(r"\s+", " ", re.sub(r"[0-9a-f-]{36}|-?\d{4,}", "…", statement))
        statements.append(words if len(words) < 100 else f"{words[:97]}...")
        return await original(self, statement, *arguments, **options)

    return noting


def _compare(server: Server, token: str, connections: int) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {WITHOUT: [], WITH: []}
    for kind in rounds:
        _round(server, token, kind, connections, 1)  # connections are made, statements prepared
    for number in range(ROUNDS):
        for kind, got in rounds.items():
            got.append(_round(server, token, kind, connections, SECONDS))
        print(
            f"{connections} clients, round {number + 1} of {ROUNDS}:",
            ", ".join(f"{kind} {got[-1]['per_second']:.0f}/s" for kind, got in rounds.items()),
            flush=True,
        )
    told: dict[str, Any] = {
        kind: {name: _spread([each[name] for each in got]) for name in got[0]} for kind, got in rounds.items()
    }
    pairs = list(zip(rounds[WITHOUT], rounds[WITH], strict=True))
    told["ratio_per_second"] = _spread([keyed["per_second"] / bare["per_second"] for bare, keyed in pairs])
    told["added_milliseconds"] = _spread([keyed["milliseconds"] - bare["milliseconds"] for bare, keyed in pairs])
    return told


def _round(server: Server, token: str, kind: str, connections: int, seconds: int) -> dict[str, float]:
    step = Step(paths=["/events"], method="POST", token=token, body=DRAFT, keyed=kind == WITH)
    got = succeeded(fire(server, Load(f"creates {kind}", [step], connections=connections), seconds))
    return {name: got[figure] for name, figure in _FIGURES.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


async def _fill(url: str) -> dict[str, Any]:
    """A million keys, of as many requests as a day has, each with the outcome of a real create."""
    connection = await asyncpg.connect(url)
    outcome: bytes = await connection.fetchval("SELECT outcome FROM events.idempotency_keys LIMIT 1")
    await connection.execute("TRUNCATE events.idempotency_keys")
    begun = time.monotonic()
    await _put(connection, outcome, "interval '1 day'")
    took = time.monotonic() - begun
    await connection.execute("VACUUM (ANALYZE) events.idempotency_keys")
    told = {"keys": KEYS, "outcome_bytes": len(outcome), "filled_seconds": round(took), **await _sizes(connection)}
    await connection.close()
    return told


async def _put(connection: Any, outcome: bytes, lives: str) -> None:
    """Random keys, as clients make them, in the order of time, as they come."""
    await connection.execute(
        "INSERT INTO events.idempotency_keys (organization_id, user_id, key, operation, payload, outcome,"  # noqa: S608 - numbers and bytes of our own
        " correlation_id, created_at, expires_at)"
        " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'events.create',"
        f" decode(md5(n::text) || md5((-n)::text), 'hex'), '\\x{outcome.hex()}', gen_random_uuid(),"
        f" now() + n * interval '86 ms', now() + n * interval '86 ms' + {lives} FROM generate_series(1, {KEYS}) AS n"
    )


async def _sizes(connection: Any) -> dict[str, Any]:
    row = await connection.fetchrow(
        "SELECT pg_table_size('events.idempotency_keys') AS table_mib,"
        " pg_relation_size('events.pk_idempotency_keys') AS key_index_mib,"
        " pg_relation_size('events.ix_idempotency_keys_expires_at') AS expiry_index_mib"
    )
    return {name: round(size / 2**20) for name, size in row.items()}


async def _sweep(url: str) -> dict[str, Any]:
    """A day's keys, all expired; then what VACUUM makes of it, and the next day's."""
    connection = await asyncpg.connect(url)
    outcome: bytes = await connection.fetchval("SELECT outcome FROM events.idempotency_keys LIMIT 1")
    await connection.execute("TRUNCATE events.idempotency_keys")
    await _put(connection, outcome, "interval '-2 days'")
    await connection.execute("VACUUM (ANALYZE) events.idempotency_keys")
    database = Database(url, role="eventboard_sweeper", size=1, connect_timeout=2)
    await database.open()
    sweeper = Sweeper(database, EXPIRED_KEYS, every=60)
    begun = time.monotonic()
    swept = await sweeper.sweep()
    took = time.monotonic() - begun
    await database.close()
    begun = time.monotonic()
    await connection.execute("VACUUM events.idempotency_keys")
    vacuumed = time.monotonic() - begun
    after = await _sizes(connection)
    await _put(connection, outcome, "interval '1 day'")
    again = await _sizes(connection)
    await connection.close()
    return {
        "keys": swept,
        "left": sweeper.backlog,
        "keys_per_second": round(swept / took),
        "vacuum_seconds": round(vacuumed, 1),
        "after_vacuum": after,
        "filled_again": again,
    }


def _shown(values: dict[str, float], digits: int = 0) -> str:
    return f"{values['median']:,.{digits}f} ({values['least']:,.{digits}f} to {values['most']:,.{digits}f})"


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield "# What exactly-once costs"
    yield ""
    yield (
        f"{result['at']}, revision {result['revision']}; {result['machine']}, {result['versions']};"
        f" load average before: {result['load_before']}."
    )
    yield (
        f"One process; {result['rounds']} rounds of {result['seconds']} s each in turn. Median (least to most)."
        " PostgreSQL doesn't wait for the disk."
    )
    for name, got in result["creates"].items():
        yield ""
        yield f"| creates, {name} | {WITHOUT} | {WITH} | |"
        yield "| --- | --- | --- | --- |"
        rows = (
            ("per second", "per_second", 0, f"ratio {_shown(got['ratio_per_second'], 2)}"),
            ("median latency, ms", "milliseconds", 2, f"added {_shown(got['added_milliseconds'], 2)}"),
            ("processor time of the server, µs", "cpu_microseconds", 0, ""),
        )
        for label, key, digits, compared in rows:
            yield f"| {label} | {_shown(got[WITHOUT][key], digits)} | {_shown(got[WITH][key], digits)} | {compared} |"
    for kind, statements in result["statements"].items():
        yield ""
        yield f"Round trips of a create {kind}: {len(statements)}"
        yield ""
        yield from (f"{number}. `{statement}`" for number, statement in enumerate(statements, start=1))
    table, sweep = result["table"], result["sweep"]
    yield ""
    yield f"| {table['keys']:,} keys, each with an outcome of {table['outcome_bytes']} bytes | MiB |"
    yield "| --- | --- |"
    for label, sizes in (
        ("filled", table),
        ("swept and vacuumed", sweep["after_vacuum"]),
        ("filled again", sweep["filled_again"]),
    ):
        yield (
            f"| {label}: table, index of keys, index of expiry |"
            f" {sizes['table_mib']}, {sizes['key_index_mib']}, {sizes['expiry_index_mib']} |"
        )
    yield ""
    yield (
        f"The sweeper deleted {sweep['keys']:,} keys at {sweep['keys_per_second']:,} per second and left"
        f" {sweep['left']}; VACUUM took {sweep['vacuum_seconds']} s."
    )


def _write(result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join(_lines(result)) + "\n"
    (RESULTS / "idempotency.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "idempotency.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
