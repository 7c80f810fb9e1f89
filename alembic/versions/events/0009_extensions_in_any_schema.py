"""The extension for search may be in any schema; and the sweeper's columns."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROLE = "eventboard_sweeper"
# What is needed to find what has expired. Outcomes and payloads aren't.
SWEPT = "organization_id, user_id, key, expires_at"


def upgrade() -> None:
    op.execute(f"REVOKE SELECT ON events.idempotency_keys FROM {ROLE}")  # noqa: S608 - our names
    op.execute(f"GRANT SELECT ({SWEPT}) ON events.idempotency_keys TO {ROLE}")
    # Managed databases keep extensions in a schema of their own. Where an earlier version of 0007 named another one,
    # no event could be written, so there is none whose keys would change.
    op.get_bind().exec_driver_sql(SEARCH_KEYS)
    op.get_bind().exec_driver_sql(MAY_USE_IT)


def downgrade() -> None:
    op.execute(f"REVOKE SELECT ({SWEPT}) ON events.idempotency_keys FROM {ROLE}")  # noqa: S608 - our names
    op.execute(f"GRANT SELECT ON events.idempotency_keys TO {ROLE}")


# As in 0007.
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
