"""Titles and descriptions in Unicode's form C, which searches are brought into, whoever writes them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # PostgreSQL normalizes in UTF8 alone.
    if op.get_bind().scalar(sa.text("SHOW server_encoding")) != "UTF8":
        return
    op.execute(
        """
        CREATE OR REPLACE FUNCTION events.normalize_texts() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            NEW.title := normalize(NEW.title, NFC);
            NEW.description := normalize(NEW.description, NFC);
            RETURN NEW;
        END
        $$
        """
    )
    # This version sends form C already. The trigger is for an older one that works beside it during a rollout; the
    # index that a search uses can't find another form.
    op.execute(
        """
        CREATE OR REPLACE TRIGGER normalize_texts BEFORE INSERT OR UPDATE OF title, description ON events.events
        FOR EACH ROW WHEN (NEW.title IS NOT NFC NORMALIZED OR NEW.description IS NOT NFC NORMALIZED)
        EXECUTE FUNCTION events.normalize_texts()
        """
    )
    # With forced row-level security an owner who is no superuser would change nothing. What is in ASCII, and so has as
    # many bytes as characters, needs no look. The version stays: what clients hold is canonically equivalent.
    op.execute("ALTER TABLE events.events NO FORCE ROW LEVEL SECURITY")
    op.execute(
        """
        UPDATE events.events SET title = normalize(title, NFC), description = normalize(description, NFC)
        WHERE (octet_length(title) <> length(title) AND title IS NOT NFC NORMALIZED)
        OR (octet_length(description) <> length(description) AND description IS NOT NFC NORMALIZED)
        """
    )
    op.execute("ALTER TABLE events.events FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS normalize_texts ON events.events")
    op.execute("DROP FUNCTION IF EXISTS events.normalize_texts()")
