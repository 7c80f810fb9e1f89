"""How many events there are, kept as they change: counting them cost a list more than all the rest of it."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# As in 0003.
MINE = "organization_id = nullif(current_setting('eventboard.organization_id', true), '')::uuid"
# Sessions that write at once wait for each other's commit where they share a row: so each status has several.
SLOTS = 32

CHANGED = {
    "INSERT": ("NEW TABLE AS after", "SELECT organization_id, status, 1 AS n FROM after"),
    "DELETE": ("OLD TABLE AS before", "SELECT organization_id, status, -1 AS n FROM before"),
    "UPDATE": (
        "OLD TABLE AS before NEW TABLE AS after",
        "SELECT organization_id, status, 1 AS n FROM after UNION ALL SELECT organization_id, status, -1 FROM before",
    ),
}


def upgrade() -> None:
    op.execute(
        "CREATE TABLE events.tallies (organization_id uuid NOT NULL, status text NOT NULL, slot smallint NOT NULL,"
        " events bigint NOT NULL, CONSTRAINT pk_tallies PRIMARY KEY (organization_id, status, slot))"
        # Room for the next version of a row beside it, so that no index entry is written.
        " WITH (fillfactor = 50)"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON events.tallies TO eventboard_events")
    op.execute("ALTER TABLE events.tallies ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE events.tallies FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY organization ON events.tallies USING ({MINE})")
    # Once for a statement, however many rows it changes; always in the same order, so that none wait in a circle.
    for change, (tables, rows) in CHANGED.items():
        name = f"tally_{change.lower()}"
        op.execute(
            f"""
            CREATE FUNCTION events.{name}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
                INSERT INTO events.tallies AS kept (organization_id, status, slot, events)
                SELECT organization_id, status, pg_backend_pid() % {SLOTS}, sum(n) FROM ({rows}) AS changed
                GROUP BY organization_id, status HAVING sum(n) <> 0 ORDER BY organization_id, status
                ON CONFLICT (organization_id, status, slot) DO UPDATE SET events = kept.events + excluded.events;
                RETURN NULL;
            END
            $$
            """  # noqa: S608 - all constants
        )
        op.execute(
            f"CREATE TRIGGER {name} AFTER {change} ON events.events REFERENCING {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION events.{name}()"
        )
    # The triggers' lock keeps writers away until this is committed. With forced row-level security an owner who is no
    # superuser would count nothing.
    op.execute("ALTER TABLE events.events NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE events.tallies NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO events.tallies (organization_id, status, slot, events)"
        " SELECT organization_id, status, 0, count(*) FROM events.events GROUP BY organization_id, status"
    )
    op.execute("ALTER TABLE events.tallies FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE events.events FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    for change in CHANGED:
        op.execute(f"DROP TRIGGER tally_{change.lower()} ON events.events")
        op.execute(f"DROP FUNCTION events.tally_{change.lower()}()")
    op.execute("DROP TABLE events.tallies")
