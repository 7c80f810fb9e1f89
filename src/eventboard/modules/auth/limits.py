"""Rate limits on log-in, sign-up, refresh, password changes and invitations, exact over all processes.

A log-in counts against its address. Until its password has been verified it also counts as a failure, of the account
at that address and of the account. Limits that strangers can use up (from another address, or with another account at
the same one) never reject an address that the account was recently logged in from: a stranger can't lock the owner
out. The limit of an account isn't reported while something is left of it: a stranger could watch its owner by it.

Every limit by address is also a limit by network: an IPv6 /48 is 65,536 networks of one customer.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from loguru import logger
from msgspec import Struct
from msgspec.structs import astuple, replace
from prometheus_client import Counter

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError, too_many
from eventboard.core.ip import site_network
from eventboard.core.quotas import Quota
from eventboard.modules.auth.contract import Lease, Leased
from eventboard.modules.auth.counters import Count, Counters, Increment, Query
from eventboard.observability.metrics import Metrics
from eventboard.observability.tracing import untraced

Result = TypeVar("Result")

# The name of the counter that says that an account was logged in to from an address.
KNOWN = "known"
# Seconds to undo the failure of a log-in that was cancelled.
UNDOING = 1.0
# The names of the bounds on how many exist at once.
SESSIONS, PENDING_INVITATIONS = "sessions-of-a-log-in", "pending-invitations"


class Limit(Struct, frozen=True):
    """`most` in `window` seconds; 0 is no limit."""

    name: str
    most: int
    window: int


class Rules(Struct, frozen=True, kw_only=True):
    """`known_for`: seconds after a log-in for which its address passes the limits that strangers can use up.

    `network_factor`: the limit of an IPv6 /48 as a multiple of an address's; 0 is no limit.
    """

    login_by_address: Limit
    login_by_account: Limit
    login_failures: Limit
    login_failures_by_account: Limit
    known_for: int
    network_factor: int
    password_by_address: Limit
    password_by_account: Limit
    password_failures: Limit
    signup_by_address: Limit
    signup_by_account: Limit
    refresh_by_address: Limit
    refresh_by_account: Limit
    invitations_by_user: Limit
    invitations_by_organization: Limit
    invitations_by_recipient: Limit

    def by_address(self, limit: Limit, origin: "Origin") -> list["LimitKey"]:
        """Empty where the address is unknown, or a proxy's: its clients aren't counted as one."""
        if not origin.address or origin.shared:
            return []
        network = site_network(origin.address)
        of_network = [] if network is None else [LimitKey(self._of_network(limit), (network,))]
        return [LimitKey(limit, (origin.address,)), *of_network]

    def names(self) -> list[str]:
        limits = [limit for limit in astuple(self) if isinstance(limit, Limit)]
        return list(dict.fromkeys(name for limit in limits for name in (limit.name, self._of_network(limit).name)))

    def _of_network(self, limit: Limit) -> Limit:
        return Limit(limit.name.replace("-by-address", "-by-network"), limit.most * self.network_factor, limit.window)


def rules_of(given: Mapping[str, int]) -> Rules:
    """From the numbers of the settings."""
    window, account, failure = given["window"], given["account_window"], given["failure_window"]
    invitation = given["invitation_window"]

    def limit(name: str, window: int) -> Limit:
        return Limit(name.replace("_", "-"), given[name], window)

    return Rules(
        login_by_address=limit("login_by_address", window),
        login_by_account=limit("login_by_account", window),
        login_failures=limit("login_failures", failure),
        login_failures_by_account=limit("login_failures_by_account", account),
        known_for=given["known_for"],
        network_factor=given["network_factor"],
        password_by_address=limit("password_by_address", window),
        password_by_account=limit("password_by_account", failure),
        password_failures=Limit("password-failures", given["login_failures"], failure),
        signup_by_address=limit("signup_by_address", window),
        signup_by_account=limit("signup_by_account", account),
        refresh_by_address=limit("refresh_by_address", window),
        refresh_by_account=limit("refresh_by_account", window),
        invitations_by_user=limit("invitations_by_user", invitation),
        invitations_by_organization=limit("invitations_by_organization", invitation),
        invitations_by_recipient=limit("invitations_by_recipient", invitation),
    )


class Origin(Struct, frozen=True):
    """Where a call comes from. `shared`: the address is a proxy's, and stands for any number of clients."""

    address: str
    shared: bool = False


class LimitKey(Struct, frozen=True):
    """A limit, and the subject that is counted. An `amount` of 0 checks whether one more is allowed."""

    limit: Limit
    subject: tuple[str, ...]
    amount: int = 1

    @property
    def most(self) -> int:
        return self.limit.most - 1 + self.amount

    @property
    def key(self) -> bytes:
        return key_of(self.limit.name, *self.subject)


class Limits:
    def __init__(self, counters: Counters, rules: Rules, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics()
        self._counters = counters
        self._rules = rules
        self._rejected = metrics.rejected
        self._unlimited = metrics.unlimited
        # The event loop alone doesn't keep tasks alive.
        self._background: set[asyncio.Task[None]] = set()
        # Every counter exists from the start, so that its first increase is seen.
        for name in (*rules.names(), SESSIONS, PENDING_INVITATIONS):
            self._rejected.labels(name)
        for limit in (rules.refresh_by_address, rules.refresh_by_account):
            self._unlimited.labels(limit.name)

    def login(self, email: str, origin: Origin) -> "LoginAttempt":
        return LoginAttempt(self._counters, self._rejected, self._background, self._rules, email, origin)

    def attempt(self) -> "Attempt":
        return Attempt(self._counters, self._rejected, self._background)

    async def count_signup_address(self, attempt: "Attempt", origin: Origin) -> None:
        await attempt.count(*self._rules.by_address(self._rules.signup_by_address, origin), reported=1)

    async def count_signup_account(self, attempt: "Attempt", email: str) -> None:
        """Called once the sign-up would succeed: otherwise a stranger could use up somebody's limit."""
        await attempt.count(LimitKey(self._rules.signup_by_account, (email,)), reported=0)

    async def count_refresh_address(self, attempt: "Attempt", origin: Origin) -> None:
        await self._count_if_possible(attempt, self._rules.by_address(self._rules.refresh_by_address, origin))

    async def count_refresh_account(self, attempt: "Attempt", user_id: UUID) -> None:
        await self._count_if_possible(attempt, [LimitKey(self._rules.refresh_by_account, (str(user_id),))])

    async def count_password_change(self, attempt: "Attempt", user_id: UUID, origin: Origin) -> None:
        """A stolen token must not be enough to guess the password; and each attempt costs two hashes."""
        rules, subject = self._rules, (str(user_id),)
        await attempt.count(*rules.by_address(rules.password_by_address, origin), reported=1)
        await attempt.count(LimitKey(rules.password_by_account, subject))
        await attempt.count_failure(LimitKey(rules.password_failures, subject))

    async def count_invitation(self, attempt: "Attempt", organization_id: UUID, user_id: UUID, email: str) -> None:
        """Undone where no mail is sent. Those of a recipient are counted whoever sends them."""
        rules = self._rules
        await attempt.count_failure(
            LimitKey(rules.invitations_by_user, (str(user_id),)),
            LimitKey(rules.invitations_by_organization, (str(organization_id),)),
            LimitKey(rules.invitations_by_recipient, (mailbox(email),)),
        )

    def bound_reached(self, name: str, most: int, window: int, ends_in: float, detail: str) -> ServiceError:
        """For a bound on how many exist at once; the first of them ends in `ends_in` seconds."""
        self._rejected.labels(name).inc()
        return too_many((Quota(name, most, window, 0, max(1, math.ceil(ends_in))),), detail)

    async def lease(self, query: Lease) -> Leased:
        """The counter may exceed the limit; what exceeds it is not granted."""
        key = key_of("user", str(query.user_id))
        (count,) = await self._counters.add(Increment(key, query.window, query.amount))
        left = query.most - count.total
        return Leased(granted=max(0, query.amount + min(0, left)), left=max(0, left), ends_in=count.ends_in)

    async def _count_if_possible(self, attempt: "Attempt", keys: list[LimitKey]) -> None:
        """A refresh token can't be guessed: counters that can't be reached are no reason to log everybody out."""
        try:
            await attempt.count(*keys, reported=1)
        except ServiceError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            self._unlimited.labels(keys[0].limit.name).inc()


class Attempt:
    """The counts of one call. A ServiceError that leaves its block carries their quotas."""

    def __init__(self, counters: Counters, rejected: Counter, background: set[asyncio.Task[None]]) -> None:
        self._counters = counters
        self._rejected = rejected
        self._background = background
        self._failures: list[LimitKey] = []
        self.quotas: tuple[Quota, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, ServiceError):
            error.quotas = self.quotas

    async def count(self, *keys: LimitKey, reported: int | None = None) -> None:
        """Raises `too-many-requests` where a limit is exceeded.

        `reported`: the client sees the quotas of so many, the first ones; of all where it is None.
        """
        limiting = _limiting(keys)
        counts = await self._add(_increments(limiting))
        for number, quota in enumerate(_quotas(limiting, counts)):
            if quota.left < 0:
                raise self._rejection(quota)
            if reported is None or number < reported:
                self.quotas = (*self.quotas, quota)

    async def count_failure(self, *keys: LimitKey) -> None:
        """Counted from the beginning, until it is undone: of many at once no more than the limit are let through."""
        await self.count(*keys)
        self._failures.extend(keys)

    async def undo_unless_done(self, work: Awaitable[Result]) -> Result:
        """Undoes the failures where the work was rejected, or the database is away: then nothing has failed."""
        try:
            return await work
        except ServiceError:
            await self.undo_failures()
            raise

    async def undo_unless_judged(self, verifying: Awaitable[Result]) -> Result:
        """As `undo_unless_done`. A call that is cancelled at its deadline hasn't judged a password either."""
        try:
            return await self.undo_unless_done(verifying)
        except asyncio.CancelledError:
            undoing = asyncio.create_task(self._undo_after_deadline(request_context.current().correlation_id))
            self._background.add(undoing)
            undoing.add_done_callback(self._background.discard)
            raise

    async def _undo_after_deadline(self, correlation_id: str) -> None:
        """Beside the call, whose budget is used up."""
        with request_context.use(request_context.Context(correlation_id)), request_context.budget(UNDOING), untraced():
            try:
                await self.undo_failures()
            except ServiceError as error:
                logger.warning(
                    "a log-in was stopped at its deadline, and stays counted as failed until its window ends: {}",
                    error.detail,
                )

    async def undo_failures(self) -> None:
        await self._add(self._undoing())

    def _undoing(self) -> list[Increment]:
        return [Increment(key.key, key.limit.window, -1) for key in self._failures if key.limit.most]

    async def _add(self, increments: list[Increment]) -> list[Count]:
        return await self._counters.add(*increments) if increments else []

    def _rejection(self, quota: Quota) -> ServiceError:
        self._rejected.labels(quota.name).inc()
        self.quotas = (*self.quotas, replace(quota, left=0))
        return too_many(self.quotas)


class LoginAttempt(Attempt):
    def __init__(
        self,
        counters: Counters,
        rejected: Counter,
        background: set[asyncio.Task[None]],
        rules: Rules,
        email: str,
        origin: Origin,
    ) -> None:
        super().__init__(counters, rejected, background)
        self._rules = rules
        self._email = email
        self._origin = origin
        self._account_at_address = (email, origin.address)

    async def begin(self, query: Query) -> Any | None:
        """The row of the query, where a password may be tried."""
        rules = self._rules
        failures, account_failures = rules.login_failures, rules.login_failures_by_account
        # In this order: an address that is out of attempts uses up nothing of its account's. Each count is a row that
        # the transaction locks, so `succeed` has the same order.
        of_address = rules.by_address(rules.login_by_address, self._origin)
        # What a known address may do for this account alone, whatever others do at the same address.
        own = [LimitKey(rules.login_by_address, self._account_at_address)] if self._origin.address else []
        of_account = LimitKey(account_failures, (self._email,))
        successes = LimitKey(rules.login_by_account, (self._email,), 0)
        pending = _limiting([*of_address, *own, LimitKey(failures, self._account_at_address), of_account, successes])
        counts, row = await self._counters.add_and_query(_increments(pending), query)
        known = False
        while True:
            for key, quota in zip(pending, _quotas(pending, counts), strict=False):
                if key.limit in (failures, account_failures):
                    self._failures.append(key)
                if quota.left < 0:
                    # Strangers can use this limit up: a known address goes on, and what comes after it is counted.
                    known = (key is of_account or key in of_address) and await self._is_known()
                    if not known:
                        raise self._rejection(quota)
                elif key.limit is failures or key in (of_address or own)[:1] or (known and key in own):
                    others = [other for other in self.quotas if other.name != quota.name]
                    self.quotas = (*others, quota)
            pending = pending[len(counts) :]
            if not pending:
                return row
            counts = await self._add(_increments(pending))

    async def succeed(self, query: Query) -> Any | None:
        """Called when the password was right. Returns the row of the query."""
        rules, increments = self._rules, self._undoing()
        if rules.login_by_account.most:
            # It counts successes alone, so nobody else can use it up.
            success = LimitKey(rules.login_by_account, (self._email,))
            increments.append(Increment(success.key, success.limit.window))
        if rules.login_failures_by_account.most or rules.login_by_address.most:
            increments.append(Increment(key_of(KNOWN, *self._account_at_address), rules.known_for, restart=True))
        _, row = await self.undo_unless_done(self._counters.add_and_query(increments, query))
        return row

    async def _is_known(self) -> bool:
        return await self._counters.exists(key_of(KNOWN, *self._account_at_address))


def mailbox(email: str) -> str:
    """Where an address is delivered: `ann+one@` and `ann+two@` are both Ann's."""
    user, _, domain = email.rpartition("@")
    return f"{user.partition('+')[0] or user}@{domain}"


def _limiting(keys: Iterable[LimitKey]) -> list[LimitKey]:
    return [key for key in keys if key.limit.most]


def _increments(keys: list[LimitKey]) -> list[Increment]:
    return [Increment(key.key, key.limit.window, key.amount, key.most) for key in keys]


def _quotas(keys: list[LimitKey], counts: list[Count]) -> list[Quota]:
    """Up to the first that is exceeded: what comes after it wasn't counted."""
    return [
        Quota(
            key.limit.name, key.limit.most, key.limit.window, key.most - count.total, max(1, math.ceil(count.ends_in))
        )
        for key, count in zip(keys, counts, strict=False)
    ]


def key_of(name: str, *subject: str) -> bytes:
    """A hash: neither addresses nor e-mail addresses are stored. None of them contains NUL."""
    return hashlib.sha256("\0".join((name, *subject)).encode()).digest()
