"""The second lock on what belongs to an organization: memberships (or one's own), and invitations."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Unset is NULL, which equals nothing; on a connection that had it once, unset is ''.
MINE = "organization_id = nullif(current_setting('eventboard.organization_id', true), '')::uuid"
MY_OWN = "user_id = nullif(current_setting('eventboard.user_id', true), '')::uuid"


def upgrade() -> None:
    for table in ("memberships", "invitations"):
        op.execute(f"ALTER TABLE auth.{table} ENABLE ROW LEVEL SECURITY")
        # For the owner too: a migration that changes rows sets the organization, or is run by a superuser.
        op.execute(f"ALTER TABLE auth.{table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY organization ON auth.{table} USING ({MINE})")
    # Log-in finds somebody's organizations before any is chosen. To read, not to write.
    op.execute(f"CREATE POLICY own ON auth.memberships FOR SELECT USING ({MY_OWN})")


def downgrade() -> None:
    op.execute("DROP POLICY own ON auth.memberships")
    for table in ("memberships", "invitations"):
        op.execute(f"DROP POLICY organization ON auth.{table}")
        op.execute(f"ALTER TABLE auth.{table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE auth.{table} DISABLE ROW LEVEL SECURITY")
