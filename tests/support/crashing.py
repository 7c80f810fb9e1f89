"""`python -m tests.support.crashing serve …` is `eventboard serve …`, but dies where it is told to, and comes back.

A request whose correlation id is `crash.<target>.<n>.<anything>` ends that target's process by SIGKILL at the n-th
point of the request: before, in the middle of and after each statement that is sent to the database, and before and
after each part of the answer. It does so once, and says so by a file of that name in the folder
EVENTBOARD_TEST_CRASHES; one of that name and `.done` says that a request came to its end. Nothing of this is in the
program: asyncpg's connections and the outermost ASGI application are wrapped.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import asyncpg

# All that the program needs, so that its processes are forked and begin at once.
import eventboard.app
import eventboard.web.server  # noqa: F401 - only imported
from eventboard.cli import main
from eventboard.web.request_context import RequestContextMiddleware
from tests.support.ports import free_port

FOLDER = Path(os.environ.pop("EVENTBOARD_TEST_CRASHES"))
TARGET = sys.argv[sys.argv.index("--target") + 1]
STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval")


class Plan:
    """Where one request ends the process."""

    def __init__(self, name: str, points: int) -> None:
        self._died = FOLDER / name
        self._done = FOLDER / f"{name}.done"
        self._left = points
        self._task = asyncio.current_task() if points else None

    def point(self) -> None:
        if asyncio.current_task() is not self._task:
            return  # something that the request only set off, such as the look whether its caller still stands
        self._left -= 1
        if self._left == 0:
            try:
                self._died.touch(exist_ok=False)
            except FileExistsError:
                return  # it did so before
            os.kill(os.getpid(), signal.SIGKILL)

    def done(self) -> None:
        self._done.touch()


NOWHERE = Plan("nowhere", 0)
_plan: ContextVar[Plan] = ContextVar("plan", default=NOWHERE)


def _plan_of(scope: Any) -> Plan:
    name = dict(scope["headers"]).get(b"x-correlation-id", b"").decode("latin-1")
    match name.split("."):
        case ["crash", target, points, _] if target == TARGET:
            return Plan(name, int(points))
    return NOWHERE


def _statement(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def crashing(*arguments: Any, **options: Any) -> Any:
        plan = _plan.get()
        plan.point()
        running = asyncio.ensure_future(method(*arguments, **options))
        # Long enough to be sent, and too short for an answer.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        plan.point()
        result = await running
        plan.point()
        return result

    return crashing


def _application(call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def crashing(front: RequestContextMiddleware, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await call(front, scope, receive, send)
            return
        plan = _plan_of(scope)
        if plan is NOWHERE:
            await call(front, scope, receive, send)
            return
        _plan.set(plan)

        async def sending(message: Any) -> None:
            plan.point()
            await send(message)
            plan.point()

        await call(front, scope, receive, sending)
        plan.done()

    return crashing


def _supervise() -> int:
    """Starts the program, and again whenever it was killed; hands signals on to it."""
    # It comes back where it was; nobody asks for operators' answers.
    os.environ |= {"EVENTBOARD_SERVER_PORT": str(free_port()), "EVENTBOARD_SERVER_ADMIN_PORT": "0"}
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return main()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _, child=child: os.kill(child, number))  # type: ignore[misc]  # mypy infers no lambda with a default
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, _statement(getattr(asyncpg.Connection, name)))
    RequestContextMiddleware.__call__ = _application(RequestContextMiddleware.__call__)  # type: ignore[assignment, method-assign]  # what this file is for
    sys.exit(_supervise())
