"""The second lock: no statement of the module's role sees another organization's rows, whatever it asks for."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TENANT = ("events", "history", "idempotency_keys")
# Unset is NULL, which equals nothing; on a connection that had it once, unset is ''.
MINE = "organization_id = nullif(current_setting('eventboard.organization_id', true), '')::uuid"


def upgrade() -> None:
    for table in TENANT:
        op.execute(f"ALTER TABLE events.{table} ENABLE ROW LEVEL SECURITY")
        # For the owner too: a migration that changes rows sets the organization, or is run by a superuser.
        op.execute(f"ALTER TABLE events.{table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY organization ON events.{table} USING ({MINE})")
    _create_role("eventboard_sweeper", "NOLOGIN")
    op.execute("GRANT eventboard_sweeper TO CURRENT_USER")
    op.execute("GRANT USAGE ON SCHEMA events TO eventboard_sweeper")
    # UPDATE is what FOR UPDATE SKIP LOCKED asks for; the policy lets no updated row through.
    op.execute("GRANT SELECT, DELETE, UPDATE (expires_at) ON events.idempotency_keys TO eventboard_sweeper")
    op.execute(
        "CREATE POLICY expired ON events.idempotency_keys TO eventboard_sweeper"
        " USING (expires_at <= now()) WITH CHECK (false)"
    )
    # ILIKE isn't leakproof, so under row-level security it can't use its index. A function that runs as a role which
    # passes by the policies can; it returns ids of the caller's organization, and nothing else.
    may_bypass = _create_role("eventboard_search", "NOLOGIN BYPASSRLS")
    op.execute(
        rf"""
        CREATE FUNCTION events.search(pattern text) RETURNS SETOF uuid
        LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
        SECURITY {"DEFINER" if may_bypass else "INVOKER"}
        SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT id FROM events.events
            WHERE {MINE} AND (title || E'\x1f' || description) ILIKE pattern
        $$
        """  # noqa: S608 - the policy's own words
    )
    op.execute("REVOKE ALL ON FUNCTION events.search(text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION events.search(text) TO eventboard_events")
    if may_bypass:
        op.execute("GRANT USAGE ON SCHEMA events TO eventboard_search")
        op.execute("GRANT SELECT (organization_id, id, title, description) ON events.events TO eventboard_search")
        op.execute("GRANT CREATE ON SCHEMA events TO eventboard_search")
        op.execute("GRANT eventboard_search TO CURRENT_USER")
        op.execute("ALTER FUNCTION events.search(text) OWNER TO eventboard_search")
        op.execute("REVOKE CREATE ON SCHEMA events FROM eventboard_search")
        op.execute("REVOKE eventboard_search FROM CURRENT_USER")


def downgrade() -> None:
    op.execute("DROP FUNCTION events.search(text)")
    op.execute("DROP POLICY expired ON events.idempotency_keys")
    op.execute("REVOKE ALL ON events.idempotency_keys FROM eventboard_sweeper")
    op.execute("REVOKE ALL ON SCHEMA events FROM eventboard_sweeper")
    op.execute(
        """
        DO $$
        BEGIN
            REVOKE ALL ON events.events FROM eventboard_search;
            REVOKE ALL ON SCHEMA events FROM eventboard_search;
        EXCEPTION WHEN undefined_object THEN NULL;
        END
        $$
        """
    )
    for table in TENANT:
        op.execute(f"DROP POLICY organization ON events.{table}")
        op.execute(f"ALTER TABLE events.{table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE events.{table} DISABLE ROW LEVEL SECURITY")


def _create_role(name: str, options: str) -> bool:
    """Whether the role is there. Roles belong to the whole cluster: another database's migration may have made it.

    Only a superuser makes a role that bypasses row-level security; a managed database may have none to offer.
    """
    op.execute(
        f"""
        DO $$
        BEGIN
            CREATE ROLE {name} {options};
        EXCEPTION
            WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
        END
        $$
        """
    )
    found = op.get_bind().exec_driver_sql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")  # noqa: S608 - our names
    return bool(found.scalar())
