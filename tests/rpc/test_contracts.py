"""A contract is all there is: its client and its server are derived, and both ends hold the same values."""

from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, Protocol
from uuid import UUID

import pytest
from msgspec import Struct
from msgspec.structs import asdict, replace

from eventboard.core.contract import Budget, IdempotencyKey, Operation, operation, operations
from eventboard.core.errors import Code, KeyStatus, ServiceError
from eventboard.core.quotas import Quota
from eventboard.identity.access_tokens import PublicKeys, Role
from eventboard.modules.auth.contract import (
    ActiveSession,
    Auth,
    ChangeMember,
    ChangeOrganization,
    ChangePassword,
    Done,
    EndSession,
    GetKeys,
    GetMe,
    Invitation,
    InvitationDraft,
    InvitationList,
    InvitationState,
    Invite,
    Join,
    Lease,
    Leased,
    ListInvitations,
    ListMembers,
    ListSessions,
    LoggedIn,
    LoginFrom,
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
    RefreshFrom,
    RevokeInvitation,
    Session,
    SessionList,
    SignupFrom,
    Switch,
    User,
    ValidateUser,
    Validity,
)
from eventboard.modules.events.contract import (
    Action,
    CreateEvent,
    Event,
    EventCommand,
    EventDraft,
    EventPage,
    EventPatch,
    EventQuery,
    Events,
    FindEvent,
    FindEvents,
    FindHistory,
    FindKey,
    History,
    HistoryEntry,
    HistoryQuery,
    IfMatch,
    KeyReport,
    KeyState,
    ListMeta,
    PageMeta,
    SortBy,
    SortOrder,
    Status,
    UpdateEvent,
    Written,
)
from eventboard.rpc.client import client
from eventboard.rpc.http import GENERATED, KEY_MARGIN
from eventboard.rpc.local import LocalTransport
from eventboard.rpc.server import RpcServer
from tests.support.rpc import CREDENTIAL, Ask, NewAsk, NewDesk, NewTold, Told, calling, listening, service_of

_ids = (UUID(int=number) for number in count(1))
id_ = partial(next, _ids)
TEXT = 'Ünïcödé 🎲 \u2003 \\ "'
AT = datetime(2027, 3, 1, 18, 0, 0, 123456, UTC)
USER: dict[str, Any] = {
    "id": id_(),
    "email": "ada@example.com",
    "first_name": TEXT,
    "last_name": "King",
    "role": Role.MODERATOR,
    "organization_id": id_(),
    "created_at": AT,
}
EVENT = Event(
    *(id_(), TEXT, TEXT * 3, None, AT, AT, "Europe/Berlin", Status.REJECTED, TEXT, id_(), id_(), TEXT, AT, AT, 2**31)
)
DRAFT = EventDraft(title=TEXT, description=TEXT, start_date=AT, end_date=AT)
ENTRY = HistoryEntry(Action.DELETE, None, 3, id_(), TEXT, None, AT, "x" * 128)
PAGE = PageMeta(
    page=1,
    limit=2,
    total=3,
    total_pages=2,
    has_previous=False,
    has_next=True,
    next_cursor="x",
    total_is_lower_bound=True,
)
KEY = IdempotencyKey("key", 3.5)
MEMBER = Member(
    id=id_(), email="a@b.c", first_name=TEXT, last_name="x", role=Role.ADMIN, active=True, joined_at=AT, updated_at=AT
)
INVITATION: dict[str, Any] = {
    "id": id_(),
    "email": "a@b.c",
    "role": Role.USER,
    "state": InvitationState.EXPIRED,
    "created_at": AT,
    "expires_at": AT,
}

# Of every operation: what is sent, and what is answered. An instance with all optional fields, and one with none.
CALLS: dict[str, list[tuple[Struct, Struct]]] = {
    "auth.signup": [
        (
            SignupFrom(
                email="a@b.c",
                password="p" * 8,
                first_name=TEXT,
                last_name="x",
                organization_name="Acme",
                address="192.0.2.1",
            ),
            LoggedIn(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=3600),
        ),
        (
            SignupFrom(email="a@b.c", password="p" * 8, first_name=TEXT, last_name="x", organization_id=id_()),
            LoggedIn(
                user=User(**USER),
                access_token="",
                refresh_token="refresh",
                token_type="Other",
                expires_in=0,
                quotas=(Quota("signup-address", 3, 60, 2, 59), Quota("signup-account", 1, 3600, 0, 1)),
            ),
        ),
    ],
    "auth.login": [
        (
            LoginFrom(email="a@b.c", password="\x00", address="2001:db8::/64"),
            LoggedIn(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=1),
        ),
        (
            LoginFrom(email="a@b.c", password="", organization_id=id_()),
            LoggedIn(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=1),
        ),
    ],
    "auth.getMe": [
        (
            GetMe(actor="token"),
            Me(**USER, updated_at=AT, organization=OrganizationSummary(id=id_(), name=TEXT, slug="acme")),
        )
    ],
    "auth.validateUser": [
        (ValidateUser(user_id=id_(), organization_id=id_(), session_id=id_()), Validity(active=True, role=Role.ADMIN)),
        (ValidateUser(user_id=id_(), organization_id=id_(), session_id=id_()), Validity(active=False)),
    ],
    "auth.refresh": [
        (
            RefreshFrom(refresh_token="refresh", address="192.0.2.1"),
            LoggedIn(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=1),
        )
    ],
    "auth.lease": [
        (Lease(user_id=id_(), amount=5, most=600, window=60), Leased(granted=5, left=595, ends_in=59.5)),
        (Lease(user_id=id_(), amount=5, most=600, window=60), Leased(granted=0, left=0, ends_in=0)),
    ],
    "auth.logout": [(Refresh(refresh_token=TEXT), Done())],
    "auth.join": [
        (
            Join(actor="token", choice=OrganizationChoice(organization_id=id_())),
            Session(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=1),
        )
    ],
    "auth.switch": [
        (
            Switch(actor="token", chosen=OrganizationSwitch(organization_id=id_())),
            Session(user=User(**USER), access_token="token", refresh_token="refresh", expires_in=1),
        )
    ],
    "auth.changePassword": [
        (ChangePassword(actor="token", change=PasswordChange(current_password="", new_password="p" * 8)), Done())
    ],
    "auth.listSessions": [
        (
            ListSessions(actor="token"),
            SessionList(
                data=[
                    ActiveSession(
                        id=id_(), organization_id=id_(), created_at=AT, used_at=AT, expires_at=AT, current=True
                    )
                ]
            ),
        )
    ],
    "auth.endSession": [
        (EndSession(actor="token"), Done()),
        (EndSession(actor="token", session_id=id_()), Done()),
    ],
    "auth.listMembers": [(ListMembers(actor="token"), MemberList(data=[MEMBER, MEMBER]))],
    "auth.changeMember": [
        (ChangeMember(actor="token", user_id=id_(), patch=MemberPatch()), MEMBER),
        (ChangeMember(actor="token", user_id=id_(), patch=MemberPatch(role=Role.USER, active=False)), MEMBER),
    ],
    "auth.invite": [
        (
            Invite(actor="token", draft=InvitationDraft(email="a@b.c", role=Role.USER)),
            NewInvitation(**INVITATION, token="token"),
        )
    ],
    "auth.listInvitations": [(ListInvitations(actor="token"), InvitationList(data=[Invitation(**INVITATION)]))],
    "auth.revokeInvitation": [(RevokeInvitation(actor="token", invitation_id=id_()), Done())],
    "auth.changeOrganization": [
        (
            ChangeOrganization(actor="token", patch=OrganizationPatch(open_signup=True)),
            Organization(id=id_(), name=TEXT, slug="acme", open_signup=True, created_at=AT, updated_at=AT),
        )
    ],
    "auth.keys": [(GetKeys(), PublicKeys([{"kid": "1"}, {}])), (GetKeys(), PublicKeys([], longest=3600))],
    "events.create": [
        (CreateEvent(actor="token", draft=DRAFT, idempotency_key=KEY), Written(EVENT, KeyStatus.EXECUTED)),
        (
            CreateEvent(
                actor="token", draft=replace(DRAFT, location="Room", time_zone="UTC"), idempotency_key=replace(KEY)
            ),
            Written(EVENT),
        ),
    ],
    "events.findAll": [
        (FindEvents(actor="token", query=EventQuery()), EventPage(data=[EVENT, EVENT], meta=PAGE)),
        (
            FindEvents(
                actor="token",
                query=EventQuery(
                    limit=100,
                    sort_by=SortBy.TITLE,
                    sort_order=SortOrder.DESC,
                    status=Status.DRAFT,
                    search="%",
                    start_date_from=AT,
                    start_date_to=AT,
                    cursor="abc",
                ),
            ),
            EventPage(data=[], meta=replace(PAGE, next_cursor=None)),
        ),
    ],
    "events.findOne": [(FindEvent(actor="token", event_id=id_()), EVENT)],
    "events.update": [
        (
            UpdateEvent(actor="token", event_id=id_(), patch=EventPatch(), idempotency_key=KEY),
            Written(EVENT, KeyStatus.REPLAYED),
        ),
        (
            UpdateEvent(
                actor="token",
                event_id=id_(),
                patch=EventPatch(title="New", location=None, start_date=AT),
                if_match=IfMatch(versions=(1, 2), any=True),
                idempotency_key=KEY,
            ),
            Written(EVENT),
        ),
    ],
    "events.history": [
        (
            FindHistory(actor="token", event_id=id_(), query=HistoryQuery(limit=1, cursor="c")),
            History(data=[ENTRY], meta=ListMeta(limit=1, has_next=True, next_cursor="d")),
        ),
        (FindHistory(actor="token", event_id=id_()), History(data=[])),
    ],
    "events.findKey": [
        (FindKey(actor="token", key=TEXT), KeyReport(state=KeyState.UNKNOWN)),
        (
            FindKey(actor="token", key="key"),
            KeyReport(
                state=KeyState.DONE,
                operation="events.create",
                code=Code.WRONG_STATE,
                at=AT,
                resource=id_(),
                correlation_id="x",
            ),
        ),
    ],
    "events.delete": [(EventCommand(actor="token", event_id=id_(), idempotency_key=KEY), Written(None))],
    **{
        f"events.{name}": [
            (EventCommand(actor="token", event_id=id_(), idempotency_key=KEY), Written(EVENT)),
            (
                EventCommand(
                    actor="token", event_id=id_(), reason="Ten letters", if_match=IfMatch(), idempotency_key=KEY
                ),
                Written(EVENT),
            ),
        ]
        for name in ("submit", "approve", "reject", "withdraw", "cancel")
    },
}
OPERATIONS = [(contract, known) for contract in (Auth, Events) for known in operations(contract)]


@pytest.mark.parametrize(("contract", "known"), OPERATIONS, ids=[known.name for _, known in OPERATIONS])
async def test_round_trip(contract: type[Any], known: Operation) -> None:
    """What is sent arrives, and what is answered comes back, equal and of its type: over HTTP as in one process."""
    asked: list[tuple[str, Any]] = []
    answers = iter([answer for _, answer in CALLS[known.name]] * 2)

    def answer(called: Operation, request: Any) -> Any:
        asked.append((called.name, request))
        return next(answers)

    service = service_of(contract, answer)
    here = client(contract, LocalTransport(service), dict.fromkeys(Budget, 10.0))
    async with (
        listening(RpcServer({contract: service}, credential=CREDENTIAL)) as url,
        calling(contract, [url]) as (there, _),
    ):
        for caller in (here, there):
            for sent, expected in CALLS[known.name]:
                received = await getattr(caller, known.method)(sent)
                assert type(received) is known.result
                assert received == expected
                assert asked.pop() == (known.name, sent)


async def test_key_is_made_where_none_came() -> None:
    """A write without a key gets one, which lives for the budget and a minute; no client could have sent it."""
    asked: list[Any] = []

    def answer(_: Operation, request: Any) -> Any:
        asked.append(request)
        return Written(EVENT)

    service = service_of(Events, answer)
    async with (
        listening(RpcServer({Events: service}, credential=CREDENTIAL)) as url,
        calling(Events, [url], budget=7) as (events, _),
    ):
        command = EventCommand(actor="token", event_id=id_())
        for _ in range(2):
            await events.submit(command)
        await events.submit(replace(command, idempotency_key=IdempotencyKey("client's")))
    one, two, clients = asked
    assert one.idempotency_key.value != two.idempotency_key.value
    assert one.idempotency_key.value.startswith(GENERATED)
    assert 6.5 + KEY_MARGIN <= one.idempotency_key.lifetime <= 7 + KEY_MARGIN
    assert asdict(one) == {**asdict(command), "idempotency_key": one.idempotency_key}
    assert clients.idempotency_key == IdempotencyKey("client's")


# ---------------------------------------------------------------------------------------------------------------------
# Versions one apart: the next one has optional fields and an operation that this one doesn't know.


class OldDesk(Protocol):
    @operation("desk.tell", budget=Budget.READ, repeatable=True)
    async def tell(self, query: Ask) -> Told: ...


@pytest.mark.parametrize(
    ("caller", "server", "sent", "arrived", "answered", "received"),
    [
        pytest.param(
            NewDesk, OldDesk, NewAsk("hi", "loud"), Ask("hi"), Told("ho"), NewTold("ho"), id="caller is newer"
        ),
        pytest.param(OldDesk, NewDesk, Ask("hi"), NewAsk("hi"), NewTold("ho", 7), Told("ho"), id="service is newer"),
    ],
)
async def test_versions_one_apart(
    caller: type[Any], server: type[Any], sent: Ask, arrived: Ask, answered: Told, received: Told
) -> None:
    """A field that the other side doesn't know is ignored; one that it doesn't send has its default."""
    asked: list[Any] = []

    def answer(_: Operation, request: Any) -> Any:
        asked.append(request)
        return answered

    async with (
        listening(RpcServer({server: service_of(server, answer)}, credential=CREDENTIAL)) as url,
        calling(caller, [url]) as (desk, _),
    ):
        assert await desk.tell(sent) == received
    assert asked == [arrived]


async def test_operation_to_come() -> None:
    """A service that doesn't know it says so: 501, and no more attempts."""
    service = service_of(OldDesk, lambda _, request: Told(request.text))
    async with (
        listening(RpcServer({OldDesk: service}, credential=CREDENTIAL)) as url,
        calling(NewDesk, [url]) as (desk, _),
    ):
        with pytest.raises(ServiceError) as raised:
            await desk.shout(NewAsk("hi"))
        assert raised.value.code is Code.NOT_IMPLEMENTED
        assert await desk.tell(NewAsk("hi")) == NewTold("hi")
