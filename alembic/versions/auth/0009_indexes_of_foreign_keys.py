"""An index for each foreign key, and the sweeper's columns."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROLE = "eventboard_auth_sweeper"
INDEXES = (
    ("users", "last_organization_id"),
    ("sessions", "organization_id"),
    ("invitations", "invited_by_id"),
)
# What is needed to find what has expired. Addresses and hashes aren't.
SWEPT = {"sessions": "id, expires_at", "invitations": "organization_id, id, expires_at"}


def upgrade() -> None:
    for table, columns in SWEPT.items():
        op.execute(f"REVOKE SELECT ON auth.{table} FROM {ROLE}")  # noqa: S608 - our names
        op.execute(f"GRANT SELECT ({columns}) ON auth.{table} TO {ROLE}")
    # While everybody reads and writes.
    with op.get_context().autocommit_block():
        for table, column in INDEXES:
            # What an earlier try left when it was interrupted is not a valid index.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS auth.ix_{table}_{column}")
            op.execute(f"CREATE INDEX CONCURRENTLY ix_{table}_{column} ON auth.{table} ({column})")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table, column in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS auth.ix_{table}_{column}")
    for table, columns in SWEPT.items():
        op.execute(f"REVOKE SELECT ({columns}) ON auth.{table} FROM {ROLE}")  # noqa: S608 - our names
        op.execute(f"GRANT SELECT ON auth.{table} TO {ROLE}")
