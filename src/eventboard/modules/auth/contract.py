"""What the auth module does for others. `actor` is always the caller's access token."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from eventboard.platform.contract import Budget, Moment, operation
from eventboard.platform.identity import PublicKeys, Role
from eventboard.platform.quotas import Quota
from eventboard.platform.text import CONTROLS, LINE

# RFC 5321 bounds an address to 254 characters. One "@" between two parts without white space: whether it exists only
# a mail to it can tell. The white space around it is what a paste brings along.
_PART = rf"[^@\s\ufeff{CONTROLS}]+"
LONGEST_EMAIL = 254
Email = Annotated[str, Meta(max_length=LONGEST_EMAIL, pattern=rf"^[ \t\r\n\xa0]*{_PART}@{_PART}[ \t\r\n\xa0]*$")]
Password = Annotated[str, Meta(min_length=8, max_length=128)]
# Any password may be tried; only a new one is held to the rules.
TriedPassword = Annotated[str, Meta(max_length=1024)]
PersonName = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE)]
OrganizationName = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE)]
# Longer than any that is given out here.
OpaqueToken = Annotated[str, Meta(min_length=1, max_length=256)]


class Signup(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Exactly one of `organization_name` (founds it), `organization_id` and `invitation_token` (join it)."""

    email: Email
    password: Password
    first_name: PersonName
    last_name: PersonName
    organization_name: OrganizationName | None = None
    organization_id: UUID | None = None
    invitation_token: OpaqueToken | None = None


class Login(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Without an `organization_id`, into the organization last used."""

    email: Email
    password: TriedPassword
    organization_id: UUID | None = None


class Refresh(Struct, frozen=True, kw_only=True, rename="camel"):
    refresh_token: OpaqueToken


# What a client sends, and `address`: where it comes from, as the gateway saw it. Empty is unknown, and held to no limit
# by address. Clients have no such field: what they send is read as the type without it.


class SignupFrom(Signup, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""


class LoginFrom(Login, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""


class RefreshFrom(Refresh, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    address: str = ""


class Lease(Struct, frozen=True, kw_only=True):
    """Takes `amount` requests at once from what a user may send: `most` in `window` seconds, over all processes."""

    user_id: UUID
    amount: int
    most: int
    window: int


class Leased(Struct, frozen=True, kw_only=True):
    """`granted` is less than was asked for where no more was left; `left` is what still is. `ends_in` is in seconds."""

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
    """Whether the membership and the session stand now, and the role in force."""

    active: bool
    role: Role | None = None


class GetKeys(Struct, frozen=True):
    pass


class OrganizationChoice(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Exactly one of the three, as in `Signup`."""

    organization_name: OrganizationName | None = None
    organization_id: UUID | None = None
    invitation_token: OpaqueToken | None = None


class Join(Struct, frozen=True, kw_only=True):
    actor: str
    choice: OrganizationChoice


class OrganizationChosen(Struct, frozen=True, kw_only=True, rename="camel"):
    organization_id: UUID


class Switch(Struct, frozen=True, kw_only=True):
    actor: str
    chosen: OrganizationChosen


class PasswordChange(Struct, frozen=True, kw_only=True, rename="camel"):
    current_password: TriedPassword
    new_password: Password


class ChangePassword(Struct, frozen=True, kw_only=True):
    actor: str
    change: PasswordChange


class ListSessions(Struct, frozen=True, kw_only=True):
    actor: str


class EndSession(Struct, frozen=True, kw_only=True):
    """Without a `session_id`: all of the caller's."""

    actor: str
    session_id: UUID | None = None


class ListMembers(Struct, frozen=True, kw_only=True):
    actor: str


class MemberPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    role: Role | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class ChangeMember(Struct, frozen=True, kw_only=True):
    actor: str
    user_id: UUID
    patch: MemberPatch


class InvitationDraft(Struct, frozen=True, kw_only=True, rename="camel"):
    email: Email
    role: Role


class Invite(Struct, frozen=True, kw_only=True):
    actor: str
    draft: InvitationDraft


class ListInvitations(Struct, frozen=True, kw_only=True):
    actor: str


class RevokeInvitation(Struct, frozen=True, kw_only=True):
    actor: str
    invitation_id: UUID


class OrganizationPatch(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    name: OrganizationName | UnsetType = UNSET
    open_signup: bool | UnsetType = UNSET


class ChangeOrganization(Struct, frozen=True, kw_only=True):
    actor: str
    patch: OrganizationPatch


class User(Struct, frozen=True, kw_only=True, rename="camel"):
    """A person as a member of one organization."""

    id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    organization_id: UUID
    created_at: Moment


class OrganizationSummary(Struct, frozen=True, kw_only=True, rename="camel"):
    id: UUID
    name: str
    slug: str


class Organization(OrganizationSummary, frozen=True, kw_only=True, rename="camel"):
    open_signup: bool
    created_at: Moment
    updated_at: Moment


class Me(User, frozen=True, kw_only=True, rename="camel"):
    updated_at: Moment
    organization: OrganizationSummary


class Session(Struct, frozen=True, kw_only=True, rename="camel"):
    """`expires_in` is in seconds, and is the access token's."""

    user: User
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's name of a scheme, not a secret
    expires_in: int


class LoggedIn(Session, frozen=True, kw_only=True, rename="camel"):
    """A session, and the limits that it was counted against."""

    quotas: tuple[Quota, ...] = ()


class OpenSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """A log-in that can still be refreshed; `current` is the one that asks."""

    id: UUID
    organization_id: UUID
    created_at: Moment
    used_at: Moment
    expires_at: Moment
    current: bool


class OpenSessions(Struct, frozen=True, kw_only=True):
    data: Sequence[OpenSession]


class Member(Struct, frozen=True, kw_only=True, rename="camel"):
    """`id` is the person's."""

    id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    active: bool
    joined_at: Moment
    updated_at: Moment


class Members(Struct, frozen=True, kw_only=True):
    data: Sequence[Member]


class InvitationState(StrEnum):
    PENDING = "pending"
    USED = "used"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Invitation(Struct, frozen=True, kw_only=True, rename="camel"):
    id: UUID
    email: str
    role: Role
    state: InvitationState
    created_at: Moment
    expires_at: Moment


class NewInvitation(Invitation, frozen=True, kw_only=True, rename="camel"):
    """`token` is told this once."""

    token: str


class Invitations(Struct, frozen=True, kw_only=True):
    data: Sequence[Invitation]


class Done(Struct, frozen=True):
    """A result that says nothing more."""


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

    @operation("auth.validateUser", budget=Budget.AUTH, repeatable=True)
    async def validate_user(self, query: ValidateUser) -> Validity: ...

    @operation("auth.lease", budget=Budget.AUTH, repeatable=False)
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
    async def list_sessions(self, query: ListSessions) -> OpenSessions: ...

    @operation("auth.endSession", budget=Budget.AUTH, repeatable=False)
    async def end_session(self, command: EndSession) -> Done: ...

    @operation("auth.listMembers", budget=Budget.AUTH, repeatable=True)
    async def list_members(self, query: ListMembers) -> Members: ...

    @operation("auth.changeMember", budget=Budget.AUTH, repeatable=False)
    async def change_member(self, command: ChangeMember) -> Member: ...

    @operation("auth.invite", budget=Budget.AUTH, repeatable=False)
    async def invite(self, command: Invite) -> NewInvitation: ...

    @operation("auth.listInvitations", budget=Budget.AUTH, repeatable=True)
    async def list_invitations(self, query: ListInvitations) -> Invitations: ...

    @operation("auth.revokeInvitation", budget=Budget.AUTH, repeatable=False)
    async def revoke_invitation(self, command: RevokeInvitation) -> Done: ...

    @operation("auth.changeOrganization", budget=Budget.AUTH, repeatable=False)
    async def change_organization(self, command: ChangeOrganization) -> Organization: ...
