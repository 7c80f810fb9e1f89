"""What an ADMIN does: members, invitations, the organization itself."""

from litestar import delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from eventboard.gateway import examples
from eventboard.gateway.guards import Authenticate
from eventboard.gateway.openapi import CALL_PROBLEMS, UNKNOWN_PARAMETER
from eventboard.gateway.replies import json_reply, no_content
from eventboard.gateway.requests import JSON, MERGE_PATCH, AnyRequest, body, id_in_path, no_query
from eventboard.modules.auth.contract import (
    Auth,
    ChangeMember,
    ChangeOrganization,
    InvitationDraft,
    Invite,
    ListInvitations,
    ListMembers,
    MemberPatch,
    OrganizationPatch,
    RevokeInvitation,
)
from eventboard.platform.errors import Code, FieldError, ServiceError
from eventboard.platform.openapi import Answer, Body, Operation, Parameter

_NOT_ADMIN = ServiceError(Code.FORBIDDEN, "Only an ADMIN may do this.")
_NO_MEMBER = "There is no such member."
_NO_INVITATION = "There is no such invitation that could be revoked."
_BAD_FIELD = ServiceError(
    Code.INVALID_REQUEST, "Not valid: /role.", (FieldError("/role", "Invalid enum value 'OWNER'."),)
)
_PATCH_TYPES = (JSON, MERGE_PATCH)


def member_routes(auth: Auth, authenticated: Authenticate) -> list[HTTPRouteHandler]:
    @get(
        "/members",
        operation=Operation(
            id="listMembers",
            summary="List the members",
            description="Everybody who is a member of your organization, or was one.",
            tag="Members",
            answers={200: Answer(description="By last and first name.", example=examples.MEMBERS)},
            problems=(UNKNOWN_PARAMETER, _NOT_ADMIN, *CALL_PROBLEMS),
        ),
    )
    async def members(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        return json_reply(await auth.list_members(ListMembers(actor=actor)))

    @patch(
        "/members/{id:str}",
        operation=Operation(
            id="changeMember",
            summary="Change a member",
            description=(
                "Their role, or whether they may come in. It holds within 5 seconds, for tokens that were issued "
                "before, too. The last active ADMIN can't be demoted or switched off."
            ),
            tag="Members",
            path=(Parameter("id", "The person's id.", {"type": "string", "format": "uuid"}),),
            body=Body(example=examples.MEMBER_PATCH, media_types=_PATCH_TYPES),
            answers={200: Answer(description="The member as it is now.", example=examples.MEMBER)},
            problems=(
                _BAD_FIELD,
                _NOT_ADMIN,
                ServiceError(Code.NOT_FOUND, _NO_MEMBER),
                ServiceError(Code.LAST_ADMIN, "An organization needs an active ADMIN, and this is the last."),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def change_member(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        changes = await body(request, MemberPatch)
        command = ChangeMember(actor=actor, user_id=id_in_path(request, _NO_MEMBER), patch=changes)
        return json_reply(await auth.change_member(command))

    @post(
        "/invitations",
        operation=Operation(
            id="invite",
            summary="Invite somebody",
            description=(
                "The token is told this once, and sent to the address. It works once, for that address, for 7 days."
            ),
            tag="Members",
            body=Body(example=examples.INVITATION_DRAFT),
            answers={201: Answer(description="The invitation, with its token.", example=examples.NEW_INVITATION)},
            problems=(
                _BAD_FIELD,
                _NOT_ADMIN,
                ServiceError(
                    Code.ALREADY_EXISTS,
                    "This person is a member, or was one.",
                    (FieldError("/email", "This person is a member, or was one."),),
                ),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def invite(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        command = Invite(actor=actor, draft=await body(request, InvitationDraft))
        return json_reply(await auth.invite(command), status=201, secret=True)

    @get(
        "/invitations",
        operation=Operation(
            id="listInvitations",
            summary="List the invitations",
            description="All of your organization, and what became of them.",
            tag="Members",
            answers={200: Answer(description="The newest first.", example=examples.INVITATIONS)},
            problems=(UNKNOWN_PARAMETER, _NOT_ADMIN, *CALL_PROBLEMS),
        ),
    )
    async def invitations(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        return json_reply(await auth.list_invitations(ListInvitations(actor=actor)))

    @delete(
        "/invitations/{id:str}",
        status_code=200,
        operation=Operation(
            id="revokeInvitation",
            summary="Revoke an invitation",
            description="Its token is worth nothing from now on. One that was used can't be taken back.",
            tag="Members",
            path=(Parameter("id", "The invitation's id.", {"type": "string", "format": "uuid"}),),
            answers={204: Answer(description="It is revoked.")},
            problems=(
                UNKNOWN_PARAMETER,
                _NOT_ADMIN,
                ServiceError(Code.NOT_FOUND, _NO_INVITATION),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def revoke_invitation(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        invitation_id = id_in_path(request, _NO_INVITATION)
        await auth.revoke_invitation(RevokeInvitation(actor=actor, invitation_id=invitation_id))
        return no_content()

    @patch(
        "/organization",
        operation=Operation(
            id="changeOrganization",
            summary="Change the organization",
            description="Its name, or whether anybody may join it by its id.",
            tag="Members",
            body=Body(example=examples.ORGANIZATION_PATCH, media_types=_PATCH_TYPES),
            answers={200: Answer(description="The organization as it is now.", example=examples.ORGANIZATION)},
            problems=(
                _BAD_FIELD,
                _NOT_ADMIN,
                ServiceError(
                    Code.ALREADY_EXISTS,
                    "There is an organization of this name.",
                    (FieldError("/name", "There is an organization of this name."),),
                ),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def change_organization(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        command = ChangeOrganization(actor=actor, patch=await body(request, OrganizationPatch))
        return json_reply(await auth.change_organization(command))

    return [members, change_member, invite, invitations, revoke_invitation, change_organization]
