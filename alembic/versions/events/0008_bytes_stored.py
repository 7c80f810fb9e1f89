"""How many bytes an organization's events and their history take, kept beside how many events there are."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# As in 0006.
SLOTS = 32

# A row and its places in the indexes, roughly; a history entry is that and little more. Texts count in full.
ROW = 512
SIZE = (
    f"{ROW} + octet_length(title) + octet_length(description) + coalesce(octet_length(location), 0)"
    " + coalesce(octet_length(rejection_reason), 0)"
)
# Each change adds an entry to the history, which outlives the event.
CHANGED = {
    "insert": f"SELECT organization_id, status, 1 AS n, {SIZE} + {ROW} AS size FROM after",  # noqa: S608 - all constants
    "delete": f"SELECT organization_id, status, -1 AS n, {ROW} - ({SIZE}) AS size FROM before",  # noqa: S608
    "update": f"SELECT organization_id, status, 1 AS n, {SIZE} + {ROW} AS size FROM after"  # noqa: S608
    f" UNION ALL SELECT organization_id, status, -1, -({SIZE}) FROM before",
}
BEFORE = {
    "insert": "SELECT organization_id, status, 1 AS n FROM after",
    "delete": "SELECT organization_id, status, -1 AS n FROM before",
    "update": "SELECT organization_id, status, 1 AS n FROM after UNION ALL"
    " SELECT organization_id, status, -1 FROM before",
}


def upgrade() -> None:
    # With forced row-level security an owner that doesn't pass by it would count nothing. Changing that keeps everybody
    # else away until this is committed; who passes by it reads beside all others, and misses what they write meanwhile,
    # which no quota needs.
    passes = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    forced = () if op.get_bind().exec_driver_sql(passes).scalar() else ("events", "history", "tallies")
    for table in forced:
        op.execute(f"ALTER TABLE events.{table} NO FORCE ROW LEVEL SECURITY")
    # Read before the tallies are locked, so that lists don't wait for it.
    stored = op.get_bind().execute(
        sa.text(
            f"""
            SELECT organization_id, status, sum(size)::bigint AS bytes FROM (
                SELECT organization_id, status, {SIZE} AS size FROM events.events
                UNION ALL SELECT organization_id, 'DRAFT', {ROW} FROM events.history
            ) AS each GROUP BY organization_id, status
            """  # noqa: S608
        )
    )
    rows = [dict(row) for row in stored.mappings()]
    op.execute("ALTER TABLE events.tallies ADD COLUMN bytes bigint NOT NULL DEFAULT 0")
    if rows:
        op.get_bind().execute(
            sa.text(
                "INSERT INTO events.tallies (organization_id, status, slot, events, bytes)"
                " VALUES (:organization_id, :status, 0, 0, :bytes)"
                " ON CONFLICT (organization_id, status, slot) DO UPDATE SET bytes = excluded.bytes"
            ),
            rows,
        )
    for change, of in CHANGED.items():
        _replace(
            change,
            f"""
                INSERT INTO events.tallies AS kept (organization_id, status, slot, events, bytes)
                SELECT organization_id, status, pg_backend_pid() % {SLOTS}, sum(n), sum(size) FROM ({of}) AS changed
                GROUP BY organization_id, status HAVING sum(n) <> 0 OR sum(size) <> 0 ORDER BY organization_id, status
                ON CONFLICT (organization_id, status, slot) DO UPDATE
                SET events = kept.events + excluded.events, bytes = kept.bytes + excluded.bytes;""",  # noqa: S608
        )
    for table in forced:
        op.execute(f"ALTER TABLE events.{table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    # To the letter as 0006 made them.
    for change, rows in BEFORE.items():
        _replace(
            change,
            f"""
                INSERT INTO events.tallies AS kept (organization_id, status, slot, events)
                SELECT organization_id, status, pg_backend_pid() % {SLOTS}, sum(n) FROM ({rows}) AS changed
                GROUP BY organization_id, status HAVING sum(n) <> 0 ORDER BY organization_id, status
                ON CONFLICT (organization_id, status, slot) DO UPDATE SET events = kept.events + excluded.events;""",  # noqa: S608
        )
    op.execute("ALTER TABLE events.tallies DROP COLUMN bytes")


def _replace(change: str, statement: str) -> None:
    """The function of a trigger that 0006 made."""
    op.execute(
        f"""
            CREATE OR REPLACE FUNCTION events.tally_{change}()
            RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
            BEGIN{statement}
                RETURN NULL;
            END
            $$
            """
    )
