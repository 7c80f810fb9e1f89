"""UUIDs of version 7: ordered by time, so that new rows go to the end of an index."""

from uuid_utils.compat import uuid7 as uuid7
