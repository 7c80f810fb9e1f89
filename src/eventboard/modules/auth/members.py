"""Members of an organization: advanced-alchemy's repository and service, used within one session."""

from typing import Any
from uuid import UUID

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from msgspec import UNSET
from sqlalchemy import func, select
from sqlalchemy.orm import contains_eager

from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import Principal, Role
from eventboard.modules.auth.contract import Member, MemberList, MemberPatch, PageQuery
from eventboard.modules.auth.models import Membership, User
from eventboard.modules.auth.pages import CursorPages, invalid_cursor, rows_shown
from eventboard.modules.auth.repository import ROLE_IN_FORCE
from eventboard.modules.auth.session_issuer import session_ended

# By last and first name.
_PAGES = CursorPages("members", User.last_name, User.first_name, User.id)
# advanced-alchemy 1.12 has SQLAlchemy 2.0's types of statements.
_WITH_USER: Any = select(Membership).join(Membership.user).options(contains_eager(Membership.user))


class MemberRepository(SQLAlchemyAsyncRepository[Membership]):
    model_type = Membership

    async def lock_admins(self, organization_id: UUID) -> list[UUID]:
        """The active ADMINs, who stay so until the transaction ends."""
        admins = await self.session.scalars(
            select(Membership.user_id)
            .where(Membership.organization_id == organization_id, Membership.role == Role.ADMIN, Membership.active)
            .order_by(Membership.user_id)
            .with_for_update()
        )
        return list(admins)

    async def role_in_force(self, caller: Principal) -> str | None:
        """None where the membership or the session has ended."""
        who = {"organization_id": caller.organization_id, "user_id": caller.user_id, "session_id": caller.session_id}
        role: str | None = await self.session.scalar(ROLE_IN_FORCE, who)
        return role


class MemberService(SQLAlchemyAsyncRepositoryService[Membership, MemberRepository]):
    repository_type = MemberRepository

    async def require_admin(self, caller: Principal) -> None:
        """Checked in the transaction itself: caches keep a revoked role for some seconds, in which its former ADMIN
        could restore it.
        """
        role = await self.repository.role_in_force(caller)
        if role is None:
            raise session_ended()
        if role != Role.ADMIN:
            raise not_admin()

    async def page(self, organization_id: UUID, query: PageQuery | None) -> MemberList:
        position, after = _PAGES.position(organization_id, query), None
        if position is not None:
            last = await self.get_one_or_none(organization_id=organization_id, user_id=position.id)
            if last is None:
                raise invalid_cursor()
            after = (last.user.last_name, last.user.first_name, last.user_id)
        rows = await self.get_many(
            Membership.organization_id == organization_id,
            _PAGES.rows(after, rows_shown(query) + 1),
            statement=_WITH_USER,
        )
        shown, meta = _PAGES.page(organization_id, query, rows, lambda row: (row.user_id,))
        return MemberList(data=[_member(row) for row in shown], meta=meta)

    async def change(self, caller: Principal, user_id: UUID, patch: MemberPatch) -> Member:
        # Of two ADMINs that demote each other at once the second waits here, and is no ADMIN then.
        admins = await self.repository.lock_admins(caller.organization_id)
        await self.require_admin(caller)
        membership = await self.repository.get_one_or_none(
            organization_id=caller.organization_id, user_id=user_id, with_for_update={"of": Membership}
        )
        if membership is None:
            raise ServiceError(Code.NOT_FOUND, "There is no such member.")
        role = membership.role if patch.role is UNSET else patch.role
        active = membership.active if patch.active is UNSET else patch.active
        if admins == [user_id] and not (active and role == Role.ADMIN):
            raise ServiceError(
                Code.LAST_ADMIN,
                "This is the last active ADMIN of the organization. Make another member an ADMIN first.",
            )
        if (role, active) != (membership.role, membership.active):
            membership.role, membership.active, membership.updated_at = role, active, func.now()
            membership = await self.update(membership)
        return _member(membership)


def not_admin() -> ServiceError:
    return ServiceError(Code.FORBIDDEN, "Only an ADMIN may do this.")


def _member(membership: Membership) -> Member:
    user = membership.user
    return Member(
        id=user.id,
        email=user.email,
        first_name=user.first_name,
        last_name=user.last_name,
        role=Role(membership.role),
        active=membership.active,
        joined_at=membership.created_at,
        updated_at=membership.updated_at,
    )
