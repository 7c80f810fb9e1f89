"""Several counts in one step."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A log-in counts three times before its password is tried and three times after it, in a round trip each time.
    # The loop ends at the first count that makes more than its most: what is asked for after that isn't counted.
    op.execute(
        """
        CREATE FUNCTION auth.counted(
            keys bytea[], windows double precision[], amounts bigint[], mosts bigint[], renewed boolean[]
        ) RETURNS TABLE (made bigint, ends_in double precision)
        LANGUAGE plpgsql VOLATILE
        AS $$
        BEGIN
            FOR step IN 1 .. cardinality(keys) LOOP
                INSERT INTO auth.counters AS known (key, total, ends_at)
                VALUES (keys[step], greatest(0, amounts[step]), now() + make_interval(secs => windows[step]))
                ON CONFLICT (key) DO UPDATE SET
                    total = CASE
                        WHEN known.ends_at <= now() THEN excluded.total
                        ELSE greatest(0, known.total + amounts[step])
                    END,
                    ends_at = CASE
                        WHEN known.ends_at <= now() OR renewed[step] THEN excluded.ends_at
                        ELSE known.ends_at
                    END
                RETURNING known.total, extract(epoch FROM known.ends_at - now()) INTO made, ends_in;
                RETURN NEXT;
                EXIT WHEN made > mosts[step];
            END LOOP;
        END
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION auth.counted FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION auth.counted TO eventboard_auth")


def downgrade() -> None:
    op.execute("DROP FUNCTION auth.counted")
