"""Sessions with their refresh tokens, and invitations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=NOW, nullable=False)


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        _now("created_at"),
        _now("used_at"),
        _moment("expires_at", nullable=False),
        _moment("ended_at"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["auth.users.id"], name="fk_sessions_user_id"),
        sa.ForeignKeyConstraint(["organization_id"], ["auth.organizations.id"], name="fk_sessions_organization_id"),
        schema="auth",
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"], schema="auth")
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"], schema="auth")
    op.create_table(
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        _now("created_at"),
        _moment("spent_at"),
        sa.PrimaryKeyConstraint("hash", name="pk_refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["auth.sessions.id"], name="fk_refresh_tokens_session_id", ondelete="CASCADE"
        ),
        schema="auth",
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"], schema="auth")
    op.create_table(
        "invitations",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("invited_by_id", sa.Uuid(), nullable=False),
        _now("created_at"),
        _moment("expires_at", nullable=False),
        _moment("used_at"),
        _moment("revoked_at"),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_invitations"),
        sa.UniqueConstraint("organization_id", "hash", name="uq_invitations_organization_id_hash"),
        sa.ForeignKeyConstraint(["organization_id"], ["auth.organizations.id"], name="fk_invitations_organization_id"),
        sa.ForeignKeyConstraint(["invited_by_id"], ["auth.users.id"], name="fk_invitations_invited_by_id"),
        sa.CheckConstraint("role IN ('USER', 'MODERATOR', 'ADMIN')", name=op.f("ck_invitations_role")),
        schema="auth",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON auth.sessions, auth.refresh_tokens TO eventboard_auth")
    op.execute("GRANT SELECT, INSERT, UPDATE ON auth.invitations TO eventboard_auth")


def downgrade() -> None:
    op.drop_table("invitations", schema="auth")
    op.drop_table("refresh_tokens", schema="auth")
    op.drop_table("sessions", schema="auth")
