"""The base of all models: advanced-alchemy's, without its `id` primary key, as ours are composite."""

from datetime import datetime
from typing import Any

from advanced_alchemy.base import AdvancedDeclarativeBase, CommonTableAttributes, create_registry
from sqlalchemy import DateTime, MetaData, func
from sqlalchemy.orm import Mapped, mapped_column, registry

# Alembic identifies constraints by their names.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def registry_of(schema: str) -> registry:
    """For the declarative base of the tables of one PostgreSQL schema."""
    types: dict[Any, Any] = {datetime: DateTime(timezone=True)}
    result = create_registry(types)
    result.metadata = MetaData(schema=schema, naming_convention=NAMES)
    return result


class TableBase(CommonTableAttributes, AdvancedDeclarativeBase):
    """Each module derives its own base from it, with its own `registry`."""

    __abstract__ = True


class Timestamps:
    """By the database's clock, which all replicas share."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=91)
