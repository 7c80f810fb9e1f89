"""Health: `/health` names every part, `/health/live` asks none, `/health/ready` asks
this process's own: a peer that is down must not take this one out of the load balancer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.platform.admin import JSON, Page, Query
from eventboard.platform.admin import Answer as AdminAnswer
from eventboard.platform.context import budget
from eventboard.platform.errors import ServiceError
from eventboard.platform.openapi import Answer, Operation

# Raises ServiceError, whose detail says what is wrong.
Check = Callable[[], Awaitable[None]]
# What a Part tells beside its status.
State = Callable[[], dict[str, str]]

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


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: Literal["up", "down"]
    parts: dict[str, Part] = {}


_UP = Health(status="up", parts={"events": Part(status="up")})
_DOWN = Health(status="down", parts={"events": Part(status="down", detail="The database can't be reached now.")})


class Checks:
    """Asks this process's `own` parts, and its `peers`; `served` tells of those who call own parts.

    What has gone down, or come back, is logged once.
    """

    def __init__(self, own: Mapping[str, Check], peers: Mapping[str, Peer], served: Mapping[str, State]) -> None:
        self._own = own
        self._peers = peers
        self._served = served
        self._down: set[str] = set()

    async def own(self) -> Health:
        return _health(await self._judged(self._own))

    async def all(self) -> Health:
        there = await self._judged({name: peer.check for name, peer in self._peers.items()})
        there = {name: replace(part, **self._peers[name].state()) for name, part in there.items()}
        here = await self._judged(self._own)
        here |= {name: replace(here[name], **state()) for name, state in self._served.items()}
        return _health({**here, **there})

    async def _judged(self, asked: Mapping[str, Check]) -> dict[str, Part]:
        parts = await asyncio.gather(*(_judge(name, check, self._down) for name, check in asked.items()))
        return dict(zip(asked, parts, strict=True))


def health_pages(checks: Checks) -> dict[str, Page]:
    """For operators, with every part named."""

    def page(ask: Callable[[], Awaitable[Health]]) -> Page:
        async def answer(_: Query) -> AdminAnswer:
            health = await ask()
            return AdminAnswer(msgspec.json.encode(health), JSON, _status(health))

        return Page(answer)

    async def live() -> Health:
        return Health(status="up")

    return {"/health": page(checks.all), "/health/ready": page(checks.own), "/health/live": page(live)}


def health_routes(checks: Checks, *, detailed: bool) -> list[HTTPRouteHandler]:
    """`detailed` names the parts in answers; without it they say up or down only."""

    def answer(health: Health) -> ASGIResponse:
        return _answer(health if detailed else replace(health, parts={}))

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


def _health(parts: dict[str, Part]) -> Health:
    return Health(status="up" if all(part.status == "up" for part in parts.values()) else "down", parts=parts)


def _status(health: Health) -> int:
    return 200 if health.status == "up" else 503


async def _judge(name: str, check: Check, down: set[str]) -> Part:
    """`down` holds what was down before: a part that goes down or comes back is logged once, with the cause."""
    detail, cause = "", ""
    with budget(PATIENCE):
        try:
            async with asyncio.timeout(PATIENCE):
                await check()
        except ServiceError as error:
            detail = error.detail
            cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
        except TimeoutError:
            detail = f"It did not answer within {PATIENCE:g} s."
    if not detail:
        if name in down:
            logger.info("{} is up again", name)
        down.discard(name)
        return Part(status="up")
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
