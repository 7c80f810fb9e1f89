"""Members, invitations and the organization, for ADMINs."""

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody

from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest, IdInPath
from eventboard.gateway.request_body import StrictDTO
from eventboard.gateway.request_parameters import parse_id
from eventboard.gateway.responses import private_response, secret_response
from eventboard.modules.auth.contract import (
    Auth,
    ChangeMember,
    ChangeOrganization,
    InvitationDraft,
    InvitationList,
    Invite,
    ListInvitations,
    ListMembers,
    Member,
    MemberList,
    MemberPatch,
    NewInvitation,
    Organization,
    OrganizationPatch,
    PageQuery,
    RevokeInvitation,
)


class MembersController(AuthenticatedController):
    path = "/members"
    auth: Auth

    @get(operation_id="listMembers", takes_query=True)
    async def members(self, request: GatewayRequest) -> Response[MemberList]:
        query = ListMembers(actor=request.auth, page=request.filters(PageQuery))
        return private_response(await self.auth.list_members(query))

    @patch(
        "/{id:str}",
        operation_id="changeMember",
        dto=StrictDTO[MemberPatch],
    )
    async def change_member(
        self, request: GatewayRequest, id_: IdInPath, data: JSONBody[MemberPatch]
    ) -> Response[Member]:
        command = ChangeMember(actor=request.auth, user_id=parse_id(id_, "There is no such member."), patch=data)
        return private_response(await self.auth.change_member(command))


class InvitationsController(AuthenticatedController):
    path = "/invitations"
    auth: Auth

    @post(operation_id="invite", dto=StrictDTO[InvitationDraft])
    async def invite(self, request: GatewayRequest, data: JSONBody[InvitationDraft]) -> Response[NewInvitation]:
        return secret_response(await self.auth.invite(Invite(actor=request.auth, draft=data)))

    @get(
        operation_id="listInvitations",
        takes_query=True,
    )
    async def invitations(self, request: GatewayRequest) -> Response[InvitationList]:
        query = ListInvitations(actor=request.auth, page=request.filters(PageQuery))
        return private_response(await self.auth.list_invitations(query))

    @delete("/{id:str}", operation_id="revokeInvitation")
    async def revoke_invitation(self, request: GatewayRequest, id_: IdInPath) -> None:
        invitation_id = parse_id(id_, "There is no such invitation that could be revoked.")
        await self.auth.revoke_invitation(RevokeInvitation(actor=request.auth, invitation_id=invitation_id))


class OrganizationController(AuthenticatedController):
    path = "/organization"
    auth: Auth

    @patch(
        operation_id="changeOrganization",
        dto=StrictDTO[OrganizationPatch],
    )
    async def change_organization(
        self, request: GatewayRequest, data: JSONBody[OrganizationPatch]
    ) -> Response[Organization]:
        return private_response(await self.auth.change_organization(ChangeOrganization(actor=request.auth, patch=data)))
