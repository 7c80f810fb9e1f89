"""Whole requests and answers for the documentation: one small story. Each request can be sent as it stands."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from eventboard.gateway.replies import KeyFate
from eventboard.modules.auth.contract import (
    Invitation,
    InvitationDraft,
    Invitations,
    InvitationState,
    Login,
    Me,
    Member,
    MemberPatch,
    Members,
    NewInvitation,
    OpenSession,
    OpenSessions,
    Organization,
    OrganizationChoice,
    OrganizationChosen,
    OrganizationPatch,
    OrganizationSummary,
    PasswordChange,
    Refresh,
    Session,
    Signup,
    User,
)
from eventboard.modules.events.contract import (
    Action,
    Event,
    EventDraft,
    EventPage,
    EventPatch,
    History,
    HistoryEntry,
    KeyState,
    PageMeta,
    Status,
)
from eventboard.platform.identity import PublicKeys, Role
from eventboard.platform.openapi import CORRELATION_ID

_USER_ID = UUID("01971c3a-5b7e-7d31-9c42-3f8a6d1e2b90")
_ORGANIZATION_ID = UUID("01971c3a-5b10-7a04-8e6f-71c2d9b0a4e5")
_DRAFTED = datetime(2027, 1, 11, 9, 30, tzinfo=UTC)
_SUBMITTED = datetime(2027, 1, 11, 9, 42, tzinfo=UTC)

SIGNUP = Signup(
    email="ada@example.com",
    password="a long and quiet password",  # noqa: S106 - an example
    first_name="Ada",
    last_name="Archer",
    organization_name="Archer & Sons",
)
# The account is among the demo data of `make run`.
LOGIN = Login(email="user@acme.com", password="Password123!")  # noqa: S106 - an example

USER = User(
    id=_USER_ID,
    email="user@acme.com",
    first_name="Uma",
    last_name="User",
    role=Role.USER,
    organization_id=_ORGANIZATION_ID,
    created_at=datetime(2027, 1, 4, 8, 0, tzinfo=UTC),
)
REFRESH = Refresh(refresh_token="6Zs0tGxvP1v0xJ3kqkq3sJQyq8i2mJmNc5m0tq1hH3E")  # noqa: S106 - an example
SESSION = Session(
    user=USER,
    access_token="eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln",  # noqa: S106 - an example
    refresh_token=REFRESH.refresh_token,
    expires_in=3600,
)
ME = Me(
    **{name: getattr(USER, name) for name in USER.__struct_fields__},
    updated_at=datetime(2027, 1, 4, 8, 0, tzinfo=UTC),
    organization=OrganizationSummary(id=_ORGANIZATION_ID, name="Acme Corporation", slug="acme-corp"),
)
OPEN_SESSIONS = OpenSessions(
    data=[
        OpenSession(
            id=UUID("01971c3a-6a20-7c11-b0d4-2c9e7f5a8b31"),
            organization_id=_ORGANIZATION_ID,
            created_at=datetime(2027, 1, 11, 9, 0, tzinfo=UTC),
            used_at=datetime(2027, 1, 11, 9, 0, tzinfo=UTC),
            expires_at=datetime(2027, 2, 10, 9, 0, tzinfo=UTC),
            current=True,
        )
    ]
)
PASSWORD_CHANGE = PasswordChange(current_password="Password123!", new_password="a longer and quieter password")  # noqa: S106 - an example
CHOICE = OrganizationChoice(organization_name="Archer & Daughters")
SWITCH = OrganizationChosen(organization_id=_ORGANIZATION_ID)
MEMBER = Member(
    id=_USER_ID,
    email="user@acme.com",
    first_name="Uma",
    last_name="User",
    role=Role.MODERATOR,
    active=True,
    joined_at=datetime(2027, 1, 4, 8, 0, tzinfo=UTC),
    updated_at=datetime(2027, 1, 11, 10, 0, tzinfo=UTC),
)
MEMBERS = Members(data=[MEMBER])
MEMBER_PATCH = MemberPatch(role=Role.MODERATOR)
INVITATION_DRAFT = InvitationDraft(email="grace@example.com", role=Role.USER)
_INVITATION: dict[str, Any] = {
    "id": UUID("01971c4b-7d10-7a55-9f0e-6b1c2d3e4f50"),
    "email": "grace@example.com",
    "role": Role.USER,
    "state": InvitationState.PENDING,
    "created_at": datetime(2027, 1, 11, 10, 0, tzinfo=UTC),
    "expires_at": datetime(2027, 1, 18, 10, 0, tzinfo=UTC),
}
NEW_INVITATION = NewInvitation(**_INVITATION, token="AZccOlsQegSOb3HC2bCk5VfH3Yk2n7n0b8o1w4p6z9Q")  # noqa: S106 - an example
INVITATIONS = Invitations(data=[Invitation(**_INVITATION)])
ORGANIZATION_PATCH = OrganizationPatch(open_signup=True)
ORGANIZATION = Organization(
    id=_ORGANIZATION_ID,
    name="Acme Corporation",
    slug="acme-corp",
    open_signup=True,
    created_at=datetime(2027, 1, 4, 8, 0, tzinfo=UTC),
    updated_at=datetime(2027, 1, 11, 10, 0, tzinfo=UTC),
)
# The key of RFC 7517, appendix A.1.
KEYS = PublicKeys(
    keys=[
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "kid": "1",
            "use": "sig",
            "alg": "ES256",
        }
    ]
)

DRAFT = EventDraft(
    title="Chess night",
    description="Bring a board and a friend. Beginners are welcome.",
    location="Cafeteria",
    start_date=datetime(2027, 3, 1, 18, 0, tzinfo=UTC),
    end_date=datetime(2027, 3, 1, 21, 0, tzinfo=UTC),
    time_zone="Europe/Berlin",
)
PATCH = EventPatch(title="Chess night for beginners", location=None)
EVENT = Event(
    id=UUID("01971c4b-0c2d-7f68-a1b3-5e9d7c4f2a16"),
    title=DRAFT.title,
    description=DRAFT.description,
    location=DRAFT.location,
    start_date=DRAFT.start_date,
    end_date=DRAFT.end_date,
    time_zone="Europe/Berlin",
    status=Status.DRAFT,
    rejection_reason=None,
    organization_id=_ORGANIZATION_ID,
    created_by_id=_USER_ID,
    created_by_name="Uma User",
    created_at=_DRAFTED,
    updated_at=_DRAFTED,
    version=1,
)
PATCHED = replace(EVENT, title="Chess night for beginners", location=None, version=2)
REASON = "Please name a room that holds thirty people."


def event_after(status: Status) -> Event:
    """The event, submitted, and then what led to `status`."""
    return replace(
        EVENT,
        status=status,
        rejection_reason=REASON if status is Status.REJECTED else None,
        updated_at=_SUBMITTED,
        version=2 if status is Status.SUBMITTED else 3,
    )


PAGE = EventPage(
    data=[EVENT],
    meta=PageMeta(
        page=1,
        limit=10,
        total=1,
        total_pages=1,
        has_previous=False,
        has_next=False,
        next_cursor=None,
        total_is_lower_bound=False,
    ),
)
HISTORY = History(
    data=[
        HistoryEntry(Action.CREATE, Status.DRAFT, 1, _USER_ID, "Uma User", None, _DRAFTED, CORRELATION_ID),
        HistoryEntry(Action.SUBMIT, Status.SUBMITTED, 2, _USER_ID, "Uma User", None, _SUBMITTED, CORRELATION_ID),
    ]
)
KEY = KeyFate(
    key="5f1b7c2e-create-chess-night",
    state=KeyState.DONE,
    status=201,
    at=_DRAFTED,
    operation="events.create",
    resource=f"/events/{EVENT.id}",
    correlation_id=CORRELATION_ID,
)
