"""Alembic's environment: `eventboard migrate` hands over the connection and the module whose schema is migrated."""

from alembic import context

from eventboard.modules.auth import models as auth
from eventboard.modules.events import models as events

METADATA = {"auth": auth.Base.metadata, "events": events.Base.metadata}

module = context.config.attributes["module"]

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA[module],
    version_table_schema=module,
    include_schemas=True,
    include_name=lambda name, type_, _parents: type_ != "schema" or name == module,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
