"""Rules about an event's fields that a type can't express."""

from datetime import UTC, datetime, tzinfo
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from eventboard.core.errors import FieldError, invalid
from eventboard.modules.events.contract import TIME_ZONE_RULE

DEFAULT_TIME_ZONE = "UTC"
# Names in the IANA database that denote no place, or the zone of whichever machine asks.
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
# PostgreSQL stores these two as -infinity and infinity, and returns them without a zone.
_INFINITIES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_TIMES = {"start_date": "/startDate", "end_date": "/endDate"}


def validated(fields: dict[str, Any], *, stored: dict[str, Any] | None = None) -> dict[str, Any]:
    """Those fields of an event that are given, with times in UTC. Raises `invalid-request`, with all their errors.

    A time without an offset is local time in the event's time zone. `stored` has the event's other fields; without it,
    a time whose zone isn't given stays as it is.
    """
    valid, errors = dict(fields), []
    if "time_zone" in fields:
        valid["time_zone"] = fields["time_zone"] or DEFAULT_TIME_ZONE
        if valid["time_zone"] not in time_zones():
            errors.append(FieldError("/timeZone", TIME_ZONE_RULE))
    event = {**(stored or {}), **valid}
    zone: tzinfo | None = None
    if event.get("time_zone") in time_zones():
        zone = _zone(event["time_zone"])
    elif stored:
        # Stored by a version with a newer database.
        zone = UTC
    for name, pointer in _TIMES.items():
        try:
            if name in fields and (fields[name].tzinfo or zone):
                event[name] = valid[name] = in_utc(fields[name], zone)
        except ValueError as error:
            errors.append(FieldError(pointer, str(error)))
    times = [event[name] for name in _TIMES if name in event and event[name].tzinfo]
    if len(times) == 2 and times[1] <= times[0]:
        errors.append(FieldError("/endDate", "It must be after startDate."))
    if errors:
        raise invalid(*errors)
    return valid


def in_utc(moment: datetime, zone: tzinfo | None = None, *, allow_infinity: bool = False) -> datetime:
    """Raises ValueError, with a message for the client. `zone` is that of a time without an offset.

    Of a time that comes twice, when clocks are set back, the first is meant. One that doesn't come, when they are set
    forward, is that many minutes after the change: from 02:00 to 03:00, 02:30 is 03:30. Both are as in RFC 5545.

    `allow_infinity`: a filter may have the first and the last moment there is, as they mean the same as infinity.
    """
    try:
        utc = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
        if allow_infinity or utc not in _INFINITIES:
            return utc
    except OverflowError:
        pass
    raise ValueError("In UTC it must lie between the first and the last moment of the years 1 to 9999.")


@cache
def time_zones() -> frozenset[str]:
    """The names in the package `tzdata`, the same on every machine. zoneinfo.available_timezones() would read all files
    of the machine's own database, which takes 90 ms.
    """
    return frozenset(files("tzdata").joinpath("zones").read_text().split()) - _NO_ZONES


@cache
def _zone(name: str) -> ZoneInfo:
    """From the same package: a machine's own database may have other rules."""
    with files("tzdata.zoneinfo").joinpath(name).open("rb") as file:
        return ZoneInfo.from_file(file, name)
