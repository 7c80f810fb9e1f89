#!/bin/sh
# Run once by PostgreSQL's image, when the cluster is new: an account for the migrations, which owns the database, and one
# for each module, which may do what that module's role may and nothing else. Names and passwords are the URLs' own.
# A module's account has the settings that it needs behind a pooler: see docs/operations/pooler.md.
set -eu

account() { # database-NAME-url: sets $user and $password from postgresql://USER:PASSWORD@…
    login=$(sed -n 's|^postgresql://\([^@/]*\)@.*|\1|p' "/run/secrets/database-$1-url")
    user=${login%%:*} password=${login#*:}
}

run() { psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet -U "${POSTGRES_USER:-postgres}" -d "$POSTGRES_DB" "$@"; }

account migration
run -v user="$user" -v password="$password" -v database="$POSTGRES_DB" <<'SQL'
CREATE ROLE :"user" LOGIN CREATEROLE PASSWORD :'password';
ALTER DATABASE :"database" OWNER TO :"user";
SQL
owner=$user

for module in auth events; do
    account $module
    # Each sweeps its own: events' role has the older name.
    case $module in auth) sweeper=eventboard_auth_sweeper ;; events) sweeper=eventboard_sweeper ;; esac
    run -v user="$user" -v password="$password" -v owner="$owner" -v role="eventboard_$module" -v sweeper="$sweeper" <<'SQL'
CREATE ROLE :"role" NOLOGIN ADMIN :"owner";
CREATE ROLE :"sweeper" NOLOGIN ADMIN :"owner";
CREATE ROLE :"user" LOGIN PASSWORD :'password' IN ROLE :"role", :"sweeper";
ALTER ROLE :"user" SET role = :'role';
ALTER ROLE :"user" SET default_transaction_isolation = 'read committed';
ALTER ROLE :"user" SET exit_on_error = off;
ALTER ROLE :"user" SET gin_fuzzy_search_limit = 0;
ALTER ROLE :"user" SET idle_session_timeout = 0;
ALTER ROLE :"user" SET jit = off;
ALTER ROLE :"user" SET lock_timeout = 0;
ALTER ROLE :"user" SET plan_cache_mode = force_generic_plan;
ALTER ROLE :"user" SET row_security = on;
ALTER ROLE :"user" SET search_path = pg_catalog, pg_temp;
ALTER ROLE :"user" SET standard_conforming_strings = on;
ALTER ROLE :"user" SET statement_timeout = '11s'; -- a second longer than the longest of [budgets]
ALTER ROLE :"user" SET timezone = 'UTC';
SQL
done

# Whom only a superuser can make: the role that finds text by its index; nobody works under it, it owns two functions.
run -v owner="$owner" <<'SQL'
CREATE ROLE eventboard_search NOLOGIN BYPASSRLS ADMIN :"owner";
SQL
