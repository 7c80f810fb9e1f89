"""The sweeper's role sees what has expired and nothing else, whichever organization it names."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The policy of organizations is for every role: whoever names one would see, delete and renew its living keys.
    op.execute(
        "CREATE POLICY expired_alone ON events.idempotency_keys AS RESTRICTIVE TO eventboard_sweeper"
        " USING (expires_at <= now()) WITH CHECK (false)"
    )


def downgrade() -> None:
    op.execute("DROP POLICY expired_alone ON events.idempotency_keys")
