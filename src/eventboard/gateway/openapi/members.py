"""The OpenAPI document on members, invitations and the organization."""

from eventboard.core.errors import Code
from eventboard.gateway.openapi import examples
from eventboard.gateway.openapi.operation import Answer, Operation
from eventboard.modules.auth.contract import PageQuery

_TAG = "Members"

OPERATIONS = {
    "listMembers": Operation(
        tag=_TAG,
        summary="List the members",
        description="All current and former members of your organization.",
        query=PageQuery,
        answers={200: Answer(description="One page, by last and first name.", example=examples.MEMBERS)},
        problems=(Code.FORBIDDEN, Code.INVALID_CURSOR),
    ),
    "changeMember": Operation(
        tag=_TAG,
        summary="Change a member",
        description=(
            "Changes a member's role, or whether they may log in. It takes effect within 5 seconds, also for tokens "
            "that were issued before. The last active ADMIN can't be demoted or deactivated."
        ),
        path=("The person's id.", str(examples.MEMBER.id)),
        body=examples.MEMBER_PATCH,
        answers={200: Answer(description="The member as it is now.", example=examples.MEMBER)},
        problems=(Code.FORBIDDEN, Code.NOT_FOUND, Code.LAST_ADMIN),
    ),
    "invite": Operation(
        tag=_TAG,
        summary="Invite somebody",
        description=(
            "The token is shown only here, and mailed to the address if the server sends mail. It works once, for that "
            "address, for 7 days and as long as you are an ADMIN. A pending invitation of the same address is revoked."
        ),
        body=examples.INVITATION_DRAFT,
        answers={201: Answer(description="The invitation, with its token.", example=examples.NEW_INVITATION)},
        problems=(Code.FORBIDDEN, Code.ALREADY_EXISTS),
    ),
    "listInvitations": Operation(
        tag=_TAG,
        summary="List the invitations",
        description=(
            "Your organization's invitations, who sent them, and what became of them. `usable` is false once the "
            "sender is no longer an ADMIN: then the invitation lets nobody in."
        ),
        query=PageQuery,
        answers={200: Answer(description="One page, the newest first.", example=examples.INVITATIONS)},
        problems=(Code.FORBIDDEN, Code.INVALID_CURSOR),
    ),
    "revokeInvitation": Operation(
        tag=_TAG,
        summary="Revoke an invitation",
        description="Its token no longer works. An invitation that was used can't be revoked.",
        path=("The invitation's id.", str(examples.NEW_INVITATION.id)),
        answers={204: Answer(description="It is revoked.")},
        problems=(Code.FORBIDDEN, Code.NOT_FOUND),
    ),
    "changeOrganization": Operation(
        tag=_TAG,
        summary="Change the organization",
        description="Changes its name, or whether anybody may join it by its id.",
        body=examples.ORGANIZATION_PATCH,
        answers={200: Answer(description="The organization as it is now.", example=examples.ORGANIZATION)},
        problems=(Code.FORBIDDEN, Code.ALREADY_EXISTS),
    ),
}
