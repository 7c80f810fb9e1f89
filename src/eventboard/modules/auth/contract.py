"""The auth module's contract. `actor` is always the caller's access token."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from eventboard.core.contract import Budget, Moment, about, operation
from eventboard.core.cursors import Cursor
from eventboard.core.quotas import Quota
from eventboard.identity.access_tokens import PublicKeys, Role
from eventboard.modules.auth.fields import (
    LONGEST_PAGE,
    Email,
    Limit,
    OpaqueToken,
    OrganizationName,
    Password,
    PersonName,
    TriedEmail,
    TriedPassword,
)

# Fields that several structs have.
UserId = Annotated[UUID, about("The user's id, the same in every organization.")]
OrganizationId = Annotated[UUID, about("The organization's id.")]
EmailShown = Annotated[str, about("The e-mail address, in lower case.")]
FirstName = Annotated[str, about("The first name.")]
LastName = Annotated[str, about("The last name.")]
RoleShown = Annotated[Role, about("What the user may do in this organization.")]
UpdatedAt = Annotated[Moment, about("When it was last changed.")]
# Ways to join; exactly one is sent.
Founded = Annotated[OrganizationName | None, about("Founds an organization of this name, with you as its ADMIN.")]
Joined = Annotated[UUID | None, about("Joins this organization as USER, where its sign-up is open.")]
Invited = Annotated[OpaqueToken | None, about("Joins the organization that invited this e-mail address.")]
RefreshToken = Annotated[OpaqueToken, about("The refresh token. It works once.")]


class Signup(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A new account. Give exactly one of `organization_name`, `organization_id` and `invitation_token`."""

    email: Annotated[Email, about("The e-mail address to log in with.")]
    password: Annotated[Password, about("Not the e-mail address, the organization's name, or a very common one.")]
    first_name: Annotated[PersonName, about("Your first name.")]
    last_name: Annotated[PersonName, about("Your last name.")]
    organization_name: Founded = None
    organization_id: Joined = None
    invitation_token: Invited = None


class Login(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An account's e-mail address and password."""

    email: Annotated[TriedEmail, about("The account's e-mail address.")]
    password: Annotated[TriedPassword, about("The account's password.")]
    organization_id: Annotated[UUID | None, about("Which organization to log in to; by default the last used.")] = None


class Refresh(Struct, frozen=True, kw_only=True, rename="camel"):
    """The refresh token of a session."""

    refresh_token: RefreshToken


# What a client sends, with the client's `address` as the gateway sees it. An empty address is unknown, and a `shared`
# one is a proxy's: neither is limited by address. A client can't send these fields: the gateway decodes the type
# without them.


class SignupFrom(Signup, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""
    shared: bool = False


class LoginFrom(Login, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""
    shared: bool = False


class RefreshFrom(Refresh, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""
    shared: bool = False


class Lease(Struct, frozen=True, kw_only=True):
    """Leases `amount` of the requests that a user may send: `most` in `window` seconds, over all processes."""

    user_id: UUID
    amount: int
    most: int
    window: int


class Leased(Struct, frozen=True, kw_only=True):
    """`granted` is less than the amount where less was left; `left` is what remains. `ends_in` is in seconds."""

    granted: int
    left: int
    ends_in: float


class GetMe(Struct, frozen=True, kw_only=True):
    actor: str


class ValidateUser(Struct, frozen=True, kw_only=True):
    user_id: UUID
    organization_id: UUID
    session_id: UUID


class Validity(Struct, frozen=True, kw_only=True):
    """Whether the membership and the session are active, and the role in force."""

    active: bool
    role: Role | None = None


class GetKeys(Struct, frozen=True):
    pass


class OrganizationChoice(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How to join an organization. Give exactly one of the three."""

    organization_name: Founded = None
    organization_id: Joined = None
    invitation_token: Invited = None


class Join(Struct, frozen=True, kw_only=True):
    actor: str
    choice: OrganizationChoice


class OrganizationSwitch(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which organization to log in to."""

    organization_id: OrganizationId


class Switch(Struct, frozen=True, kw_only=True):
    actor: str
    chosen: OrganizationSwitch


class PasswordChange(Struct, frozen=True, kw_only=True, rename="camel"):
    """The current password, and a new one."""

    current_password: Annotated[TriedPassword, about("The password that you log in with now.")]
    new_password: Annotated[Password, about("Not the e-mail address, the organization's name, or a very common one.")]


class ChangePassword(Struct, frozen=True, kw_only=True):
    """`address` and `shared` as in `LoginFrom`."""

    actor: str
    change: PasswordChange
    address: str = ""
    shared: bool = False


class PageQuery(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`cursor` continues after an earlier page of the same list. An older gateway sends no page query."""

    limit: Annotated[Limit, about("How many entries a page has, at most.")] = LONGEST_PAGE
    cursor: Annotated[Cursor | None, about("The `nextCursor` of the page before, to continue after it.")] = None


class ListSessions(Struct, frozen=True, kw_only=True):
    actor: str
    page: PageQuery | None = None


class EndSession(Struct, frozen=True, kw_only=True):
    """Without a `session_id`: all of the caller's."""

    actor: str
    session_id: UUID | None = None


class ListMembers(Struct, frozen=True, kw_only=True):
    actor: str
    page: PageQuery | None = None


class MemberPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A merge patch (RFC 7396): a field that is left out stays as it is."""

    role: Annotated[Role | UnsetType, about("The member's new role.")] = UNSET
    active: Annotated[bool | UnsetType, about("Whether the member may log in to this organization.")] = UNSET


class ChangeMember(Struct, frozen=True, kw_only=True):
    actor: str
    user_id: UUID
    patch: MemberPatch


class InvitationDraft(Struct, frozen=True, kw_only=True, rename="camel"):
    """Whom to invite."""

    email: Annotated[Email, about("The address that the invitation is for.")]
    role: Annotated[Role, about("The role that the invitation gives.")]


class Invite(Struct, frozen=True, kw_only=True):
    actor: str
    draft: InvitationDraft


class ListInvitations(Struct, frozen=True, kw_only=True):
    actor: str
    page: PageQuery | None = None


class RevokeInvitation(Struct, frozen=True, kw_only=True):
    actor: str
    invitation_id: UUID


class OrganizationPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A merge patch (RFC 7396): a field that is left out stays as it is."""

    name: Annotated[OrganizationName | UnsetType, about("The new name. The slug stays.")] = UNSET
    open_signup: Annotated[bool | UnsetType, about("Whether anybody may join by the organization's id.")] = UNSET


class ChangeOrganization(Struct, frozen=True, kw_only=True):
    actor: str
    patch: OrganizationPatch


class User(Struct, frozen=True, kw_only=True, rename="camel"):
    """A person as a member of one organization."""

    id: UserId
    email: EmailShown
    first_name: FirstName
    last_name: LastName
    role: RoleShown
    organization_id: Annotated[UUID, about("The organization that the access token is for.")]
    created_at: Annotated[Moment, about("When the account was created.")]


class OrganizationSummary(Struct, frozen=True, kw_only=True, rename="camel"):
    """An organization's names."""

    id: OrganizationId
    name: Annotated[str, about("The organization's name.")]
    slug: Annotated[str, about("The first name in ASCII, for URLs. It never changes.")]


class Organization(OrganizationSummary, frozen=True, kw_only=True, rename="camel"):
    """An organization, as its ADMINs see it."""

    open_signup: Annotated[bool, about("Whether anybody may join by the organization's id.")]
    created_at: Annotated[Moment, about("When it was founded.")]
    updated_at: UpdatedAt


class Me(User, frozen=True, kw_only=True, rename="camel"):
    """The caller, with the organization that the access token is for."""

    updated_at: UpdatedAt
    organization: Annotated[OrganizationSummary, about("The organization that the access token is for.")]


class Session(Struct, frozen=True, kw_only=True, rename="camel"):
    """What a log-in gives: the user, and the tokens of a new session."""

    user: Annotated[User, about("Who has logged in.")]
    access_token: Annotated[str, about("A JSON Web Token, to send as `Authorization: Bearer`.")]
    refresh_token: Annotated[str, about("Gets the next pair of tokens. It works once.")]
    token_type: Annotated[str, about("Always `Bearer`.")] = "Bearer"  # noqa: S105 - RFC 6750's name of a scheme
    expires_in: Annotated[int, about("For how many seconds the access token is valid.")]


class LoggedIn(Session, frozen=True, kw_only=True, rename="camel"):
    """A session, and the limits that it was counted against."""

    quotas: tuple[Quota, ...] = ()


# Its defaults are for an older service, which returns the whole list.
class CursorMeta(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a page is in its list."""

    limit: Annotated[int, about("How many entries a page has, at most.")] = LONGEST_PAGE
    has_next: Annotated[bool, about("Whether there is another page.")] = False
    next_cursor: Annotated[str | None, about("The `cursor` of the next page; null on the last one.")] = None


Paging = Annotated[CursorMeta, about("Where this page is in the list.")]


class ActiveSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """A session that can be refreshed.

    Sessions that switch and join start from it have the same `created_at`, and end with it.
    """

    id: Annotated[UUID, about("The session's id.")]
    organization_id: Annotated[UUID, about("The organization that its tokens are for.")]
    created_at: Annotated[Moment, about("When its log-in was.")]
    used_at: Annotated[Moment, about("When it was last refreshed.")]
    expires_at: Annotated[Moment, about("When it ends, unless it is refreshed before.")]
    current: Annotated[bool, about("Whether the request came with this session's access token.")]


class SessionList(Struct, frozen=True, kw_only=True):
    """One page of the caller's sessions."""

    data: Annotated[Sequence[ActiveSession], about("The sessions, the one used last first.")]
    meta: Paging = CursorMeta()


class Member(Struct, frozen=True, kw_only=True, rename="camel"):
    """A current or former member of the organization."""

    id: UserId
    email: EmailShown
    first_name: FirstName
    last_name: LastName
    role: RoleShown
    active: Annotated[bool, about("Whether the member may log in to this organization.")]
    joined_at: Annotated[Moment, about("When the person became a member.")]
    updated_at: UpdatedAt


class MemberList(Struct, frozen=True, kw_only=True):
    """One page of the members."""

    data: Annotated[Sequence[Member], about("The members, by last and first name.")]
    meta: Paging = CursorMeta()


class InvitationState(StrEnum):
    """What became of an invitation."""

    PENDING = "pending"
    USED = "used"
    REVOKED = "revoked"
    EXPIRED = "expired"


# The last three are None from an older service.
class Invitation(Struct, frozen=True, kw_only=True, rename="camel"):
    """An invitation to the organization, without its token."""

    id: Annotated[UUID, about("The invitation's id.")]
    email: Annotated[str, about("The address that it is for.")]
    role: Annotated[Role, about("The role that it gives.")]
    state: Annotated[InvitationState, about("What became of it.")]
    created_at: Annotated[Moment, about("When it was sent.")]
    expires_at: Annotated[Moment, about("Until when it works.")]
    invited_by_id: Annotated[UUID | None, about("The id of the ADMIN who sent it.")] = None
    invited_by_name: Annotated[str | None, about("The name of the ADMIN who sent it.")] = None
    usable: Annotated[bool | None, about("Whether it works now: it is pending, and its sender is an active ADMIN.")] = (
        None
    )


class NewInvitation(Invitation, frozen=True, kw_only=True, rename="camel"):
    """An invitation with its token, which no other answer has."""

    token: Annotated[str, about("The `invitationToken` of sign-up and join. Only this answer has it.")]


class InvitationList(Struct, frozen=True, kw_only=True):
    """One page of the invitations."""

    data: Annotated[Sequence[Invitation], about("The invitations, the newest first.")]
    meta: Paging = CursorMeta()


class Done(Struct, frozen=True):
    """An empty result."""


class Auth(Protocol):
    @operation("auth.signup", budget=Budget.AUTH, repeatable=False)
    async def signup(self, command: SignupFrom) -> LoggedIn: ...

    @operation("auth.login", budget=Budget.AUTH, repeatable=True)
    async def login(self, command: LoginFrom) -> LoggedIn: ...

    @operation("auth.refresh", budget=Budget.AUTH, repeatable=False)
    async def refresh(self, command: RefreshFrom) -> LoggedIn: ...

    @operation("auth.logout", budget=Budget.AUTH, repeatable=True)
    async def logout(self, command: Refresh) -> Done: ...

    @operation("auth.getMe", budget=Budget.AUTH, repeatable=True)
    async def get_me(self, query: GetMe) -> Me: ...

    @operation("auth.validateUser", budget=Budget.AUTH, repeatable=True, retried=False)
    async def validate_user(self, query: ValidateUser) -> Validity: ...

    @operation("auth.lease", budget=Budget.AUTH, repeatable=False, retried=False)
    async def lease(self, query: Lease) -> Leased: ...

    @operation("auth.keys", budget=Budget.AUTH, repeatable=True)
    async def keys(self, query: GetKeys) -> PublicKeys: ...

    @operation("auth.join", budget=Budget.AUTH, repeatable=False)
    async def join(self, command: Join) -> Session: ...

    @operation("auth.switch", budget=Budget.AUTH, repeatable=True)
    async def switch(self, command: Switch) -> Session: ...

    @operation("auth.changePassword", budget=Budget.AUTH, repeatable=False)
    async def change_password(self, command: ChangePassword) -> Done: ...

    @operation("auth.listSessions", budget=Budget.AUTH, repeatable=True)
    async def list_sessions(self, query: ListSessions) -> SessionList: ...

    @operation("auth.endSession", budget=Budget.AUTH, repeatable=False)
    async def end_session(self, command: EndSession) -> Done: ...

    @operation("auth.listMembers", budget=Budget.AUTH, repeatable=True)
    async def list_members(self, query: ListMembers) -> MemberList: ...

    @operation("auth.changeMember", budget=Budget.AUTH, repeatable=False)
    async def change_member(self, command: ChangeMember) -> Member: ...

    @operation("auth.invite", budget=Budget.AUTH, repeatable=False)
    async def invite(self, command: Invite) -> NewInvitation: ...

    @operation("auth.listInvitations", budget=Budget.AUTH, repeatable=True)
    async def list_invitations(self, query: ListInvitations) -> InvitationList: ...

    @operation("auth.revokeInvitation", budget=Budget.AUTH, repeatable=False)
    async def revoke_invitation(self, command: RevokeInvitation) -> Done: ...

    @operation("auth.changeOrganization", budget=Budget.AUTH, repeatable=False)
    async def change_organization(self, command: ChangeOrganization) -> Organization: ...
