"""Search by keys that tell organizations apart, and by those of them alone that few events have."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MINE = "nullif(current_setting('eventboard.organization_id', true), '')::uuid"
SEARCHED = r"(title || E'\x1f' || description)"
RETURNED = "organization_id, id, title, start_date, created_at, status, created_by_id"
SET = "SET search_path = pg_catalog, pg_temp"

# Managed databases keep extensions in a schema of their own.
SEARCH_KEYS = """
    DO $do$
    BEGIN
        EXECUTE format(
            $$
        CREATE OR REPLACE FUNCTION events.search_keys(organization uuid, content text) RETURNS text[]
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
        AS $body$
        DECLARE
            number text := right(organization::text, 2);
        BEGIN
            RETURN string_to_array(number || array_to_string(%I.show_trgm(lower(content)), ',' || number), ',');
        END
        $body$
            $$,
            (SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm')
        );
    END
    $do$
"""
# An index's function is called by whoever writes a row, and by whoever owns another function that calls it.
MAY_USE_IT = """
    DO $do$
    DECLARE
        place name := (
            SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm'
        );
        role name;
    BEGIN
        FOR role IN
            SELECT rolname FROM pg_roles WHERE rolname IN ('eventboard_events', 'eventboard_search', current_user)
            AND NOT has_schema_privilege(oid, place::text, 'USAGE')
        LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', place, role);
            IF NOT has_schema_privilege(role, place::text, 'USAGE') THEN
                RAISE insufficient_privilege USING MESSAGE =
                    format('role %s needs USAGE on schema %s, where pg_trgm is', role, place);
            END IF;
        END LOOP;
    END
    $do$
"""


def upgrade() -> None:
    # A key is a trigram behind one of 256 numbers, which an organization shares with few others: so it leads to hardly
    # anybody else's events, and yet organizations of a few events don't each have thousands of keys of their own. As
    # text, for `text[]` has what an index needs, and nobody but a superuser could make another kind. In lower case
    # before it is taken apart, as ILIKE compares: what is no letter in upper case may be one, or two, in lower case.
    op.get_bind().exec_driver_sql(SEARCH_KEYS)
    # What each text with `part` in it has among its keys: not those of its edges, which are other ones inside of a
    # longer word. Both letters beside it make other ones, so what all three have in common is of `part` alone.
    #
    # A key that many events have is looked into for each event that another key leads to, which costs more than to read
    # the event. PostgreSQL's own statistics tell which are common.
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION events.wanted_keys(organization uuid, part text) RETURNS text[]
        LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER {SET}
        AS $$
        DECLARE
            keys text[] := ARRAY(
                SELECT unnest(events.search_keys(organization, part))
                INTERSECT SELECT unnest(events.search_keys(organization, 'q' || part || 'q'))
                INTERSECT SELECT unnest(events.search_keys(organization, 'z' || part || 'z'))
            );
            common text := (
                SELECT most_common_elems::text FROM pg_stats
                WHERE schemaname = 'events' AND tablename = 'ix_events_search_keys'
            );
            rare text[] := ARRAY(SELECT key FROM unnest(keys) AS key WHERE strpos(common, key) = 0);
        BEGIN
            RETURN CASE rare WHEN '{{}}' THEN keys ELSE rare END;
        END
        $$
        """  # noqa: S608 - constants, as below
    )
    for function in ("search_keys(uuid, text)", "wanted_keys(uuid, text)"):
        op.execute(f"REVOKE ALL ON FUNCTION events.{function} FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION events.search_keys(uuid, text) TO eventboard_events")
    op.get_bind().exec_driver_sql(MAY_USE_IT)
    _make_index("ix_events_search_keys", rf'((events.search_keys(organization_id, {SEARCHED})) COLLATE "C")')
    # It has statistics of its own.
    op.execute("ANALYZE events.events")
    if _may_bypass():
        op.execute("GRANT EXECUTE ON FUNCTION events.search_keys(uuid, text) TO eventboard_search")
        op.execute("GRANT EXECUTE ON FUNCTION events.wanted_keys(uuid, text) TO eventboard_search")
        # Planned once, for any keys: no statistics of an organization's size may lead it elsewhere than to the keys'
        # index. So may no condition but theirs, hence the subquery with an OFFSET, which holds others outside. The
        # memory is for a bitmap: one that forgets rows and knows their pages alone would have all keys made again.
        _replace_search(
            f"""
            LANGUAGE plpgsql STABLE ROWS 100 SECURITY DEFINER {SET}
                SET plan_cache_mode = force_generic_plan SET work_mem = '64MB'
            AS $$
            #variable_conflict use_column
            DECLARE
                mine uuid := {MINE};
                wanted text[] := events.wanted_keys(mine, substr(pattern, 2, length(pattern) - 2));
            BEGIN
                IF wanted <> '{{}}' THEN
                    RETURN QUERY SELECT {RETURNED} FROM (
                        SELECT {RETURNED}, description FROM events.events
                        WHERE events.search_keys(organization_id, {SEARCHED}) COLLATE "C" @> wanted
                        OFFSET 0
                    ) AS found WHERE organization_id = mine AND {SEARCHED} ILIKE pattern;
                ELSE
                    RETURN QUERY SELECT {RETURNED} FROM events.events
                    WHERE organization_id = mine AND {SEARCHED} ILIKE pattern;
                END IF;
            END
            $$
            """  # noqa: S608
        )
    op.execute("DROP INDEX events.ix_events_search")


def downgrade() -> None:
    place = op.get_bind().scalar(
        sa.text(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
            " WHERE extname = 'pg_trgm'"
        )
    )
    _make_index("ix_events_search", f"(organization_id, {SEARCHED} {place}.gin_trgm_ops)")
    if _may_bypass():
        # As in 0004.
        _replace_search(
            rf"""
        LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
        SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT {RETURNED} FROM events.events
            WHERE organization_id = {MINE} AND {SEARCHED} ILIKE pattern
        $$
        """  # noqa: S608
        )
    op.execute("DROP INDEX events.ix_events_search_keys")
    op.execute("DROP FUNCTION events.wanted_keys(uuid, text)")
    op.execute("DROP FUNCTION events.search_keys(uuid, text)")


def _make_index(name: str, keys: str) -> None:
    """While everybody reads and writes; what one that was given up has left is in the way of the next."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS events.{name}")
        # As it is: a schema's name in it may hold a colon, which would begin a parameter.
        op.get_bind().exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON events.events USING gin {keys}")


def _may_bypass() -> bool:
    return bool(op.get_bind().scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = 'eventboard_search'")))


def _replace_search(rest: str) -> None:
    op.execute("GRANT eventboard_search TO CURRENT_USER")
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION events.search_rows(pattern text) RETURNS TABLE (
            organization_id uuid, id uuid, title text, start_date timestamptz, created_at timestamptz, status text,
            created_by_id uuid
        )
        {rest}
        """
    )
    op.execute("REVOKE eventboard_search FROM CURRENT_USER")
