"""Values of the examples. They tell one story, in which each request can be sent as it is.

Ada signs up and founds an organization, in which she drafts, submits and approves an event. Only log-in, refresh and
log-out are by an account of the demo data, so that trying the examples changes nothing of it.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import asdict, replace

from eventboard.gateway.schemas import Cancellation, IdempotencyKeyOutcome, JsonWebKeySet, Rejection
from eventboard.identity.access_tokens import Role
from eventboard.modules.auth.contract import (
    ActiveSession,
    Invitation,
    InvitationDraft,
    InvitationList,
    InvitationState,
    Login,
    Me,
    Member,
    MemberList,
    MemberPatch,
    NewInvitation,
    Organization,
    OrganizationChoice,
    OrganizationPatch,
    OrganizationSummary,
    OrganizationSwitch,
    PasswordChange,
    Refresh,
    Session,
    SessionList,
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

CORRELATION_ID = "5e0c7b1a-6f0d-4a3e-9a58-2d9f3c1b7e46"
KEY = "5f1b7c2e-create-chess-night"

_SIGNED_UP = datetime(2027, 1, 11, 9, 0, tzinfo=UTC)
_DRAFTED = datetime(2027, 1, 11, 9, 30, tzinfo=UTC)
_SUBMITTED = datetime(2027, 1, 11, 9, 42, tzinfo=UTC)


def _session(user: User, number: int) -> Session:
    """The tokens are nobody's secrets."""
    return Session(
        user=user,
        access_token=f"eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln{number}",
        refresh_token=f"6Zs0tGxvP1v0xJ3kqkq3sJQyq8i2mJmNc5m0tq1hH3{number}",
        expires_in=3600,
    )


# Accounts and sessions. Log-in is of an account of the demo data.
LOGIN = Login(email="user@acme.com", password="Password123!")  # noqa: S106 - an example
_UMA = User(
    id=UUID("01971c3a-5b7e-7d31-9c42-3f8a6d1e2b90"),
    email=LOGIN.email,
    first_name="Uma",
    last_name="User",
    role=Role.USER,
    organization_id=UUID("01971c3a-5b10-7a04-8e6f-71c2d9b0a4e5"),
    created_at=datetime(2027, 1, 4, 8, 0, tzinfo=UTC),
)
LOGGED_IN = _session(_UMA, 1)
REFRESH = Refresh(refresh_token=LOGGED_IN.refresh_token)
REFRESHED = _session(_UMA, 2)
LOGOUT = Refresh(refresh_token=REFRESHED.refresh_token)

SIGNUP = Signup(
    email="ada@example.org",
    password="a long and quiet password",  # noqa: S106 - an example
    first_name="Ada",
    last_name="Archer",
    organization_name="Archer & Sons",
)
_FOUNDED = OrganizationSummary(
    id=UUID("01971c4a-6a20-7c11-b0d4-2c9e7f5a8b30"), name="Archer & Sons", slug="archer-sons"
)
_ADA = User(
    id=UUID("01971c4a-6a1f-7e20-8d11-4c6b7a8f9e01"),
    email=SIGNUP.email,
    first_name=SIGNUP.first_name,
    last_name=SIGNUP.last_name,
    role=Role.ADMIN,
    organization_id=_FOUNDED.id,
    created_at=_SIGNED_UP,
)
SIGNED_UP = _session(_ADA, 3)
ME = Me(**asdict(_ADA), updated_at=_SIGNED_UP, organization=_FOUNDED)
CHOICE = OrganizationChoice(organization_name="Archer & Daughters")
JOINED = _session(replace(_ADA, organization_id=UUID("01971c4f-9d3e-7b52-a6c8-0e1f2a3b4c5d")), 4)
SWITCH = OrganizationSwitch(organization_id=_FOUNDED.id)
SWITCHED = _session(_ADA, 5)
PASSWORD_CHANGE = PasswordChange(current_password=SIGNUP.password, new_password="a longer and quieter password")  # noqa: S106 - an example
SESSIONS = SessionList(
    data=[
        ActiveSession(
            id=UUID("01971c4a-6a21-7f42-9e15-5d7c8b9a0f12"),
            organization_id=_FOUNDED.id,
            created_at=_SIGNED_UP,
            used_at=_SIGNED_UP,
            expires_at=datetime(2027, 2, 10, 9, 0, tzinfo=UTC),
            current=True,
        )
    ]
)
# The key of RFC 7517, appendix A.1.
KEYS = JsonWebKeySet(
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

# Members, invitations and the organization.
MEMBER = Member(
    id=_ADA.id,
    email=_ADA.email,
    first_name=_ADA.first_name,
    last_name=_ADA.last_name,
    role=Role.ADMIN,
    active=True,
    joined_at=_SIGNED_UP,
    updated_at=_SIGNED_UP,
)
MEMBERS = MemberList(data=[MEMBER])
MEMBER_PATCH = MemberPatch(role=Role.ADMIN)
INVITATION_DRAFT = InvitationDraft(email="grace@example.org", role=Role.USER)
_INVITATION: dict[str, Any] = {
    "id": UUID("01971c4b-7d10-7a55-9f0e-6b1c2d3e4f50"),
    "email": INVITATION_DRAFT.email,
    "role": INVITATION_DRAFT.role,
    "state": InvitationState.PENDING,
    "created_at": datetime(2027, 1, 11, 10, 0, tzinfo=UTC),
    "expires_at": datetime(2027, 1, 18, 10, 0, tzinfo=UTC),
    "invited_by_id": _ADA.id,
    "invited_by_name": "Ada Archer",
    "usable": True,
}
NEW_INVITATION = NewInvitation(**_INVITATION, token="AZccOlsQegSOb3HC2bCk5VfH3Yk2n7n0b8o1w4p6z9Q")  # noqa: S106 - an example
INVITATIONS = InvitationList(data=[Invitation(**_INVITATION)])
ORGANIZATION_PATCH = OrganizationPatch(open_signup=True)
ORGANIZATION = Organization(
    **asdict(_FOUNDED), open_signup=True, created_at=_SIGNED_UP, updated_at=datetime(2027, 1, 11, 10, 0, tzinfo=UTC)
)

# Events.
DRAFT = EventDraft(
    title="Chess night",
    description="Bring a board and a friend. Beginners are welcome.",
    location="Cafeteria",
    start_date=datetime(2027, 3, 1, 18, 0, tzinfo=UTC),
    end_date=datetime(2027, 3, 1, 21, 0, tzinfo=UTC),
    time_zone="Europe/Berlin",
)
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
    organization_id=_FOUNDED.id,
    created_by_id=_ADA.id,
    created_by_name="Ada Archer",
    created_at=_DRAFTED,
    updated_at=_DRAFTED,
    version=1,
)
PATCH = EventPatch(title="Chess night for beginners", location=None)
PATCHED = replace(EVENT, title="Chess night for beginners", location=None, updated_at=_SUBMITTED, version=2)
REJECTION = Rejection("Please name a room that holds thirty people.")
CANCELLATION = Cancellation("The speaker is ill.")
EVENTS = EventPage(
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
        HistoryEntry(Action.CREATE, Status.DRAFT, 1, _ADA.id, "Ada Archer", None, _DRAFTED, CORRELATION_ID),
        HistoryEntry(Action.SUBMIT, Status.SUBMITTED, 2, _ADA.id, "Ada Archer", None, _SUBMITTED, CORRELATION_ID),
    ]
)
KEY_OUTCOME = IdempotencyKeyOutcome(
    key=KEY,
    state=KeyState.DONE,
    status=201,
    at=_DRAFTED,
    operation="events.create",
    resource=f"/events/{EVENT.id}",
    correlation_id=CORRELATION_ID,
)


def event_after(status: Status) -> Event:
    """The event after it was submitted, and after the command that leads to `status`."""
    return replace(
        EVENT,
        status=status,
        rejection_reason=REJECTION.reason if status is Status.REJECTED else None,
        updated_at=_SUBMITTED,
        version=2 if status is Status.SUBMITTED else 3,
    )
