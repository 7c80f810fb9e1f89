"""Quotas on what is stored: bytes of an organization, idempotency keys of a user, changes of an event.

The usage is counted in the database. A process caches what it has read and adds what it has written since, so that most
writes need no lookup. With several processes a quota can be exceeded by what the others write until the next read.
"""

import math
import time
from collections.abc import Callable, Hashable
from typing import Any
from uuid import UUID

from cachetools import LRUCache
from msgspec import Struct

from eventboard.core.errors import Code, ServiceError, too_many
from eventboard.core.quotas import Quota
from eventboard.db.database import Connection
from eventboard.identity.access_tokens import Principal
from eventboard.modules.events import repository
from eventboard.modules.events.contract import Event
from eventboard.observability.metrics import Metrics

A_DAY = 24 * 60 * 60
# Seconds for which a cached usage is valid: other processes write, too.
BYTES_TTL = 10.0
KEYS_TTL = 60.0
# Seconds for which it is valid once the quota is used up: something may have been deleted, or have expired.
EXHAUSTED_TTL = 1.0
# Organizations, and users, whose usage is cached.
CACHE_SIZE = 10_000
# Bytes of an event's row, and of a history entry's, beside their texts. The database's triggers use the same number.
ROW_SIZE = 512

BYTES, KEYS, CHANGES = "stored-bytes", "idempotency-keys", "event-changes"


class QuotaLimits(Struct, frozen=True, kw_only=True):
    """0 is unlimited. Keys and changes are counted within a day."""

    bytes_by_organization: int
    keys_by_user: int
    changes_by_event: int


class _Usage(Struct):
    """`used` as of `read_at`, and what this process has added. In `ends_in` seconds some of it expires."""

    used: int
    read_at: float
    ends_in: float = A_DAY


class Quotas:
    """The `charge_` methods run in the transaction of the write that they are for, before it writes."""

    def __init__(
        self, limits: QuotaLimits, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._rejected = (metrics or Metrics()).rejected
        for name in (BYTES, KEYS, CHANGES):
            self._rejected.labels(name)
        self._bytes = LRUCache[Hashable, _Usage](CACHE_SIZE)
        self._keys = LRUCache[Hashable, _Usage](CACHE_SIZE)

    async def charge_event(self, connection: Connection, caller: Principal, content: dict[str, Any]) -> None:
        """For a new event. Raises `quota-exceeded`."""
        await self._charge_bytes(connection, caller.organization_id, 2 * ROW_SIZE + _text_size(content))

    async def charge_change(
        self, connection: Connection, caller: Principal, event: Event, content: dict[str, Any]
    ) -> None:
        """For a change of an event to the new content. Raises `quota-exceeded`, and `too-many-requests` if the event
        has changed too often within a day: its history grows each time.
        """
        await self._check_changes(connection, event)
        old = {name: getattr(event, name) for name in content}
        growth = ROW_SIZE + _text_size(content) - _text_size(old)
        await self._charge_bytes(connection, caller.organization_id, growth)

    async def charge_key(self, connection: Connection, caller: Principal) -> None:
        """For a new idempotency key. Raises `too-many-requests` if the user has stored too many within a day."""
        limit, user = self._limits.keys_by_user, (caller.organization_id, caller.user_id)
        if not limit:
            return
        usage = self._keys.get(user)
        exhausted = usage is not None and usage.used >= limit
        if usage is None or self._expired(usage, EXHAUSTED_TTL if exhausted else KEYS_TTL):
            row: Any = await connection.one(
                repository.LIVE_KEYS, organization_id=caller.organization_id, user_id=caller.user_id, most=limit
            )
            ends_in = A_DAY if row["seconds"] is None else float(row["seconds"])
            usage = self._keys[user] = _Usage(row["keys"], self._clock(), ends_in)
        if usage.used >= limit:
            raise self._too_many(KEYS, limit, usage.ends_in)
        usage.used += 1

    def invalidate_bytes(self, organization_id: UUID) -> None:
        """After a deletion: the next write reads the organization's usage again."""
        self._bytes.pop(organization_id, None)

    async def _charge_bytes(self, connection: Connection, organization_id: UUID, growth: int) -> None:
        limit = self._limits.bytes_by_organization
        if not limit or growth <= 0:
            return
        usage = self._bytes.get(organization_id)
        exhausted = usage is not None and usage.used + growth > limit
        if usage is None or self._expired(usage, EXHAUSTED_TTL if exhausted else BYTES_TTL):
            row: Any = await connection.one(repository.STORED_BYTES, organization_id=organization_id)
            usage = self._bytes[organization_id] = _Usage(row["bytes"], self._clock())
        if usage.used + growth > limit:
            self._rejected.labels(BYTES).inc()
            raise ServiceError(
                Code.QUOTA_EXCEEDED,
                f"Your organization stores {usage.used} of {limit} bytes; this needs {growth} more."
                " Delete events, or ask the operator for more.",
            )
        usage.used += growth

    async def _check_changes(self, connection: Connection, event: Event) -> None:
        """Every change is a version. So the time of the version that is `limit` changes back answers the question."""
        limit = self._limits.changes_by_event
        if not limit or event.version < limit:
            return
        row = await connection.one(
            repository.VERSION_AGE,
            organization_id=event.organization_id,
            event_id=event.id,
            version=event.version + 1 - limit,
        )
        if row is not None and row["seconds"] < A_DAY:
            raise self._too_many(CHANGES, limit, A_DAY - float(row["seconds"]))

    def _too_many(self, name: str, limit: int, seconds: float) -> ServiceError:
        self._rejected.labels(name).inc()
        return too_many((Quota(name, limit, A_DAY, 0, max(1, math.ceil(seconds))),))

    def _expired(self, usage: _Usage, ttl: float) -> bool:
        return self._clock() - usage.read_at >= ttl


def _text_size(values: dict[str, Any]) -> int:
    names = ("title", "description", "location", "rejection_reason")
    return sum(len((values.get(name) or "").encode()) for name in names)
