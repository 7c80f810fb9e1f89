"""Times that the database keeps as they are."""

from datetime import UTC, datetime

# What asyncpg takes for PostgreSQL's -infinity and infinity, which come back as times of no zone.
_ENDS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def in_utc(moment: datetime) -> datetime:
    """Raises ValueError, with a sentence for the client."""
    try:
        utc = moment.astimezone(UTC)
        if utc not in _ENDS:
            return utc
    except OverflowError:
        pass
    raise ValueError("In UTC it must lie between the first and the last moment of the years 1 to 9999.")
