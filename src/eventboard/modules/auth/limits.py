"""How often somebody may log in, sign up and refresh, counted exactly over all processes.

A log-in counts against its address; and until its password has turned out right, it counts as failed: against account
and address together, and against the account. That last limit never refuses an address from which the account was
logged in to of late: a stranger who tries somebody's passwords can't lock them out. Nor is it told of while something
is left of it: who asks about an account that isn't theirs would see what its owner does.
"""

import hashlib
import math
from collections.abc import Awaitable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import astuple, replace

from eventboard.modules.auth.contract import Lease, Leased
from eventboard.modules.auth.counters import Count, Counters, Question, Step
from eventboard.platform.errors import Code, ServiceError, too_many
from eventboard.platform.metrics import Counter, Metrics, rejections, unlimited
from eventboard.platform.quotas import Quota

Outcome = TypeVar("Outcome")

# An address that an account was logged in to from.
KNOWN = "known"


class Limit(Struct, frozen=True):
    """`most` in `window` seconds; 0 is no limit."""

    name: str
    most: int
    window: int


class Rules(Struct, frozen=True, kw_only=True):
    """`known_for`: seconds that an address with a success isn't held to `login_failures_by_account`."""

    login_by_address: Limit
    login_failures: Limit
    login_failures_by_account: Limit
    known_for: int
    password_failures: Limit
    signup_by_address: Limit
    signup_by_account: Limit
    refresh_by_address: Limit
    refresh_by_account: Limit


class Limits:
    def __init__(self, counters: Counters, rules: Rules, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._counters = counters
        self._rules = rules
        self._rejected = rejections(metrics)
        self._unlimited = unlimited(metrics)
        for limit in astuple(rules):
            if isinstance(limit, Limit):
                self._rejected.index((limit.name,))
        for limit in (rules.refresh_by_address, rules.refresh_by_account):
            self._unlimited.index((limit.name,))

    def login(self, email: str, address: str) -> "LoginTally":
        return LoginTally(self._counters, self._rejected, self._rules, email, address)

    async def signup(self, tally: "Tally", email: str, address: str) -> None:
        if address:
            await tally.count(self._rules.signup_by_address, address)
        await tally.count(self._rules.signup_by_account, email, told=False)

    async def refresh_from(self, tally: "Tally", address: str) -> None:
        if address:
            await self._open(tally, self._rules.refresh_by_address, address)

    async def refresh_of(self, tally: "Tally", user_id: UUID) -> None:
        await self._open(tally, self._rules.refresh_by_account, str(user_id))

    async def password(self, tally: "Tally", user_id: UUID) -> None:
        """Whoever has taken somebody's token may not guess their password at leisure."""
        await tally.count_as_failed(self._rules.password_failures, str(user_id))

    def tally(self) -> "Tally":
        return Tally(self._counters, self._rejected)

    async def lease(self, query: Lease) -> Leased:
        """The counter may pass the limit; what it has passed it by is not granted."""
        key = key_of("user", str(query.user_id))
        (count,) = await self._counters.add(Step(key, query.window, query.amount))
        left = query.most - count.total
        return Leased(granted=max(0, query.amount + min(0, left)), left=max(0, left), ends_in=count.ends_in)

    async def _open(self, tally: "Tally", limit: Limit, subject: str) -> None:
        """A refresh token can't be guessed: that its uses can't be counted is no reason to log everybody out."""
        try:
            await tally.count(limit, subject)
        except ServiceError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            self._unlimited.add(limit.name)


# By a limit, for whom.
Counted = tuple[Limit, tuple[str, ...]]


class Tally:
    """What one call is counted against. A ServiceError that leaves its block tells of that, too."""

    def __init__(self, counters: Counters, rejected: Counter) -> None:
        self._counters = counters
        self._rejected = rejected
        self._failed: list[Counted] = []
        self.quotas: tuple[Quota, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, ServiceError):
            error.quotas = self.quotas

    async def count(self, limit: Limit, *subject: str, told: bool = True) -> None:
        """Raises `too-many-requests` where that was one too many. `told`: whoever asks may know what is left."""
        for _, quota in await self._counted((limit, subject)):
            if quota.left < 0:
                raise self._refusal(quota)
            if told:
                self.quotas = (*self.quotas, quota)

    async def count_as_failed(self, limit: Limit, *subject: str) -> None:
        """From the beginning, until it is taken back: of many at once no more than the limit try a password."""
        await self.count(limit, *subject)
        self._failed.append((limit, subject))

    async def tried(self, trying: Awaitable[Outcome]) -> Outcome:
        """What could not be tried, because too many others are or the database is away, has not failed."""
        try:
            return await trying
        except ServiceError:
            await self.take_back()
            raise

    async def take_back(self) -> None:
        """As if nothing had failed."""
        await self._add(self._back())

    def _back(self) -> list[Step]:
        return [Step(key_of(limit.name, *subject), limit.window, -1) for limit, subject in self._failed if limit.most]

    async def _counted(self, *given: Counted) -> list[tuple[Counted, Quota]]:
        """Of those that are limits, up to the first where what is left is below zero: that was one too many."""
        asked = _limiting(given)
        return _quotas(asked, await self._add(_steps(asked)))

    async def _add(self, steps: list[Step]) -> list[Count]:
        return await self._counters.add(*steps) if steps else []

    def _refusal(self, quota: Quota) -> ServiceError:
        self._rejected.add(quota.name)
        self.quotas = (*self.quotas, replace(quota, left=0))
        return too_many(self.quotas)


class LoginTally(Tally):
    def __init__(self, counters: Counters, rejected: Counter, rules: Rules, email: str, address: str) -> None:
        super().__init__(counters, rejected)
        self._rules = rules
        self._email = email
        self._address = address

    async def begin(self, question: Question) -> Any | None:
        """The question's answer, where one may try a password."""
        rules, who = self._rules, (self._email, self._address)
        by_address, of_account = rules.login_by_address, rules.login_failures_by_account
        # In this order: one address that is out of tries uses up nothing of its account's.
        asked = [(rules.login_failures, who), (of_account, (self._email,))]
        if self._address:
            asked.insert(0, (by_address, (self._address,)))
        asked = _limiting(asked)
        counts, answer = await self._counters.add_and_ask(_steps(asked), question)
        for counted, quota in _quotas(asked, counts):
            limit, _ = counted
            if quota.left < 0 and not (limit is of_account and await self._counters.remembered(key_of(KNOWN, *who))):
                raise self._refusal(quota)
            if limit is not of_account:
                self.quotas = (*self.quotas, quota)
            if limit is not by_address:
                self._failed.append(counted)
        return answer

    async def succeeded(self, question: Question) -> Any | None:
        """The password was right. The question's answer."""
        steps = self._back()
        if self._rules.login_failures_by_account.most:
            known = key_of(KNOWN, self._email, self._address)
            steps.append(Step(known, self._rules.known_for, renewed=True))
        _, answer = await self.tried(self._counters.add_and_ask(steps, question))
        return answer


def _limiting(given: Iterable[Counted]) -> list[Counted]:
    return [(limit, subject) for limit, subject in given if limit.most]


def _steps(asked: list[Counted]) -> list[Step]:
    return [Step(key_of(limit.name, *subject), limit.window, most=limit.most) for limit, subject in asked]


def _quotas(asked: list[Counted], counts: list[Count]) -> list[tuple[Counted, Quota]]:
    return [
        (
            (limit, subject),
            Quota(limit.name, limit.most, limit.window, limit.most - count.total, max(1, math.ceil(count.ends_in))),
        )
        for (limit, subject), count in zip(asked, counts, strict=False)
    ]


def key_of(name: str, *subject: str) -> bytes:
    """A hash: neither addresses nor e-mail addresses are kept. NUL is in none of them."""
    return hashlib.sha256("\0".join((name, *subject)).encode()).digest()
