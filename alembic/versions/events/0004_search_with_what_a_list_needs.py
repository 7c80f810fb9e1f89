"""A search that also returns what a list filters and sorts by."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MINE = "organization_id = nullif(current_setting('eventboard.organization_id', true), '')::uuid"
RETURNED = ("organization_id", "id", "title", "start_date", "created_at", "status", "created_by_id")


def upgrade() -> None:
    # With ids alone, the list had to look up each by its key, in a way that PostgreSQL chose. Where it took
    # organizations for small and one was large, it looked for every id in all of the organization. `events.search`
    # stays for older code that works beside this.
    may_bypass = op.get_bind().scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = 'eventboard_search'"))
    op.execute(
        rf"""
        CREATE FUNCTION events.search_rows(pattern text) RETURNS TABLE (
            organization_id uuid, id uuid, title text, start_date timestamptz, created_at timestamptz, status text,
            created_by_id uuid
        )
        LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
        SECURITY {"DEFINER" if may_bypass else "INVOKER"}
        SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT {", ".join(RETURNED)} FROM events.events
            WHERE {MINE} AND (title || E'\x1f' || description) ILIKE pattern
        $$
        """  # noqa: S608 - the policy's own words
    )
    op.execute("REVOKE ALL ON FUNCTION events.search_rows(text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION events.search_rows(text) TO eventboard_events")
    if may_bypass:
        op.execute(f"GRANT SELECT ({', '.join(RETURNED)}) ON events.events TO eventboard_search")
        op.execute("GRANT CREATE ON SCHEMA events TO eventboard_search")
        op.execute("GRANT eventboard_search TO CURRENT_USER")
        op.execute("ALTER FUNCTION events.search_rows(text) OWNER TO eventboard_search")
        op.execute("REVOKE CREATE ON SCHEMA events FROM eventboard_search")
        op.execute("REVOKE eventboard_search FROM CURRENT_USER")


def downgrade() -> None:
    op.execute("DROP FUNCTION events.search_rows(text)")
