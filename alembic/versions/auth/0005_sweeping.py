"""A role that deletes sessions and invitations which are long over, and can do nothing else."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = "eventboard_auth_sweeper"
# Longer than an access token lives: it is refused once its session is gone.
SESSION_OVER = "expires_at <= now() - interval '1 day'"
# An ADMIN may look for a month what became of an invitation.
INVITATION_OVER = "expires_at <= now() - interval '30 days'"


def upgrade() -> None:
    op.execute(
        f"""
        DO $$
        BEGIN
            CREATE ROLE {ROLE} NOLOGIN;
        EXCEPTION
            -- Roles belong to the whole cluster: another database's migration may have made it, or be making it now.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END
        $$
        """
    )
    op.execute(f"GRANT {ROLE} TO CURRENT_USER")
    op.execute(f"GRANT USAGE ON SCHEMA auth TO {ROLE}")
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"], schema="auth")
    # Sessions are no organization's, and auth's role has all of them; the policies are for the sweeper. Their tokens go
    # with them, by the foreign key, which is their owner's.
    op.execute("ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY auth ON auth.sessions TO eventboard_auth USING (true)")
    for table, over in (("sessions", SESSION_OVER), ("invitations", INVITATION_OVER)):
        # UPDATE is what FOR UPDATE SKIP LOCKED asks for; the policy lets no updated row through.
        op.execute(f"GRANT SELECT, DELETE, UPDATE (expires_at) ON auth.{table} TO {ROLE}")
        op.execute(f"CREATE POLICY expired ON auth.{table} TO {ROLE} USING ({over}) WITH CHECK (false)")
        # Whatever another policy would let it see.
        op.execute(
            f"CREATE POLICY expired_alone ON auth.{table} AS RESTRICTIVE TO {ROLE} USING ({over}) WITH CHECK (false)"
        )


def downgrade() -> None:
    for table in ("sessions", "invitations"):
        op.execute(f"DROP POLICY expired_alone ON auth.{table}")
        op.execute(f"DROP POLICY expired ON auth.{table}")
        op.execute(f"REVOKE ALL ON auth.{table} FROM {ROLE}")
    op.execute("DROP POLICY auth ON auth.sessions")
    op.execute("ALTER TABLE auth.sessions DISABLE ROW LEVEL SECURITY")
    op.drop_index("ix_invitations_expires_at", "invitations", schema="auth")
    op.execute(f"REVOKE ALL ON SCHEMA auth FROM {ROLE}")
    # The role stays: another database of the cluster may use it.
