"""Sessions that switch and join begin belong to the family of the session they came from."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # NULL is a family of one: what older code begins, beside this schema, and all sessions there are. A family is of
    # one user, whose sessions have an index.
    op.add_column("sessions", sa.Column("family_id", sa.Uuid(), nullable=True), schema="auth")
    # What auth.begin_session does, which older code goes on calling, and what it returns; and:
    #  - `family` and `born` are those of the session it comes from. The longest lifetime counts from `born`, for older
    #    code, too: it is the session's `created_at`.
    #  - Of more than `most` sessions of a user the families used longest ago end, as a whole. 0 is no bound.
    # Whoever ends sessions locks the user's row first, too: what is begun meanwhile waits, or is seen.
    op.execute(
        """
        CREATE FUNCTION auth.start_session(
            session uuid, token bytea, of_user uuid, wanted uuid, checked_hash text, new_hash text,
            lifetime double precision, longest double precision, family uuid, born timestamptz, most bigint
        ) RETURNS TABLE (
            id uuid, email text, first_name text, last_name text, created_at timestamptz, organization_id uuid,
            role text
        )
        LANGUAGE plpgsql VOLATILE
        AS $$
        DECLARE
            last uuid;
            begun timestamptz := coalesce(born, now());
            own uuid := coalesce(family, session);
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
                INSERT INTO auth.sessions AS s (id, user_id, organization_id, created_at, expires_at, family_id)
                VALUES (
                    session, of_user, start_session.organization_id, begun,
                    least(now() + make_interval(secs => lifetime), begun + make_interval(secs => longest)), own
                );
                INSERT INTO auth.refresh_tokens (hash, session_id) VALUES (token, session);
                UPDATE auth.users AS u
                SET last_organization_id = start_session.organization_id,
                    password_hash = coalesce(new_hash, u.password_hash)
                WHERE u.id = of_user
                AND (new_hash IS NOT NULL OR u.last_organization_id IS DISTINCT FROM start_session.organization_id);
                IF most > 0 THEN
                    UPDATE auth.sessions AS s
                    SET ended_at = now(), expires_at = least(s.expires_at, now())
                    WHERE s.user_id = of_user AND s.ended_at IS NULL AND coalesce(s.family_id, s.id) IN (
                        SELECT live.of_family
                        FROM (
                            SELECT coalesce(l.family_id, l.id) AS of_family,
                                max(l.used_at) OVER (PARTITION BY coalesce(l.family_id, l.id)) AS family_used_at
                            FROM auth.sessions AS l
                            WHERE l.user_id = of_user AND l.ended_at IS NULL AND l.expires_at > now()
                        ) AS live
                        ORDER BY live.of_family = own DESC, live.family_used_at DESC, live.of_family
                        OFFSET most
                    ) AND coalesce(s.family_id, s.id) <> own;
                END IF;
            END IF;
            RETURN NEXT;
        END
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION auth.start_session FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION auth.start_session TO eventboard_auth")


def downgrade() -> None:
    op.execute("DROP FUNCTION auth.start_session")
    op.drop_column("sessions", "family_id", schema="auth")
