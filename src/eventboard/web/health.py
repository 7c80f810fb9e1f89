"""Health checks: `/health` checks every part, `/health/live` none, and `/health/ready` this process's own parts: a peer
that is down must not take this process out of the load balancer."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from eventboard.core.contract import about
from eventboard.core.errors import ServiceError
from eventboard.core.request_context import Context, budget, current, use
from eventboard.db.pool import PoolState
from eventboard.web.admin import JSON, Page, Query
from eventboard.web.admin import Answer as AdminAnswer

# The paths, in every process. Requests for them aren't limited.
PATHS = frozenset({"/health", "/health/live", "/health/ready"})

# Raises ServiceError, whose detail says what is wrong. Returns fields of the PartHealth: the schema's level.
Check = Callable[[], Awaitable[Mapping[str, str] | None]]
# Returns fields of a PartHealth that don't decide its status.
State = Callable[[], Mapping[str, Any]]

# Seconds that one check may take. Most orchestrators give a probe up after longer.
TIMEOUT = 2.0


class Peer(Struct, frozen=True):
    """A module in other processes. `state` describes the connection to it: the breaker, a contract that differs."""

    check: Check
    state: State


class PartHealth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a part of the service works."""

    status: Annotated[Literal["up", "down"], about("Whether it works.")]
    detail: Annotated[str | None, about("Why it doesn't.")] = None
    breaker: Annotated[str | None, about("The state of the circuit breaker in front of it.")] = None
    contract: Annotated[str | None, about("How its version of the contract differs from the caller's.")] = None
    level: Annotated[str | None, about("The revision of its database schema.")] = None
    pool: Annotated[PoolState | None, about("Its pool of database connections.")] = None


class Health(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the service works."""

    status: Annotated[Literal["up", "down"], about("`up` if every part is.")]
    version: Annotated[str, about("The version that is running. Not in production.")] = ""
    parts: Annotated[dict[str, PartHealth], about("The parts, by name. Not in production.")] = {}


class HealthChecks:
    """Checks this process's `own` parts and its `peers`. `states` describe own parts: their pools, their callers.

    Concurrent requests share one run of the checks. A part that goes down or comes back is logged once.
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
        self.own = _SharedCheck(self._check_own)
        self.all = _SharedCheck(self._check_all)

    async def _check_own(self) -> Health:
        return self._health(await self._run(self._own))

    async def _check_all(self) -> Health:
        # Read before the checks run: they use the pools that are described.
        described = [(name, state()) for states in self._states for name, state in states.items()]
        own, peers = await asyncio.gather(
            self._run(self._own), self._run({name: peer.check for name, peer in self._peers.items()})
        )
        for name, state in described:
            own[name] = replace(own[name], **state)
        peers = {name: replace(part, **self._peers[name].state()) for name, part in peers.items()}
        return self._health({**own, **peers})

    def _health(self, parts: dict[str, PartHealth]) -> Health:
        return Health(status=_all_up(parts.values()), version=self._version, parts=parts)

    async def _run(self, checks: Mapping[str, Check]) -> dict[str, PartHealth]:
        parts = await asyncio.gather(*(_run_check(name, check, self._down) for name, check in checks.items()))
        return dict(zip(checks, parts, strict=True))


class _SharedCheck:
    """Callers that come while a check runs wait for its result."""

    def __init__(self, check: Callable[[], Coroutine[Any, Any, Health]]) -> None:
        self._check = check
        self._running: asyncio.Task[Health] | None = None

    async def __call__(self) -> Health:
        if self._running is None or self._running.done():
            # In a context of its own: it may outlive the request that started it.
            with use(Context(current().correlation_id)):
                self._running = asyncio.create_task(self._check())
        return await asyncio.shield(self._running)


def health_pages(checks: HealthChecks) -> dict[str, Page]:
    """The admin port's pages, which always name the parts."""

    def page(check: Callable[[], Awaitable[Health]]) -> Page:
        async def answer(_: Query) -> AdminAnswer:
            health = await check()
            return AdminAnswer(msgspec.json.encode(health), JSON, _status(health))

        return answer

    async def live() -> Health:
        return Health(status="up")

    return {"/health": page(checks.all), "/health/ready": page(checks.own), "/health/live": page(live)}


def health_routes(checks: HealthChecks, *, detailed: bool) -> list[HTTPRouteHandler]:
    """With `detailed`, responses name the parts."""

    def respond(health: Health) -> Response[Health]:
        return _response(health if detailed else Health(status=health.status))

    @get("/health", operation_id="getHealth")
    async def health() -> Response[Health]:
        return respond(await checks.all())

    @get("/health/ready", operation_id="getReadiness")
    async def ready() -> Response[Health]:
        return respond(await checks.own())

    @get("/health/live", operation_id="getLiveness")
    async def live() -> Response[Health]:
        return _response(Health(status="up"))

    return [health, ready, live]


def _all_up(parts: Iterable[PartHealth]) -> Literal["up", "down"]:
    return "up" if all(part.status == "up" for part in parts) else "down"


def _status(health: Health) -> int:
    return 200 if health.status == "up" else 503


async def _run_check(name: str, check: Check, down: set[str]) -> PartHealth:
    """`down` has the names of parts that were down before, and is updated."""
    detail, cause = "", ""
    fields: Mapping[str, Any] = {}
    with budget(TIMEOUT):
        try:
            async with asyncio.timeout(TIMEOUT):
                fields = await check() or {}
        except ServiceError as error:
            detail = error.detail
            if (reason := error.__cause__) is not None:
                cause = f" ({': '.join(filter(None, (type(reason).__name__, str(reason))))})"
        except TimeoutError:
            detail = f"It did not answer within {TIMEOUT:g} s."
    if not detail:
        if name in down:
            logger.info("{} is up again", name)
        down.discard(name)
        return PartHealth(status="up", **fields)
    if name not in down:
        logger.warning("{} is down: {}{}", name, detail, cause)
    down.add(name)
    return PartHealth(status="down", detail=detail)


def _response(health: Health) -> Response[Health]:
    return Response(health, status_code=_status(health), headers={"cache-control": "no-store"})
