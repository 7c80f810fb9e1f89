"""The tables of the auth module, in the schema `auth`."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    case,
    exists,
    func,
    text,
)
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from eventboard.db.models import TableBase, Timestamps, registry_of
from eventboard.identity.access_tokens import Role

SCHEMA = "auth"


class Base(TableBase):
    __abstract__ = True
    registry = registry_of(SCHEMA)
    metadata = registry.metadata


class Organization(Timestamps, Base):
    """`name_key` is the name as it is compared: see names.py."""

    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    name_key: Mapped[str] = mapped_column(Text, unique=True)
    slug: Mapped[str] = mapped_column(Text, unique=True)
    open_signup: Mapped[bool] = mapped_column(server_default=text("false"))


class User(Timestamps, Base):
    """A person; what they may do in an organization is in their membership."""

    __tablename__ = "users"
    __table_args__ = (Index("ix_users_last_organization_id", "last_organization_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    first_name: Mapped[str] = mapped_column(Text)
    last_name: Mapped[str] = mapped_column(Text)
    last_organization_id: Mapped[UUID | None] = mapped_column(ForeignKey(Organization.id))


class Membership(Timestamps, Base):
    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role"),
        Index("ix_memberships_user_id", "user_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey(Organization.id), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    active: Mapped[bool] = mapped_column(server_default=text("true"))

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True, viewonly=True)


class UserSession(Base):
    """Started by a log-in, or from another session by switch or join; refresh tokens continue it.

    The sessions of one log-in are a family: all have its `family_id` and its `created_at`. A session without a
    `family_id` is a family of its own, with its own id.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_user_id", "user_id"),
        Index("ix_sessions_organization_id", "organization_id"),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    organization_id: Mapped[UUID] = mapped_column(ForeignKey(Organization.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    family_id: Mapped[UUID | None]


class RefreshToken(Base):
    """`hash` is the token's SHA-256. A spent one is kept as long as its session: its use ends the family."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index("ix_refresh_tokens_session_id", "session_id"),)

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey(UserSession.id, ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    spent_at: Mapped[datetime | None]


class Invitation(Base):
    """`hash` is the token's SHA-256. `state` is by the database's clock; an invitation is good for as long as its
    inviter is an active ADMIN.
    """

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role"),
        UniqueConstraint("organization_id", "hash"),
        Index("ix_invitations_expires_at", "expires_at"),
        Index("ix_invitations_invited_by_id", "invited_by_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey(Organization.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    hash: Mapped[bytes]
    invited_by_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column()
    used_at: Mapped[datetime | None] = mapped_column()
    revoked_at: Mapped[datetime | None] = mapped_column()

    invited_by: Mapped[User] = relationship(lazy="joined", innerjoin=True, viewonly=True)
    state: Mapped[str] = column_property(
        case(
            (used_at.is_not(None), "used"),
            (revoked_at.is_not(None), "revoked"),
            (expires_at <= func.now(), "expired"),
            else_="pending",
        )
    )
    inviter_is_admin: Mapped[bool] = column_property(
        exists()
        .where(
            Membership.organization_id == organization_id,
            Membership.user_id == invited_by_id,
            Membership.role == Role.ADMIN,
            Membership.active,
        )
        .correlate_except(Membership)
    )


class Counter(Base):
    """A count in a window that ends at `ends_at`; `key` is a hash of the limit and its subject."""

    __tablename__ = "counters"
    __table_args__ = (Index("ix_counters_ends_at", "ends_at"),)

    key: Mapped[bytes] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    ends_at: Mapped[datetime]
