"""A session begins in one step, for a user whose password is still the one that was checked."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No row: the user's hash isn't `checked_hash` any more. A row without an organization: no membership in force,
    # and no session. The user's row is held to the end: who changes the password ends this session, too, or is seen.
    op.execute(
        """
        CREATE FUNCTION auth.begin_session(
            session uuid, token bytea, of_user uuid, wanted uuid, checked_hash text, new_hash text,
            lifetime double precision, longest double precision
        ) RETURNS TABLE (
            id uuid, email text, first_name text, last_name text, created_at timestamptz, organization_id uuid,
            role text
        )
        LANGUAGE plpgsql VOLATILE
        AS $$
        DECLARE
            last uuid;
        BEGIN
            SELECT u.id, u.email, u.first_name, u.last_name, u.created_at, u.last_organization_id
            INTO id, email, first_name, last_name, created_at, last
            FROM auth.users AS u
            WHERE u.id = of_user AND (checked_hash IS NULL OR u.password_hash = checked_hash)
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                RETURN;
            END IF;
            -- That of the organization asked for, else of the one last used, else the oldest.
            SELECT m.organization_id, m.role
            INTO organization_id, role
            FROM auth.memberships AS m
            WHERE m.user_id = of_user AND m.active AND (wanted IS NULL OR m.organization_id = wanted)
            ORDER BY m.organization_id IS NOT DISTINCT FROM last DESC, m.created_at, m.organization_id
            LIMIT 1;
            IF FOUND THEN
                INSERT INTO auth.sessions (id, user_id, organization_id, expires_at)
                VALUES (session, of_user, organization_id, now() + make_interval(secs => least(lifetime, longest)));
                INSERT INTO auth.refresh_tokens (hash, session_id) VALUES (token, session);
                UPDATE auth.users AS u
                SET last_organization_id = begin_session.organization_id,
                    password_hash = coalesce(new_hash, u.password_hash)
                WHERE u.id = of_user
                AND (new_hash IS NOT NULL OR u.last_organization_id IS DISTINCT FROM begin_session.organization_id);
            END IF;
            RETURN NEXT;
        END
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION auth.begin_session FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION auth.begin_session TO eventboard_auth")


def downgrade() -> None:
    op.execute("DROP FUNCTION auth.begin_session")
