"""What an ADMIN does: members, invitations, the organization itself. One call is one session."""

from collections.abc import Sequence

from msgspec import UNSET

from eventboard.core.errors import FieldError, invalid
from eventboard.db.session import SessionFactory
from eventboard.identity.access_tokens import Principal, Role, Verify
from eventboard.modules.auth.contract import (
    ChangeMember,
    ChangeOrganization,
    Done,
    InvitationList,
    InvitationState,
    Invite,
    ListInvitations,
    ListMembers,
    Member,
    MemberList,
    NewInvitation,
    Organization,
    RevokeInvitation,
)
from eventboard.modules.auth.invitations import InvitationService
from eventboard.modules.auth.joining import NEEDS_A_LETTER, already_exists
from eventboard.modules.auth.limits import PENDING_INVITATIONS, Limits
from eventboard.modules.auth.mail import Mail, invitation
from eventboard.modules.auth.members import MemberService, not_admin
from eventboard.modules.auth.models import Invitation, Membership, User
from eventboard.modules.auth.names import email_key_or_typed, email_spellings, name_key
from eventboard.modules.auth.opaque_tokens import new_invitation_token
from eventboard.modules.auth.organizations import OrganizationService
from eventboard.modules.auth.session_issuer import Bounds, Lifetimes
from eventboard.modules.auth.validation import email_errors, reject


class Administration:
    def __init__(
        self,
        sessions: SessionFactory,
        verify: Verify,
        mail: Mail,
        lifetimes: Lifetimes,
        limits: Limits,
        bounds: Bounds,
        *,
        address: str,
    ) -> None:
        self._sessions = sessions
        self._verify = verify
        self._mail = mail
        self._lifetimes = lifetimes
        self._limits = limits
        self._bounds = bounds
        self._address = address

    async def list_members(self, query: ListMembers) -> MemberList:
        caller = await self._verify_admin(query.actor)
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            return await MemberService(session).page(caller.organization_id, query.page)

    async def change_member(self, command: ChangeMember) -> Member:
        caller = await self._verify_admin(command.actor)
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            return await MemberService(session).change(caller, command.user_id, command.patch)

    async def invite(self, command: Invite) -> NewInvitation:
        """One that is pending for the same person is revoked, and this one takes its place."""
        caller = await self._verify_admin(command.actor)
        reject(email_errors("/email", command.draft.email))
        email, token = email_key_or_typed(command.draft.email), new_invitation_token(caller.organization_id)
        with self._limits.attempt() as attempt:
            await self._limits.count_invitation(attempt, caller.organization_id, caller.user_id, email)
            row, organization = await attempt.undo_unless_done(self._add_invitation(caller, command, email, token))
        await self._mail.send(
            invitation(
                to=email,
                inviter=caller.name,
                organization=organization,
                role=command.draft.role,
                token=token,
                expires_at=row.expires_at,
                address=self._address,
            )
        )
        return NewInvitation(
            id=row.id,
            email=email,
            role=command.draft.role,
            state=InvitationState.PENDING,
            created_at=row.created_at,
            expires_at=row.expires_at,
            invited_by_id=caller.user_id,
            invited_by_name=caller.name,
            usable=True,
            token=token,
        )

    async def _add_invitation(
        self, caller: Principal, command: Invite, email: str, token: str
    ) -> tuple[Invitation, str]:
        """Its row, and the organization's name."""
        spellings = email_spellings(command.draft.email)
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            members, invitations = MemberService(session), InvitationService(session)
            await members.require_admin(caller)
            # Whoever invites locks the organization, so that two at once see each other's invitations.
            organization = await OrganizationService(session).repository.get(
                caller.organization_id, with_for_update={"key_share": True}
            )
            memberships = await members.get_many(
                Membership.organization_id == caller.organization_id, Membership.user.has(User.email.in_(spellings))
            )
            if memberships:
                raise already_exists("/email", _is_member(memberships))
            row = await invitations.replace(
                caller, email, command.draft.role, token, spellings=spellings, lifetime=self._lifetimes.invitation
            )
            pending, first_expires_in = await invitations.repository.pending(caller.organization_id)
            most = self._bounds.pending_invitations
            if 0 < most < pending:
                detail = (
                    f"The organization has {most} pending invitations, which is the limit. Revoke some of them first."
                )
                raise self._limits.bound_reached(
                    PENDING_INVITATIONS, most, self._lifetimes.invitation, first_expires_in, detail
                )
        return row, organization.name

    async def list_invitations(self, query: ListInvitations) -> InvitationList:
        caller = await self._verify_admin(query.actor)
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            return await InvitationService(session).page(caller.organization_id, query.page)

    async def revoke_invitation(self, command: RevokeInvitation) -> Done:
        caller = await self._verify_admin(command.actor)
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            await MemberService(session).require_admin(caller)
            await InvitationService(session).revoke(caller.organization_id, command.invitation_id)
        return Done()

    async def change_organization(self, command: ChangeOrganization) -> Organization:
        caller = await self._verify_admin(command.actor)
        if command.patch.name is not UNSET and not name_key(command.patch.name):
            raise invalid(FieldError("/name", NEEDS_A_LETTER))
        async with self._sessions.begin(caller.organization_id, caller.user_id) as session:
            await MemberService(session).require_admin(caller)
            organizations = OrganizationService(session, wrap_exceptions=False)
            return await organizations.change(caller.organization_id, command.patch)

    async def _verify_admin(self, actor: str) -> Principal:
        caller = await self._verify(actor)
        if caller.role is not Role.ADMIN:
            raise not_admin()
        return caller


def _is_member(memberships: Sequence[Membership]) -> str:
    """Two only where an earlier version took two spellings of an address for two people."""
    if any(member.active for member in memberships):
        return "This person is a member of the organization already."
    reactivate = f'PATCH /members/{memberships[0].user_id} with {{"active": true}}'
    return f"This person is a deactivated member of the organization. Reactivate them instead: {reactivate}."
