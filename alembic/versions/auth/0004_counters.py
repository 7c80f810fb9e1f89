"""What limits count: by a hash of who does what, in a window of time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_counters"),
        schema="auth",
    )
    op.create_index("ix_counters_ends_at", "counters", ["ends_at"], schema="auth")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON auth.counters TO eventboard_auth")


def downgrade() -> None:
    op.drop_table("counters", schema="auth")
