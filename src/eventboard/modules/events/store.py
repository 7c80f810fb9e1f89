"""The statements on one event, each compiled once. A change and its history entry are one statement."""

from typing import Any

from sqlalchemy import (
    CTE,
    Double,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    text,
    update,
)

from eventboard.modules.events.contract import Event, HistoryEntry
from eventboard.modules.events.models import EventRow, HistoryRow, KeyRow
from eventboard.platform.database import Statement
from eventboard.platform.sweeper import counting

_TABLE: Any = EventRow.__table__
# In the order of the contract's struct, so that a row becomes one without naming its fields.
COLUMNS = [_TABLE.c[name] for name in Event.__struct_fields__]

_THIS = (
    EventRow.organization_id == bindparam("organization_id"),
    EventRow.id == bindparam("event_id"),
)
# Of the statement, not of its transaction, which may have begun before the one that it waited for: so the times of an
# event's history go the way of its versions.
_NOW = func.statement_timestamp()
# The guard of every change: the version that was judged is the version that is changed, or nothing is.
_UNCHANGED = (*_THIS, EventRow.version == bindparam("version"))


def _with_history(changed: CTE, *, ended: bool = False) -> Select[Any]:
    """Selects the changed row and writes its history entry."""
    entry = insert(HistoryRow).from_select(
        [
            "organization_id",
            "event_id",
            "version",
            "action",
            "status",
            "reason",
            "author_id",
            "actor_id",
            "actor_name",
            "at",
            "correlation_id",
        ],
        select(
            changed.c.organization_id,
            changed.c.id,
            changed.c.version + 1 if ended else changed.c.version,
            bindparam("action", type_=HistoryRow.action.type),
            null() if ended else changed.c.status,
            bindparam("reason", type_=HistoryRow.reason.type),
            changed.c.created_by_id,
            bindparam("actor_id", type_=HistoryRow.actor_id.type),
            bindparam("actor_name", type_=HistoryRow.actor_name.type),
            _NOW,
            bindparam("correlation_id", type_=HistoryRow.correlation_id.type),
        ),
    )
    return select(*[changed.c[name] for name in Event.__struct_fields__]).add_cte(entry.cte("entry"))


FIND = Statement(select(*COLUMNS).where(*_THIS))

CREATE = Statement(
    _with_history(
        insert(EventRow)
        .values(
            organization_id=bindparam("organization_id"),
            id=bindparam("event_id"),
            created_by_id=bindparam("actor_id"),
            created_by_name=bindparam("actor_name"),
            created_at=_NOW,
            updated_at=_NOW,
            version=literal(1),
            **{
                name: bindparam(name)
                for name in ("title", "description", "location", "start_date", "end_date", "time_zone", "status")
            },
        )
        .returning(_TABLE)
        .cte("changed")
    )
)

# Every changeable column at once: a patch and a command are the same statement. What keeps its value costs no index.
CHANGE = Statement(
    _with_history(
        update(EventRow)
        .where(*_UNCHANGED)
        .values(
            version=EventRow.version + 1,
            updated_at=_NOW,
            **{
                name: bindparam(f"new_{name}", type_=_TABLE.c[name].type)
                for name in (
                    "title",
                    "description",
                    "location",
                    "start_date",
                    "end_date",
                    "time_zone",
                    "status",
                    "rejection_reason",
                )
            },
        )
        .returning(_TABLE)
        .cte("changed")
    )
)

DELETE = Statement(_with_history(delete(EventRow).where(*_UNCHANGED).returning(_TABLE).cte("changed"), ended=True))

HISTORY = Statement(
    select(*[HistoryRow.__table__.c[name] for name in HistoryEntry.__struct_fields__], HistoryRow.author_id)
    .where(
        HistoryRow.organization_id == bindparam("organization_id"),
        HistoryRow.event_id == bindparam("event_id"),
    )
    .order_by(HistoryRow.version)
)


_KEY = (
    KeyRow.organization_id == bindparam("organization_id"),
    KeyRow.user_id == bindparam("user_id"),
    KeyRow.key == bindparam("key"),
)
# By the database's clock: a record is there until the moment it expires, swept or not.
_LIVE = KeyRow.expires_at > func.now()

FIND_KEY = Statement(select(KeyRow.operation, KeyRow.target, KeyRow.payload, KeyRow.outcome).where(*_KEY, _LIVE))

# Whether there is one, expired or not: asked for in the round trip that begins the transaction.
KEY_IS_KNOWN = Statement(select(literal_column("1")).where(*_KEY))

# In the round trip that commits. The record that has expired goes first, and never one that lives: the primary key is
# the last judge then.
REMOVE_EXPIRED_KEY = Statement(delete(KeyRow).where(*_KEY, KeyRow.expires_at <= func.now()))
STORE_KEY = Statement(
    insert(KeyRow).values(
        expires_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("lifetime", type_=Double())),
        **{
            name: bindparam(name)
            for name in (
                "organization_id",
                "user_id",
                "key",
                "operation",
                "target",
                "payload",
                "outcome",
                "correlation_id",
            )
        },
    )
)
KEYS = "pk_idempotency_keys"

REPORT_KEY = Statement(
    select(KeyRow.operation, KeyRow.target, KeyRow.outcome, KeyRow.created_at, KeyRow.correlation_id).where(
        *_KEY, _LIVE
    )
)
# Whether some transaction holds an advisory lock, told by the two halves of its number.
LOCKED = Statement(
    text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = CAST(:high AS oid) AND objid = CAST(:low AS oid))"
    )
)

# A batch, so that no statement holds many locks for long; what another sweeper or a writer holds is left to next time.
_EXPIRED = (
    select(KeyRow.organization_id, KeyRow.user_id, KeyRow.key)
    .where(KeyRow.expires_at <= func.now())
    .order_by(KeyRow.expires_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
    .cte("expired")
)
SWEEP_KEYS = Statement(
    delete(KeyRow)
    .where(
        KeyRow.organization_id == _EXPIRED.c.organization_id,
        KeyRow.user_id == _EXPIRED.c.user_id,
        KeyRow.key == _EXPIRED.c.key,
    )
    .returning(literal(1))
)
EXPIRED_KEYS = counting(select(KeyRow.key).where(KeyRow.expires_at <= func.now()))
