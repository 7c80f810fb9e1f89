"""Health: `/health` names every part, `/health/live` asks none, `/health/ready` asks
this process's own: a peer that is down must not take this one out of the load balancer."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from loguru import logger
from msgspec import Struct
from msgspec.structs import astuple, replace

from eventboard.platform.admin import JSON, Page, Query
from eventboard.platform.admin import Answer as AdminAnswer
from eventboard.platform.context import Context, budget, current, use
from eventboard.platform.errors import ServiceError
from eventboard.platform.openapi import Answer, Operation
from eventboard.platform.pool import Pool

# Raises ServiceError, whose detail says what is wrong. What it found out beside is the Part's: its migration level.
Check = Callable[[], Awaitable[Mapping[str, str] | None]]
# What a Part tells beside its status, up or down.
State = Callable[[], Mapping[str, Any]]

# Seconds that one check may take: a probe that waits longer has been given up by most orchestrators.
PATIENCE = 2.0


class Peer(Struct, frozen=True):
    """A module in other processes. `state` tells of the way to it: the breaker, a contract that differs."""

    check: Check
    state: State


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: Literal["up", "down"]
    detail: str | None = None
    breaker: str | None = None
    contract: str | None = None
    level: str | None = None
    pool: Pool | None = None


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: Literal["up", "down"]
    version: str = ""
    parts: dict[str, Part] = {}


_UP = Health(status="up", parts={"events": Part(status="up")})
_DOWN = Health(status="down", parts={"events": Part(status="down", detail="The database can't be reached now.")})
# What is told for a worker that doesn't tell it.
_SILENT = Health(status="down", parts={"worker": Part(status="down", detail="A worker did not answer.")})


class Checks:
    """Asks this process's `own` parts, and its `peers`; `states` tell of own parts: their pools, who calls them.

    Whoever asks while somebody is asked waits for the same answer. What has gone down, or come back, is logged once.
    """

    def __init__(
        self,
        own: Mapping[str, Check],
        peers: Mapping[str, Peer],
        states: Sequence[Mapping[str, State]],
        version: str = "",
    ) -> None:
        self._own = own
        self._peers = peers
        self._states = states
        self._version = version
        self._down: set[str] = set()
        self.own = _Together(self._ask_own)
        self.all = _Together(self._ask_all)

    async def _ask_own(self) -> Health:
        return self._health(await self._judged(self._own))

    async def _ask_all(self) -> Health:
        # Before they are asked: a full pool is full no more when the one who waits for it has given up.
        told = [(name, state()) for states in self._states for name, state in states.items()]
        here, there = await asyncio.gather(
            self._judged(self._own), self._judged({name: peer.check for name, peer in self._peers.items()})
        )
        for name, state in told:
            here[name] = replace(here[name], **state)
        there = {name: replace(part, **self._peers[name].state()) for name, part in there.items()}
        return self._health({**here, **there})

    def _health(self, parts: dict[str, Part]) -> Health:
        return Health(status=_all_up(parts.values()), version=self._version, parts=parts)

    async def _judged(self, asked: Mapping[str, Check]) -> dict[str, Part]:
        parts = await asyncio.gather(*(_judge(name, check, self._down) for name, check in asked.items()))
        return dict(zip(asked, parts, strict=True))


class _Together:
    """However many call it at once, `ask` is asked once."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Health]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[Health] | None = None

    async def __call__(self) -> Health:
        if self._asking is None or self._asking.done():
            # Of nobody's request: the others wait for it, too.
            with use(Context(current().correlation_id)):
                self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)


def health_pages(checks: Checks) -> dict[str, Page]:
    """For operators, with every part named."""

    def told(health: Health) -> AdminAnswer:
        return AdminAnswer(msgspec.json.encode(health), JSON, _status(health))

    def merge(bodies: Sequence[bytes]) -> AdminAnswer:
        return told(of_workers([msgspec.json.decode(body, type=Health) for body in bodies]))

    def page(ask: Callable[[], Awaitable[Health]]) -> Page:
        async def answer(_: Query) -> AdminAnswer:
            return told(await ask())

        return Page(answer, merge, msgspec.json.encode(_SILENT))

    async def live(_: Query) -> AdminAnswer:
        return told(Health(status="up"))

    return {"/health": page(checks.all), "/health/ready": page(checks.own), "/health/live": Page(live)}


def health_routes(checks: Checks, *, detailed: bool) -> list[HTTPRouteHandler]:
    """`detailed` names the parts in answers; without it they say up or down only."""

    def answer(health: Health) -> ASGIResponse:
        return _answer(health if detailed else Health(status=health.status))

    @get(
        "/health",
        operation=Operation(
            id="getHealth",
            summary="Health of all parts",
            description="Up when every part is. Production doesn't name the parts.",
            tag="Health",
            answers={
                200: Answer(description="All is well.", example=_UP),
                503: Answer(description="Something is not.", example=_DOWN),
            },
            open=True,
        ),
    )
    async def health() -> ASGIResponse:
        return answer(await checks.all())

    @get(
        "/health/ready",
        operation=Operation(
            id="getReadiness",
            summary="Whether to send requests here",
            description="Up when this process's database is reachable and at its level, and the keys are known.",
            tag="Health",
            answers={
                200: Answer(description="Send them.", example=_UP),
                503: Answer(description="Send them elsewhere.", example=_DOWN),
            },
            open=True,
        ),
    )
    async def ready() -> ASGIResponse:
        return answer(await checks.own())

    @get(
        "/health/live",
        operation=Operation(
            id="getLiveness",
            summary="Whether the process lives",
            description="Asks nobody else.",
            tag="Health",
            answers={200: Answer(description="It does.", example=Health(status="up"))},
            open=True,
        ),
    )
    async def live() -> ASGIResponse:
        return _answer(Health(status="up"))

    return [health, ready, live]


def of_workers(told: Sequence[Health]) -> Health:
    """One for all: the worst of each part, and its workers' connections together."""
    parts: dict[str, list[Part]] = defaultdict(list)
    for health in told:
        for name, part in health.parts.items():
            parts[name].append(part)
    merged = {name: replace(max(of, key=_badness), pool=_together(of)) for name, of in parts.items()}
    return replace(told[0], status=_all_up(told), parts=merged)


def _badness(part: Part) -> tuple[bool, int]:
    return part.status == "down", ("closed", "half-open", "open").index(part.breaker or "closed")


def _together(parts: Sequence[Part]) -> Pool | None:
    pools = [astuple(part.pool) for part in parts if part.pool is not None]
    return Pool(**dict(zip(Pool.__struct_fields__, map(sum, zip(*pools, strict=True)), strict=True))) if pools else None


def _all_up(told: Iterable[Part | Health]) -> Literal["up", "down"]:
    return "up" if all(each.status == "up" for each in told) else "down"


def _status(health: Health) -> int:
    return 200 if health.status == "up" else 503


async def _judge(name: str, check: Check, down: set[str]) -> Part:
    """`down` holds what was down before: a part that goes down or comes back is logged once, with the cause."""
    detail, cause = "", ""
    found: Mapping[str, Any] = {}
    with budget(PATIENCE):
        try:
            async with asyncio.timeout(PATIENCE):
                found = await check() or {}
        except ServiceError as error:
            detail = error.detail
            if (of := error.__cause__) is not None:
                cause = f" ({': '.join(filter(None, (type(of).__name__, str(of))))})"
        except TimeoutError:
            detail = f"It did not answer within {PATIENCE:g} s."
    if not detail:
        if name in down:
            logger.info("{} is up again", name)
        down.discard(name)
        return Part(status="up", **found)
    if name not in down:
        logger.warning("{} is down: {}{}", name, detail, cause)
    down.add(name)
    return Part(status="down", detail=detail)


def _answer(health: Health) -> ASGIResponse:
    return ASGIResponse(
        body=msgspec.json.encode(health),
        status_code=_status(health),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
