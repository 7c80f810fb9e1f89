"""The tables of events, in the schema `events`. Every key is led by the organization."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Integer, SmallInteger, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from eventboard.db.models import TableBase, Timestamps, registry_of
from eventboard.modules.events.contract import Action, Status
from eventboard.modules.events.lifecycle import ALL, PUBLIC

SCHEMA = "events"


class Base(TableBase):
    __abstract__ = True
    registry = registry_of(SCHEMA)
    metadata = registry.metadata


# The text that is searched, as one expression for one index. No title or description contains the separator, as
# contract.py rejects control characters; so nothing matches across the two.
SEARCHED = r"(title || E'\x1f' || description)"


def _one_of(column: str, values: Iterable[Status | Action]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class EventRow(Timestamps, Base):
    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint(_one_of("status", Status), name="status"),
        CheckConstraint("start_date < end_date", name="dates"),
        CheckConstraint("(status = 'REJECTED') = (rejection_reason IS NOT NULL)", name="rejection_reason"),
        CheckConstraint("version >= 1", name="version"),
        # One for each order of a list, which is merged from the statuses. A descending order reads it backwards.
        Index("ix_events_by_start_date", "organization_id", "status", "start_date", "id"),
        Index("ix_events_by_created_at", "organization_id", "status", "created_at", "id"),
        Index("ix_events_by_title", "organization_id", "status", "title", "id"),
        Index("ix_events_by_status", "organization_id", "status", "id"),
        # What only its author sees, few of all events: so those of others needn't be skipped.
        Index(
            "ix_events_own",
            "organization_id",
            "created_by_id",
            "start_date",
            "id",
            postgresql_where=text(_one_of("status", sorted(ALL - PUBLIC))),
        ),
        # The trigrams of the searched text, by organization; explained in the migration that created it.
        Index(
            "ix_events_search_keys",
            text(f'(events.search_keys(organization_id, {SEARCHED})) COLLATE "C" array_ops'),
            postgresql_using="gin",
        ),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(Text)
    start_date: Mapped[datetime]
    end_date: Mapped[datetime]
    time_zone: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    rejection_reason: Mapped[str | None] = mapped_column(Text)
    created_by_id: Mapped[UUID]
    created_by_name: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer, sort_order=92)


class HistoryRow(Base):
    """One entry for each version of an event, and one for its deletion. It outlives the event.

    `author_id` is the event's author, who may read the history of the deleted event.
    """

    __tablename__ = "history"
    __table_args__ = (CheckConstraint(_one_of("action", Action), name="action"),)

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    action: Mapped[str] = mapped_column(Text)
    status: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    author_id: Mapped[UUID]
    actor_id: Mapped[UUID]
    actor_name: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    correlation_id: Mapped[str] = mapped_column(Text)


class KeyRow(Base):
    """The outcome of a write that carried an idempotency key, until it expires."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        # Far more than the largest event needs (5,000 characters of description, at most four bytes each).
        CheckConstraint("octet_length(outcome) <= 65536", name="outcome"),
        Index("ix_idempotency_keys_expires_at", "expires_at"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    operation: Mapped[str] = mapped_column(Text)
    target: Mapped[UUID | None]
    payload: Mapped[bytes]
    outcome: Mapped[bytes]
    correlation_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class TallyRow(Base):
    """How many events an organization has in a status, and the bytes that they and their history take. These are the
    sums over the slots, among which triggers spread the updates.
    """

    __tablename__ = "tallies"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    events: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
