"""Events, their history, and the role that the events module works under."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    # Both are trusted extensions: an owner of the database may create them. pg_trgm finds text inside text;
    # btree_gin lets the same index lead with the organization.
    # Where they are there already they may be in any schema, on the search path or not.
    place = "public" if op.get_bind().scalar(sa.text("SELECT to_regnamespace('public') IS NOT NULL")) else "events"
    op.execute(f"CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA {place}")
    op.execute(f"CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA {place}")
    trigrams = op.get_bind().scalar(
        sa.text(
            "SELECT quote_ident(nspname) || '.gin_trgm_ops' FROM pg_extension"
            " JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm'"
        )
    )
    op.create_table(
        "events",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("start_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("rejection_reason", sa.Text(), nullable=True),
        sa.Column("created_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_events"),
        sa.CheckConstraint(
            "status IN ('DRAFT', 'SUBMITTED', 'APPROVED', 'REJECTED', 'CANCELLED')", name=op.f("ck_events_status")
        ),
        sa.CheckConstraint("start_date < end_date", name=op.f("ck_events_dates")),
        sa.CheckConstraint(
            "(status = 'REJECTED') = (rejection_reason IS NOT NULL)", name=op.f("ck_events_rejection_reason")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_events_version")),
        schema="events",
    )
    for name, columns in (
        ("ix_events_by_start_date", ["start_date"]),
        ("ix_events_by_created_at", ["created_at"]),
        ("ix_events_by_title", ["title"]),
        ("ix_events_by_status", []),
    ):
        op.create_index(name, "events", ["organization_id", "status", *columns, "id"], schema="events")
    op.create_index(
        "ix_events_own",
        "events",
        ["organization_id", "created_by_id", "start_date", "id"],
        schema="events",
        postgresql_where=sa.text("status IN ('DRAFT', 'REJECTED', 'SUBMITTED')"),
    )
    # As it is: a schema's name in it may hold a colon, which would begin a parameter.
    op.get_bind().exec_driver_sql(
        "CREATE INDEX ix_events_search ON events.events USING gin"
        rf" (organization_id, (title || E'\x1f' || description) {trigrams})"
    )
    op.create_table(
        "history",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "event_id", "version", name="pk_history"),
        sa.CheckConstraint(
            "action IN ('create', 'update', 'delete', 'submit', 'approve', 'reject', 'withdraw', 'cancel')",
            name=op.f("ck_history_action"),
        ),
        schema="events",
    )
    op.execute(
        """
        DO $$
        BEGIN
            CREATE ROLE eventboard_events NOLOGIN;
        EXCEPTION
            -- Roles belong to the whole cluster: another database's migration may have made it, or be making it now.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END
        $$
        """
    )
    op.execute("GRANT eventboard_events TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA events TO eventboard_events")
    op.execute("GRANT SELECT ON events.alembic_version TO eventboard_events")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON events.events TO eventboard_events")
    # The module adds to history and never rewrites it.
    op.execute("GRANT SELECT, INSERT ON events.history TO eventboard_events")


def downgrade() -> None:
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA events FROM eventboard_events")
    op.execute("REVOKE ALL ON SCHEMA events FROM eventboard_events")
    op.drop_table("history", schema="events")
    op.drop_table("events", schema="events")
    # The role and the extensions stay: others may use them.
