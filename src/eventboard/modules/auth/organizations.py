"""Organizations: advanced-alchemy's repository and service, used within one session."""

from uuid import UUID

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService
from msgspec import UNSET
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from eventboard.modules.auth import contract
from eventboard.modules.auth.contract import OrganizationPatch
from eventboard.modules.auth.joining import already_exists
from eventboard.modules.auth.models import Organization
from eventboard.modules.auth.names import name_key


class OrganizationRepository(SQLAlchemyAsyncRepository[Organization]):
    model_type = Organization


class OrganizationService(SQLAlchemyAsyncRepositoryService[Organization, OrganizationRepository]):
    """Made with `wrap_exceptions=False`: wrapped, a name that is taken can't be told from a bug."""

    repository_type = OrganizationRepository

    async def change(self, organization_id: UUID, patch: OrganizationPatch) -> contract.Organization:
        organization = await self.repository.get(organization_id, with_for_update=True)
        name = organization.name if patch.name is UNSET else patch.name.strip()
        open_signup = organization.open_signup if patch.open_signup is UNSET else patch.open_signup
        if (name, open_signup) != (organization.name, organization.open_signup):
            organization.name, organization.name_key = name, name_key(name)
            organization.open_signup, organization.updated_at = open_signup, func.now()
            try:
                organization = await self.update(organization)
            except IntegrityError:
                raise already_exists(
                    "/name", "There is another organization with this name. Choose another name."
                ) from None
        return contract.Organization(
            id=organization.id,
            name=organization.name,
            slug=organization.slug,
            open_signup=organization.open_signup,
            created_at=organization.created_at,
            updated_at=organization.updated_at,
        )
