"""Limits on bodies that are being received, and on responses that are being sent.

A request that arrives slowly, and a response that isn't read, use memory for as long as the client likes. When there
are too many, the one that has waited longest is dropped, not the newest one rejected: most transfers take milliseconds,
so those who hold them open on purpose lose them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventboard.core.asgi import Scope
from eventboard.observability.metrics import Metrics

# Bytes that a transfer costs besides its body: a connection, a task, the kernel's buffers.
COST = 16_384

# Returns a client's address, "" if it isn't certain.
AddressOf = Callable[[Scope], str]


class Transfer:
    """One body. When it is dropped, `limit` expires, which is a timeout around it."""

    def __init__(self, scope: Scope, limit: asyncio.Timeout) -> None:
        self.scope = scope
        self.limit = limit
        self.size = 0
        self.dropped = False
        self.address: str | None = None


class Transfers:
    """At most `most` at once, of `most_bytes` in total. `name` is the limit's in the metric of rejections.

    With `address_of`, a transfer of the client that uses most is dropped.
    """

    def __init__(
        self, name: str, *, most: int, most_bytes: int, address_of: AddressOf | None = None, metrics: Metrics
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._address_of = address_of
        self._rejected = metrics.rejected.labels(name)
        # The one that has waited longest is first.
        self._active: dict[Transfer, None] = {}
        self._bytes = 0

    @contextmanager
    def transfer(self, scope: Scope, limit: asyncio.Timeout) -> Iterator[Transfer]:
        transfer = Transfer(scope, limit)
        self._active[transfer] = None
        if len(self._active) > self._most:
            self._drop_one()
        try:
            yield transfer
        finally:
            if not transfer.dropped:
                self._remove(transfer)

    def resize(self, transfer: Transfer, size: int, *, moved: bool = False) -> None:
        """`size` bytes of it are in memory. `moved`: the client has taken some, so its waiting starts again."""
        if transfer.dropped:
            return
        self._bytes += size - transfer.size
        transfer.size = size
        if moved:
            del self._active[transfer]
            self._active[transfer] = None
        while self._bytes > self._most_bytes and self._active:
            self._drop_one()

    def _remove(self, transfer: Transfer) -> None:
        del self._active[transfer]
        self._bytes -= transfer.size

    def _drop_one(self) -> None:
        transfer = self._greediest()
        self._remove(transfer)
        transfer.dropped = True
        if not transfer.limit.expired():
            transfer.limit.reschedule(asyncio.get_running_loop().time())
        self._rejected.inc()

    def _greediest(self) -> Transfer:
        """Looks at all transfers, but only where one has to be dropped."""
        if self._address_of is None:
            return next(iter(self._active))
        used = Counter[str]()
        for transfer in self._active:
            if transfer.address is None:
                transfer.address = self._address_of(transfer.scope)
            used[transfer.address] += COST + transfer.size
        ((greediest, _),) = used.most_common(1)
        return next(transfer for transfer in self._active if transfer.address == greediest)
