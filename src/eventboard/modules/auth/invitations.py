"""Invitations to an organization: advanced-alchemy's repository and service, used within one session."""

from datetime import timedelta
from uuid import UUID

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from sqlalchemy import func, select, update

from eventboard.core.errors import Code, ServiceError
from eventboard.core.ids import uuid7
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.auth import contract
from eventboard.modules.auth.contract import InvitationList, InvitationState, PageQuery
from eventboard.modules.auth.models import Invitation
from eventboard.modules.auth.opaque_tokens import fingerprint
from eventboard.modules.auth.pages import CursorPages, rows_shown
from eventboard.modules.auth.repository import PENDING

# The newest first.
_PAGES = CursorPages("invitations", Invitation.created_at, Invitation.id, descending=True, timed=True)


class InvitationRepository(SQLAlchemyAsyncRepository[Invitation]):
    model_type = Invitation

    async def revoke_pending(self, organization_id: UUID, emails: list[str]) -> None:
        await self.session.execute(
            update(Invitation)
            .where(Invitation.organization_id == organization_id, Invitation.email.in_(emails), *PENDING)
            .values(revoked_at=func.now())
        )

    async def revoke(self, organization_id: UUID, invitation_id: UUID) -> bool:
        """False where there is none that could be revoked."""
        revoked = await self.session.scalar(
            update(Invitation)
            .where(
                Invitation.organization_id == organization_id,
                Invitation.id == invitation_id,
                Invitation.used_at.is_(None),
                Invitation.revoked_at.is_(None),
            )
            .values(revoked_at=func.now())
            .returning(Invitation.id)
        )
        return revoked is not None

    async def pending(self, organization_id: UUID) -> tuple[int, float]:
        """How many there are, and the seconds until the first of them expires."""
        first_expires_in = func.extract("epoch", func.min(Invitation.expires_at) - func.now())
        result = await self.session.execute(
            select(func.count(), first_expires_in).where(Invitation.organization_id == organization_id, *PENDING)
        )
        pending, seconds = result.one()
        return pending, float(seconds or 0)


class InvitationService(SQLAlchemyAsyncRepositoryService[Invitation, InvitationRepository]):
    repository_type = InvitationRepository

    async def page(self, organization_id: UUID, query: PageQuery | None) -> InvitationList:
        position = _PAGES.position(organization_id, query)
        after = None if position is None else (position.at, position.id)
        rows = await self.get_many(
            Invitation.organization_id == organization_id, _PAGES.rows(after, rows_shown(query) + 1)
        )
        shown, meta = _PAGES.page(organization_id, query, rows, lambda row: (row.id, row.created_at))
        return InvitationList(data=[_invitation(row) for row in shown], meta=meta)

    async def replace(
        self, caller: Principal, email: str, role: Role, token: str, *, spellings: list[str], lifetime: int
    ) -> Invitation:
        """A new invitation in place of those that are pending for the same person. `lifetime` is in seconds."""
        await self.repository.revoke_pending(caller.organization_id, spellings)
        return await self.create(
            Invitation(
                organization_id=caller.organization_id,
                id=uuid7(),
                email=email,
                role=role,
                hash=fingerprint(token),
                invited_by_id=caller.user_id,
                expires_at=func.now() + timedelta(seconds=lifetime),
            )
        )

    async def revoke(self, organization_id: UUID, invitation_id: UUID) -> None:
        """A used one can't be revoked: it is not found, like one that never was."""
        if not await self.repository.revoke(organization_id, invitation_id):
            raise ServiceError(Code.NOT_FOUND, "There is no such invitation that could be revoked.")


def _invitation(row: Invitation) -> contract.Invitation:
    return contract.Invitation(
        id=row.id,
        email=row.email,
        role=Role(row.role),
        state=InvitationState(row.state),
        created_at=row.created_at,
        expires_at=row.expires_at,
        invited_by_id=row.invited_by_id,
        invited_by_name=f"{row.invited_by.first_name} {row.invited_by.last_name}",
        usable=row.state == InvitationState.PENDING and row.inviter_is_admin,
    )
