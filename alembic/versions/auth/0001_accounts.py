"""Organizations, users, memberships, and the role that the auth module works under."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("open_signup", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
        sa.UniqueConstraint("name_key", name="uq_organizations_name_key"),
        sa.UniqueConstraint("slug", name="uq_organizations_slug"),
        schema="auth",
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=False),
        sa.Column("last_name", sa.Text(), nullable=False),
        sa.Column("last_organization_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.ForeignKeyConstraint(
            ["last_organization_id"], ["auth.organizations.id"], name="fk_users_last_organization_id"
        ),
        schema="auth",
    )
    op.create_table(
        "memberships",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "user_id", name="pk_memberships"),
        sa.ForeignKeyConstraint(["organization_id"], ["auth.organizations.id"], name="fk_memberships_organization_id"),
        sa.ForeignKeyConstraint(["user_id"], ["auth.users.id"], name="fk_memberships_user_id"),
        sa.CheckConstraint("role IN ('USER', 'MODERATOR', 'ADMIN')", name=op.f("ck_memberships_role")),
        schema="auth",
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"], schema="auth")
    op.execute(
        """
        DO $$
        BEGIN
            CREATE ROLE eventboard_auth NOLOGIN;
        EXCEPTION
            -- Roles belong to the whole cluster: another database's migration may have made it, or be making it now.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END
        $$
        """
    )
    op.execute("GRANT eventboard_auth TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA auth TO eventboard_auth")
    op.execute("GRANT SELECT ON auth.alembic_version TO eventboard_auth")
    op.execute("GRANT SELECT, INSERT, UPDATE ON auth.organizations, auth.users, auth.memberships TO eventboard_auth")


def downgrade() -> None:
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA auth FROM eventboard_auth")
    op.execute("REVOKE ALL ON SCHEMA auth FROM eventboard_auth")
    op.drop_table("memberships", schema="auth")
    op.drop_table("users", schema="auth")
    op.drop_table("organizations", schema="auth")
    # The role stays: another database of the cluster may use it.
