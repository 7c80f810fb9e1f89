"""What a client reads of a wrong value."""

from typing import Any

import msgspec
import pytest

from eventboard.gateway.validation_messages import readable
from eventboard.modules.auth.contract import (
    InvitationDraft,
    Login,
    MemberPatch,
    OrganizationPatch,
    OrganizationSwitch,
    PageQuery,
    PasswordChange,
    Refresh,
    Signup,
)
from eventboard.modules.auth.fields import Email, Password
from eventboard.modules.events.contract import (
    Description,
    EventDraft,
    EventPatch,
    EventQuery,
    EventTime,
    HistoryQuery,
    Limit,
    Location,
    SortBy,
    TimeFrom,
    TimeZone,
    Title,
)

TIME = "It must be a date and time, such as 2027-03-01T18:00:00Z or 2027-03-01T19:00:00+01:00."
QUERY_TIME = "It must be a date and time, such as 2027-03-01T18:00:00Z, or a date, such as 2027-03-01."
NO_SUCH_TIME = "There is no such date or time: check the day, hours to 23, minutes and seconds to 59, and the offset."
BLANK = "It must not be blank: it needs a character that can be seen."
EMAIL = "It must be one e-mail address, such as ada@example.com, without a name, quotes or spaces."
ZONE = "It must be a name of the IANA time zone database, such as Europe/Berlin."


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Title, 5, "It must be a string, not an integer."),
        (Title, None, "It must be a string, not null."),
        (Title, ["a"], "It must be a string, not an array."),
        (Title, {}, "It must be a string, not an object."),
        (Title, 1.5, "It must be a string, not a number."),
        (Title, "ab", "It must have at least 3 characters."),
        (Title, "a" * 201, "It must have at most 200 characters."),
        (Title, "   ", BLANK),
        (Title, "\u200b\u200b\u200b", BLANK),
        (Title, "two\nlines", "It must be one line, and character 4 is a line break."),
        (Title, "two\u2028lines", "It must be one line, and character 4 is a line break."),
        (Title, "a\ttab", "It must not have control characters, and character 2 is a tab."),
        (Title, "\x1b[31m", "It must not have control characters, and character 1 is U+001B."),
        (Description, "one line\nand \x07", "It must not have control characters, and character 14 is U+0007."),
        (Password, "1234567", "It must have at least 8 characters."),
        (Location | None, 5, "It must be a string or null, not an integer."),
        (Description, True, "It must be a string, not true or false."),
        (Email, "ada.example.com", EMAIL),
        (Email, "", EMAIL),
        (Email, "Ada <ada@example.com>", EMAIL),
        (TimeZone | None, "GMT +1", ZONE),
        (TimeZone | None, "", ZONE),
        (Limit, 101, "It must be 100 or less."),
        (Limit, 0, "It must be 1 or more."),
        (Limit, "x", "It must be an integer, not a string."),
        (SortBy | None, "size", "It must be one of startDate, createdAt, title, status."),
        (SortBy | None, 5, "It must be one of startDate, createdAt, title, status."),
        (bool, 1, "It must be true or false, not an integer."),
        (EventTime, "2027-03-01", "It must have a time, too, such as 2027-03-01T18:00:00Z."),
        (EventTime, "2027-02-30T18:00:00Z", NO_SUCH_TIME),
        (EventTime, "tomorrow", TIME),
        (EventTime, 1_800_000_000, TIME),
        (EventTime, None, TIME),
    ],
)
def test_words_of_json(annotation: Any, value: Any, expected: str) -> None:
    """It says what is wrong, as JSON calls it, and what is right."""
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(value, annotation)
    assert readable(str(error.value), annotation, value, query=False) == expected


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Limit, "x", "It must be a whole number, such as 10."),
        (Limit | None, "", "It must be a whole number, such as 10."),
        (TimeFrom | None, "now", QUERY_TIME),
        (TimeFrom | None, "2027-02-30", NO_SUCH_TIME),
        (
            TimeFrom | None,
            "2027-01-01T10:00:00 02:00",
            "A + must be sent as %2B in a query, where + is a space: 2027-01-01T10:00:00%2B02:00.",
        ),
    ],
)
def test_words_of_a_query(annotation: Any, value: str, expected: str) -> None:
    """A query has text only, in which a + is a space."""
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(value, annotation)
    assert readable(str(error.value), annotation, value, query=True) == expected


BODIES = (
    Signup,
    Login,
    Refresh,
    MemberPatch,
    OrganizationSwitch,
    OrganizationPatch,
    InvitationDraft,
    PasswordChange,
    EventDraft,
    EventPatch,
)
WRONG: list[Any] = [5, 1.5, True, None, [], {}, "", " ", "\x00", "a\nb", "x" * 10_000, -1, 10**12, "2027-03-01"]
OF_PYTHON = ("`", "str", "int ", "datetime", "Expected", "Invalid", "RFC3339", "regex")


@pytest.mark.parametrize("type_", [*BODIES, EventQuery, HistoryQuery, PageQuery])
def test_every_field(type_: type[msgspec.Struct]) -> None:
    """No field has a message in words of Python, or that only says no, whatever is wrong with it."""
    query = type_ not in BODIES
    for field in msgspec.structs.fields(type_):
        for value in WRONG:
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                message = readable(str(error), field.type, value, query=query)
                words = message.replace("a string", "").replace("an integer", "")
                assert not [word for word in OF_PYTHON if word in words]
                assert message[0].isupper()
                assert message.endswith(".")
                assert message != "This value is not allowed here."
