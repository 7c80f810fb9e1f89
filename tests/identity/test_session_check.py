"""Session checks beside the requests: what is remembered, for how long, and what is not waited for."""

import asyncio
from uuid import UUID

import pytest

from eventboard.core.errors import Code, ServiceError
from eventboard.identity import session_check
from eventboard.identity.access_tokens import Principal, Role
from eventboard.identity.session_check import STALE, TIMEOUT, SessionCheck, SessionStatus
from tests.support.stopwatch import Stopwatch


def caller(number: int) -> Principal:
    return Principal(UUID(int=number), UUID(int=1), Role.ADMIN, "Ana", UUID(int=number), 2**40)


class Tokens:
    """A token is its caller's number."""

    async def __call__(self, token: str) -> Principal:
        return caller(int(token))

    def known(self, token: str) -> Principal | None:
        return caller(int(token))


class Auth:
    """Answers once it may; counts who is asked about, and how many are under way."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.role: Role | None = Role.USER
        self.asked: list[Principal] = []
        self.under_way = 0

    async def __call__(self, principal: Principal) -> SessionStatus:
        self.asked.append(principal)
        self.under_way += 1
        role = self.role
        await self.may.wait()
        self.under_way -= 1
        return SessionStatus(role)


async def test_answer_that_comes_late() -> None:
    """It isn't waited for longer than a quarter of a second, and counts for the next request."""
    auth = Auth()
    verify = SessionCheck(Tokens(), auth)
    auth.may.clear()
    with Stopwatch() as watch:
        assert (await verify("1")).role is Role.ADMIN  # the token's claim
    assert watch.elapsed >= TIMEOUT * 0.9
    assert watch.seconds < 2 * TIMEOUT
    auth.may.set()
    assert (await verify("1")).role is Role.USER
    assert len(auth.asked) == 1


async def test_age_of_an_answer() -> None:
    """It is as old as its question: what happened since then is in the next one."""
    now, auth = 1000.0, Auth()
    verify = SessionCheck(Tokens(), auth, clock=lambda: now)
    auth.may.clear()
    await verify("1")
    now += STALE
    auth.role = None
    auth.may.set()
    await asyncio.wait(verify._checks.values())  # noqa: SLF001 - the first answer, which is for nobody
    with pytest.raises(ServiceError) as ended:
        await verify("1")
    assert ended.value.code is Code.INVALID_TOKEN
    assert len(auth.asked) == 2


async def test_more_callers_than_are_remembered() -> None:
    """Whoever calls regularly is remembered."""
    now, auth = 1000.0, Auth()
    verify = SessionCheck(Tokens(), auth, clock=lambda: now)
    for number in range(2, session_check.CACHE_SIZE + 100):
        await verify(str(number))
        if number % 1000 == 2:
            await verify("1")
    assert auth.asked.count(caller(1)) == 1
    assert verify.known("1") is not None
    assert verify.known("2") is None


async def test_many_callers_while_auth_hangs() -> None:
    """Session checks under way are bounded; everybody goes on by their token."""
    auth = Auth()
    verify = SessionCheck(Tokens(), auth)
    auth.may.clear()
    callers = await asyncio.gather(*(verify(str(number)) for number in range(session_check.MOST_CHECKS + 100)))
    assert {principal.role for principal in callers} == {Role.ADMIN}
    assert auth.under_way == session_check.MOST_CHECKS
    auth.may.set()
    assert (await verify("0")).role is Role.USER
