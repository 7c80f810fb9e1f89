"""Both ends of calls between processes, over real sockets, in a test's own loop."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Protocol, TypeVar, cast

import uvicorn
from msgspec import Struct

from eventboard.core.asgi import App
from eventboard.core.contract import Budget, Operation, operation, operations
from eventboard.rpc import codec
from eventboard.rpc.breaker import BreakerPolicy
from eventboard.rpc.client import client
from eventboard.rpc.http import HttpTransport
from eventboard.rpc.retries import RetryPolicy
from tests.support.processes import PATIENCE

Contract = TypeVar("Contract")

CREDENTIAL = "two processes of one test"
# Waits that a test can wait for. The other numbers are those of config/base.toml.
QUICK = RetryPolicy(
    retries=3, first_wait=0.01, jitter=0.1, least_left=0.25, budget_share=0.2, budget_floor=10, budget_window=10
)
BREAKER = BreakerPolicy(least_calls=20, share=0.5, window=10, open_for=1, probes=3)


class Ask(Struct, frozen=True):
    text: str


class Told(Struct, frozen=True):
    text: str


class Desk(Protocol):
    """A contract of the least that tests need."""

    @operation("desk.tell", budget=Budget.READ, repeatable=True)
    async def tell(self, query: Ask) -> Told: ...

    @operation("desk.write", budget=Budget.WRITE, repeatable=False)
    async def write(self, command: Ask) -> Told: ...


class NewAsk(Ask, frozen=True):
    tone: str = "plain"


class NewTold(Told, frozen=True):
    pages: int = 1


class NewDesk(Protocol):
    """The next version: optional fields more, and an operation."""

    @operation("desk.tell", budget=Budget.READ, repeatable=True)
    async def tell(self, query: NewAsk) -> NewTold: ...

    @operation("desk.shout", budget=Budget.READ, repeatable=True)
    async def shout(self, query: NewAsk) -> NewTold: ...


class DeskService:
    """Does whatever it is told, with every call."""

    def __init__(self, do: Callable[[Ask], Awaitable[Told]]) -> None:
        self._do = do
        self.asked: list[Ask] = []

    async def tell(self, query: Ask) -> Told:
        self.asked.append(query)
        return await self._do(query)

    async def write(self, command: Ask) -> Told:
        return await self.tell(command)


async def echo(query: Ask) -> Told:
    return Told(query.text)


def service_of(contract: type[Any], answer: Callable[[Operation, Any], Any]) -> Any:
    """Fills a contract: `answer` is asked whatever is called."""

    def method(known: Operation) -> Callable[[Any, Any], Any]:
        async def call(_: Any, request: Any) -> Any:
            return answer(known, request)

        return call

    return type("Service", (), {known.method: method(known) for known in operations(contract)})()


@asynccontextmanager
async def listening(app: App, tls: SSLContext | None = None) -> AsyncIterator[str]:
    """The address of an application, which runs on uvicorn as in production."""
    config = uvicorn.Config(
        cast("Any", app),
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # Named, so that asyncio takes it for TCP and doesn't hold small packets back for 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        await server.startup([listener])
        try:
            scheme = "http" if tls is None else "https"
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await server.shutdown([listener])


@asynccontextmanager
async def calling(
    contract: type[Contract],
    origins: Sequence[str],
    *,
    credential: str = CREDENTIAL,
    retries: RetryPolicy = QUICK,
    breaker: BreakerPolicy = BREAKER,
    budget: float = PATIENCE,
    max_answer: int = codec.LARGEST_ANSWER,
    tls: SSLContext | None = None,
    connect_timeout: float = PATIENCE,
) -> AsyncIterator[tuple[Contract, HttpTransport]]:
    """A client of the contract, and the transport under it. `budget` is in seconds, for every call."""
    budgets = {kind.value: budget for kind in Budget}
    transport = HttpTransport(
        "desk",
        contract,
        origins,
        credential=credential,
        connect_timeout=connect_timeout,
        keep_alive=4,
        budgets=budgets,
        retries=retries,
        breaker=breaker,
        max_answer=max_answer,
        tls=tls,
    )
    await transport.open()
    try:
        yield client(contract, transport, budgets), transport
    finally:
        await transport.close()
