"""What an ADMIN does: members, invitations, the organization itself."""

from typing import Any

import asyncpg
from msgspec import UNSET

from eventboard.modules.auth import store
from eventboard.modules.auth.contract import (
    ChangeMember,
    ChangeOrganization,
    Done,
    Invitation,
    Invitations,
    InvitationState,
    Invite,
    ListInvitations,
    ListMembers,
    Member,
    Members,
    NewInvitation,
    Organization,
    RevokeInvitation,
)
from eventboard.modules.auth.mail import invitation
from eventboard.modules.auth.names import email_key, name_key
from eventboard.modules.auth.opaque import fingerprint, new_invitation_token
from eventboard.modules.auth.organizations import taken
from eventboard.modules.auth.part import Part
from eventboard.modules.auth.rules import email_errors, refuse
from eventboard.platform.errors import Code, ServiceError, invalid
from eventboard.platform.identity import Role
from eventboard.platform.ids import uuid7


class Membership(Part):
    async def list_members(self, query: ListMembers) -> Members:
        caller = await self._admin(query.actor)
        async with self._database.reading(caller.organization_id, caller.user_id) as connection:
            rows = await connection.all(store.MEMBERS, organization_id=caller.organization_id)
        return Members(data=[_member(row) for row in rows])

    async def change_member(self, command: ChangeMember) -> Member:
        caller = await self._admin(command.actor)
        patch = command.patch
        who = {"organization_id": caller.organization_id, "user_id": command.user_id}
        async with self._database.transaction(caller.organization_id, caller.user_id) as connection:
            # Two ADMINs that demote each other at once: the second waits here, and finds itself the last.
            admins = [row["user_id"] for row in await connection.all(store.LOCK_ADMINS, **who)]
            await self._still_admin(connection, caller)
            before = await connection.one(store.LOCK_MEMBERSHIP, **who)
            if before is None:
                raise ServiceError(Code.NOT_FOUND, "There is no such member.")
            role = before["role"] if patch.role is UNSET else patch.role
            active = before["active"] if patch.active is UNSET else patch.active
            if admins == [command.user_id] and not (active and role == Role.ADMIN):
                raise ServiceError(Code.LAST_ADMIN, "An organization needs an active ADMIN, and this is the last.")
            if (role, active) != (before["role"], before["active"]):
                await connection.run(store.SET_MEMBERSHIP, **who, role=role, active=active)
            (row,) = await connection.all(store.ONE_MEMBER, **who)
        return _member(row)

    async def invite(self, command: Invite) -> NewInvitation:
        caller = await self._admin(command.actor)
        email, token = email_key(command.draft.email), new_invitation_token(caller.organization_id)
        refuse(email_errors("/email", email))
        async with self._database.transaction(caller.organization_id, caller.user_id) as connection:
            await self._still_admin(connection, caller)
            if await connection.one(store.MEMBER_BY_EMAIL, organization_id=caller.organization_id, email=email):
                raise taken("/email", "This person is a member, or was one.")
            (row,) = await connection.all(
                store.ADD_INVITATION,
                organization_id=caller.organization_id,
                id=uuid7(),
                email=email,
                role=command.draft.role,
                hash=fingerprint(token),
                invited_by_id=caller.user_id,
                lifetime=self._lifetimes.invitation,
            )
            organization = await connection.one(store.ORGANIZATION, organization_id=caller.organization_id)
        name = organization["name"] if organization else ""
        await self._mail.send(
            invitation(
                to=email,
                inviter=caller.name,
                organization=name,
                role=command.draft.role,
                token=token,
                expires_at=row["expires_at"],
            )
        )
        return NewInvitation(**_invitation(row), token=token)

    async def list_invitations(self, query: ListInvitations) -> Invitations:
        caller = await self._admin(query.actor)
        async with self._database.reading(caller.organization_id, caller.user_id) as connection:
            rows = await connection.all(store.INVITATIONS, organization_id=caller.organization_id)
        return Invitations(data=[Invitation(**_invitation(row)) for row in rows])

    async def revoke_invitation(self, command: RevokeInvitation) -> Done:
        """A used one can't be taken back: it is not found, like one that never was."""
        caller = await self._admin(command.actor)
        async with self._database.transaction(caller.organization_id, caller.user_id) as connection:
            await self._still_admin(connection, caller)
            revoked = await connection.one(
                store.REVOKE_INVITATION, organization_id=caller.organization_id, id=command.invitation_id
            )
        if revoked is None:
            raise ServiceError(Code.NOT_FOUND, "There is no such invitation that could be revoked.")
        return Done()

    async def change_organization(self, command: ChangeOrganization) -> Organization:
        caller = await self._admin(command.actor)
        patch = command.patch
        if patch.name is not UNSET and not name_key(patch.name):
            raise invalid("/name", "A name needs a letter or a digit.")
        async with self._database.transaction(caller.organization_id, caller.user_id) as connection:
            await self._still_admin(connection, caller)
            (before,) = await connection.all(store.LOCK_ORGANIZATION, organization_id=caller.organization_id)
            name = before["name"] if patch.name is UNSET else patch.name.strip()
            open_signup = before["open_signup"] if patch.open_signup is UNSET else patch.open_signup
            if (name, open_signup) == (before["name"], before["open_signup"]):
                return Organization(**before)
            try:
                (row,) = await connection.all(
                    store.SET_ORGANIZATION,
                    organization_id=caller.organization_id,
                    new_name=name,
                    name_key=name_key(name),
                    new_open_signup=open_signup,
                )
            except asyncpg.UniqueViolationError:
                raise taken("/name", "There is an organization of this name.") from None
        return Organization(**row)


def _member(row: Any) -> Member:
    return Member(**{**row, "role": Role(row["role"])})


def _invitation(row: Any) -> dict[str, Any]:
    return {**row, "role": Role(row["role"]), "state": InvitationState(row["state"])}
