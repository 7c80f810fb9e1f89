"""What the version before wrote, and reads: both run side by side during an upgrade."""

from typing import Any
from uuid import uuid4

import msgspec

from eventboard.modules.events.contract import FindHistory, History, HistoryQuery, ListMeta


def crossed(value: Any, type_: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type_)


def test_history_without_pages() -> None:
    """An older gateway asks without a query, and an older service answers without `meta`."""
    asked = {"actor": "token", "event_id": uuid4()}
    assert crossed(asked, FindHistory).query is None
    assert crossed({**asked, "query": {}}, FindHistory).query == HistoryQuery(limit=100)
    assert crossed({"data": []}, History).meta == ListMeta(limit=100, has_next=False, next_cursor=None)
