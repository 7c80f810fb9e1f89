"""The statements on one event and on idempotency keys, each compiled once.

A change and its history entry are one statement.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from eventboard.db.database import Statement
from eventboard.db.sweeper import counting
from eventboard.modules.events.contract import Event, HistoryEntry
from eventboard.modules.events.models import EventRow, HistoryRow, KeyRow, TallyRow

# Each new event calls this function, which needs an extension.
SEARCH_TRIAL = Statement(text("SELECT events.search_keys('00000000-0000-0000-0000-000000000000', 'chess')"))

_TABLE: Any = EventRow.__table__
# In the order of the contract's struct: Event(*row).
COLUMNS = [_TABLE.c[name] for name in Event.__struct_fields__]
CHANGEABLE = (
    "title",
    "description",
    "location",
    "start_date",
    "end_date",
    "time_zone",
    "status",
    "rejection_reason",
)

_THIS = (
    EventRow.organization_id == bindparam("organization_id"),
    EventRow.id == bindparam("event_id"),
)
# The statement's time. Its transaction may have begun before the one that it waited for, and the times of an event's
# history have to be in the order of its versions.
_NOW = func.statement_timestamp()
# The guard of every change: nothing changes if the event is no longer the version that was loaded.
_UNCHANGED = (*_THIS, EventRow.version == bindparam("version"))


def _with_history(changed: CTE, *, deleted: bool = False) -> Select[Any]:
    """Selects the changed row and writes its history entry."""
    entry: dict[str, Any] = {
        "organization_id": changed.c.organization_id,
        "event_id": changed.c.id,
        "version": changed.c.version + 1 if deleted else changed.c.version,
        "action": bindparam("action", type_=HistoryRow.action.type),
        "status": null() if deleted else changed.c.status,
        "reason": bindparam("reason", type_=HistoryRow.reason.type),
        "author_id": changed.c.created_by_id,
        "actor_id": bindparam("actor_id", type_=HistoryRow.actor_id.type),
        "actor_name": bindparam("actor_name", type_=HistoryRow.actor_name.type),
        "at": _NOW,
        "correlation_id": bindparam("correlation_id", type_=HistoryRow.correlation_id.type),
    }
    written = insert(HistoryRow).from_select([*entry], select(*entry.values())).cte("entry")
    return select(*[changed.c[name] for name in Event.__struct_fields__]).add_cte(written)


FIND = Statement(select(*COLUMNS).where(*_THIS))
FIND_LOCKED = Statement(select(*COLUMNS).where(*_THIS).with_for_update())

# The row comes from the settings of its scope, so they are made before row-level security checks it.
_SCOPE = select(
    func.set_config(
        literal_column("'eventboard.organization_id'"), cast(bindparam("organization_id", type_=Uuid()), Text), true()
    ),
    func.set_config(literal_column("'eventboard.user_id'"), cast(bindparam("actor_id", type_=Uuid()), Text), true()),
).cte("scope")
_NEW: dict[str, Any] = {
    "organization_id": "organization_id",
    "id": "event_id",
    "created_by_id": "actor_id",
    "created_by_name": "actor_name",
    **{name: name for name in ("title", "description", "location", "start_date", "end_date", "time_zone", "status")},
}
CREATE = Statement(
    _with_history(
        insert(EventRow)
        .from_select(
            [*_NEW, "created_at", "updated_at", "version"],
            select(
                *[bindparam(parameter, type_=_TABLE.c[name].type) for name, parameter in _NEW.items()],
                _NOW,
                _NOW,
                literal_column("1"),
            ).select_from(_SCOPE),
        )
        .returning(_TABLE)
        .cte("changed")
    ),
    sets_scope=True,
)

# A patch and a transition are the same statement. A column that keeps its value costs no index update.
CHANGE = Statement(
    _with_history(
        update(EventRow)
        .where(*_UNCHANGED)
        .values(
            version=EventRow.version + 1,
            updated_at=_NOW,
            **{name: bindparam(f"new_{name}", type_=_TABLE.c[name].type) for name in CHANGEABLE},
        )
        .returning(_TABLE)
        .cte("changed")
    )
)

DELETE = Statement(_with_history(delete(EventRow).where(*_UNCHANGED).returning(_TABLE).cte("changed"), deleted=True))

_HISTORY = (
    HistoryRow.organization_id == bindparam("organization_id"),
    HistoryRow.event_id == bindparam("event_id"),
)
# Who may read a history depends on its newest entry, which is on the last page. So it is joined to each row. One row
# without an entry is a page after the last one; no row at all means that the event never existed.
_NEWEST = (
    select(HistoryRow.author_id, HistoryRow.status.label("newest_status"))
    .where(*_HISTORY)
    .order_by(HistoryRow.version.desc())
    .limit(literal_column("1"))
    .subquery("newest")
)
_PAGE = (
    select(*[HistoryRow.__table__.c[name] for name in HistoryEntry.__struct_fields__])
    .where(*_HISTORY, HistoryRow.version > bindparam("after"))
    .order_by(HistoryRow.version)
    .limit(bindparam("most"))
    .lateral("page")
)
HISTORY = Statement(
    select(*_PAGE.c, *_NEWEST.c).select_from(_NEWEST.outerjoin(_PAGE, true())).order_by(_PAGE.c.version)
)

# Seconds since the change that led to a version.
VERSION_AGE = Statement(
    select(func.extract("epoch", func.statement_timestamp() - HistoryRow.at).label("seconds")).where(
        *_HISTORY, HistoryRow.version == bindparam("version")
    )
)

# Triggers maintain it; see the migration that added the column.
STORED_BYTES = Statement(
    select(cast(func.coalesce(func.sum(TallyRow.bytes), literal_column("0")), BigInteger).label("bytes")).where(
        TallyRow.organization_id == bindparam("organization_id")
    )
)


def _in_seconds(name: str) -> ColumnElement[datetime]:
    """Now and as many seconds as the parameter says."""
    time: ColumnElement[datetime] = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam(name, type_=Double()))
    return time


KEYS = "pk_idempotency_keys"
_KEY = (
    KeyRow.organization_id == bindparam("organization_id"),
    KeyRow.user_id == bindparam("user_id"),
    KeyRow.key == bindparam("key"),
)
# By the database's clock. An expired record doesn't count, whether it has been deleted yet or not.
_LIVE = KeyRow.expires_at > func.now()

FIND_KEY = Statement(
    select(
        KeyRow.operation,
        KeyRow.target,
        KeyRow.payload,
        KeyRow.outcome,
        KeyRow.created_at,
        KeyRow.correlation_id,
    ).where(*_KEY, _LIVE)
)

# How many keys of a user's own are live, and in how many seconds the oldest expires. An adapter's keys live for minutes
# at most.
LIVE_KEYS = Statement(
    select(
        func.count().label("keys"),
        func.extract("epoch", func.min(text("expires_at")) - func.now()).label("seconds"),
    ).select_from(
        select(KeyRow.expires_at)
        .where(
            KeyRow.organization_id == bindparam("organization_id"),
            KeyRow.user_id == bindparam("user_id"),
            _LIVE,
            KeyRow.expires_at - KeyRow.created_at > text("interval '1 hour'"),
            func.octet_length(KeyRow.payload) > literal_column("0"),  # not a shared outcome
        )
        .limit(bindparam("most"))
        .subquery("live")
    )
)

_KEY_COLUMNS = ("organization_id", "user_id", "key")
_RECORD_COLUMNS = ("operation", "target", "payload", "outcome", "correlation_id")

# Replaces a record that has expired. Returns no row if there is a live one, which stays.
_RECORD = postgresql.insert(KeyRow).values(
    expires_at=_in_seconds("lifetime"), **{name: bindparam(name) for name in (*_KEY_COLUMNS, *_RECORD_COLUMNS)}
)
STORE_KEY = Statement(
    _RECORD.on_conflict_do_update(
        constraint=KEYS,
        set_={name: _RECORD.excluded[name] for name in (*_RECORD_COLUMNS, "created_at", "expires_at")},
        where=KeyRow.expires_at <= func.now(),
    ).returning(literal_column("1"))
)

# A record with this key holds the same outcome. It is extended if it would live for less than `least` seconds.
_SHARED = postgresql.insert(KeyRow).values(
    expires_at=_in_seconds("lifetime"),
    target=null(),
    payload=literal_column("''::bytea"),
    **{name: bindparam(name) for name in (*_KEY_COLUMNS, "operation", "outcome", "correlation_id")},
)
STORE_SHARED_OUTCOME = Statement(
    _SHARED.on_conflict_do_update(
        constraint=KEYS,
        set_={"expires_at": _SHARED.excluded.expires_at, "outcome": _SHARED.excluded.outcome},
        where=KeyRow.expires_at < _in_seconds("least"),
    )
)

# Whether a transaction holds an advisory lock, given the two halves of its number.
LOCKED = Statement(
    text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = CAST(:high AS oid) AND objid = CAST(:low AS oid))"
    )
)

# A batch, so that no statement holds many locks for long. Rows that another transaction has locked are skipped.
_EXPIRED = (
    select(KeyRow.organization_id, KeyRow.user_id, KeyRow.key)
    .where(KeyRow.expires_at <= func.now())
    .order_by(KeyRow.expires_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
    .cte("expired")
)
DELETE_EXPIRED_KEYS = Statement(
    delete(KeyRow)
    .where(
        KeyRow.organization_id == _EXPIRED.c.organization_id,
        KeyRow.user_id == _EXPIRED.c.user_id,
        KeyRow.key == _EXPIRED.c.key,
    )
    .returning(literal(1))
)
COUNT_EXPIRED_KEYS = counting(select(KeyRow.key).where(KeyRow.expires_at <= func.now()))
