"""The OpenAPI document on accounts and sessions."""

from eventboard.core.errors import Code
from eventboard.gateway.openapi import examples
from eventboard.gateway.openapi.operation import Answer, Operation
from eventboard.modules.auth.contract import PageQuery

_TAG = "Accounts"
_WAYS_TO_JOIN = (
    "`organizationName` founds an organization, with you as its ADMIN; names are compared by their letters, digits and "
    "combining marks alone. `organizationId` joins one as USER, where it lets anybody in; `invitationToken` joins the "
    "one that invited this e-mail address."
)

OPERATIONS = {
    "login": Operation(
        tag=_TAG,
        summary="Log in",
        description=(
            "The example is an account of the demo data. If you belong to several organizations, `organizationId` "
            "chooses one; by default it is the one used last."
        ),
        body=examples.LOGIN,
        answers={200: Answer(description="Logged in.", example=examples.LOGGED_IN)},
        problems=(Code.INVALID_CREDENTIALS, Code.FORBIDDEN),
        public=True,
    ),
    "signup": Operation(
        tag=_TAG,
        summary="Sign up",
        description=_WAYS_TO_JOIN,
        body=examples.SIGNUP,
        answers={201: Answer(description="The new account, logged in.", example=examples.SIGNED_UP)},
        problems=(Code.FORBIDDEN, Code.ALREADY_EXISTS),
        public=True,
    ),
    "refresh": Operation(
        tag=_TAG,
        summary="Refresh",
        description=(
            "A new pair of tokens for a session. A refresh token works once: if it is sent again, all sessions of this "
            "log-in end, since the server can't tell a thief from its owner."
        ),
        body=examples.REFRESH,
        answers={200: Answer(description="The new pair.", example=examples.REFRESHED)},
        problems=(Code.INVALID_TOKEN, Code.FORBIDDEN),
        public=True,
    ),
    "logout": Operation(
        tag=_TAG,
        summary="Log out",
        description=(
            "Ends the refresh token's session and all others of the same log-in. Their access tokens are rejected "
            "within 5 seconds."
        ),
        body=examples.LOGOUT,
        answers={204: Answer(description="It has ended.")},
        public=True,
        limited=False,
    ),
    "getMe": Operation(
        tag=_TAG,
        summary="Who am I",
        description="The caller, and the organization that the access token is for.",
        answers={200: Answer(description="The caller.", example=examples.ME)},
    ),
    "joinOrganization": Operation(
        tag=_TAG,
        summary="Join an organization",
        description=f"Makes you a member of another organization and logs you in there, like switch. {_WAYS_TO_JOIN}",
        body=examples.CHOICE,
        answers={200: Answer(description="You are a member, and logged in there.", example=examples.JOINED)},
        problems=(Code.FORBIDDEN, Code.ALREADY_EXISTS),
    ),
    "switchOrganization": Operation(
        tag=_TAG,
        summary="Switch organization",
        description=(
            "Logs you in to another organization that you are a member of. The new session belongs to the same "
            "log-in as the old one: both stay valid, and they end together."
        ),
        body=examples.SWITCH,
        answers={200: Answer(description="Logged in there.", example=examples.SWITCHED)},
        problems=(Code.FORBIDDEN,),
    ),
    "changePassword": Operation(
        tag=_TAG,
        summary="Change the password",
        description="It ends all your other sessions.",
        body=examples.PASSWORD_CHANGE,
        answers={204: Answer(description="The password is changed.")},
        problems=(Code.FORBIDDEN,),
    ),
    "listSessions": Operation(
        tag=_TAG,
        summary="List your sessions",
        description=(
            "Those that can still be refreshed, in all your organizations. A session that was begun by switch or join "
            "has the `createdAt` of its log-in, and ends with it."
        ),
        query=PageQuery,
        answers={200: Answer(description="One page, the most recently used first.", example=examples.SESSIONS)},
        problems=(Code.INVALID_CURSOR,),
    ),
    "endSession": Operation(
        tag=_TAG,
        summary="End a session",
        description=(
            "Ends one of your sessions and all others of the same log-in, such as those begun by switch or join. Their "
            "access tokens are rejected within 5 seconds."
        ),
        path=("The session's id.", str(examples.SESSIONS.data[0].id)),
        answers={204: Answer(description="It has ended.")},
        problems=(Code.NOT_FOUND,),
    ),
    "logoutEverywhere": Operation(
        tag=_TAG,
        summary="Log out everywhere",
        description="Ends all your sessions in all your organizations, including this one.",
        answers={204: Answer(description="They have ended.")},
    ),
    "getKeys": Operation(
        tag=_TAG,
        summary="Public keys",
        description="The keys that verify access tokens. They may be cached for as long as `Cache-Control` says.",
        answers={200: Answer(description="A JSON Web Key Set.", example=examples.KEYS)},
        public=True,
        limited=False,
    ),
}
