"""The base of all tables: advanced-alchemy's declarative parts, without its lone `id` primary key."""

from datetime import datetime
from typing import Any

from advanced_alchemy.base import AdvancedDeclarativeBase, CommonTableAttributes, create_registry
from sqlalchemy import DateTime, MetaData, func
from sqlalchemy.orm import Mapped, mapped_column, registry

# Alembic finds a constraint again by its name only.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def registry_of(schema: str) -> registry:
    """For a declarative base whose tables live in one PostgreSQL schema."""
    types: dict[Any, Any] = {datetime: DateTime(timezone=True)}
    made = create_registry(types)
    made.metadata = MetaData(schema=schema, naming_convention=NAMES)
    return made


class TableBase(CommonTableAttributes, AdvancedDeclarativeBase):
    """Each module derives its own, with a `registry` of its own."""

    __abstract__ = True


class Timestamps:
    """Set by the database's clock: one clock for all replicas."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=91)
