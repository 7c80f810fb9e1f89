"""Accounts: sign-up, log-in, who am I, and the keys that verify tokens."""

import msgspec
from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec.structs import asdict

from eventboard.gateway import examples
from eventboard.gateway.addresses import ClientAddress
from eventboard.gateway.guards import Authenticate
from eventboard.gateway.openapi import CALL_PROBLEMS, UNKNOWN_PARAMETER
from eventboard.gateway.replies import json_reply, no_content, session_reply
from eventboard.gateway.requests import AnyRequest, body, id_in_path, no_query
from eventboard.modules.auth.contract import (
    Auth,
    ChangePassword,
    EndSession,
    GetKeys,
    GetMe,
    Join,
    ListSessions,
    Login,
    LoginFrom,
    OrganizationChoice,
    OrganizationChosen,
    PasswordChange,
    Refresh,
    RefreshFrom,
    Signup,
    SignupFrom,
    Switch,
)
from eventboard.platform.errors import Code, FieldError, ServiceError
from eventboard.platform.identity import KEYS_REFRESH
from eventboard.platform.openapi import Answer, Body, Operation, Parameter
from eventboard.platform.quotas import Quota

# Seconds that anybody may keep the public keys; a new key is published for twice as long before it signs.
KEYS_MAX_AGE = int(KEYS_REFRESH)

_BAD_PASSWORD = ServiceError(
    Code.INVALID_REQUEST,
    "Not valid: /password.",
    (FieldError("/password", "Expected `str` of length >= 8."),),
)
_WAYS = ("organizationName", "organizationId", "invitationToken")
# What OpenAPI's types can't say: exactly one of the three, the others absent or null.
_ONE_WAY = {
    "oneOf": [
        {
            "title": title,
            "required": [one],
            "properties": {way: {"type": "string" if way == one else "null"} for way in _WAYS},
        }
        for title, one in zip(("Found an organization", "Join one by its id", "Use an invitation"), _WAYS, strict=True)
    ]
}
_WAYS_TOLD = (
    "`organizationName` founds an organization, with you as its ADMIN; names are compared by their letters and digits "
    "alone. `organizationId` joins one as USER, where it lets anybody in; `invitationToken` joins the one that invited "
    "this e-mail address."
)
_NOT_INVITED = ServiceError(Code.FORBIDDEN, "This organization can't be joined without an invitation.")
_NO_FIELD = ServiceError(
    Code.INVALID_REQUEST, "Not valid: /refreshToken.", (FieldError("/refreshToken", "It is required."),)
)
_NO_CHOICE = ServiceError(
    Code.INVALID_REQUEST,
    "The request breaks a rule.",
    (FieldError("/organizationName", "Give exactly one of organizationName, organizationId and invitationToken."),),
)
_NO_ORGANIZATION = ServiceError(
    Code.INVALID_REQUEST, "Not valid: /organizationId.", (FieldError("/organizationId", "It is required."),)
)
_BAD_REFRESH = ServiceError(
    Code.INVALID_TOKEN, "The refresh token is refused: it is unknown, spent, or its session has ended."
)
_NO_MEMBERSHIP = ServiceError(Code.FORBIDDEN, "This account has no active membership there.")
_SESSION_ID = Parameter("id", "The session's id.", {"type": "string", "format": "uuid"})


def auth_routes(auth: Auth, authenticated: Authenticate, address_of: ClientAddress) -> list[HTTPRouteHandler]:
    @post(
        "/auth/signup",
        operation=Operation(
            id="signup",
            summary="Sign up",
            description=(
                f"{_WAYS_TOLD} The password is not the e-mail address, the organization's name, or one of the most "
                "common ones."
            ),
            tag="Accounts",
            body=Body(example=examples.SIGNUP, rules=_ONE_WAY),
            answers={201: Answer(description="The new account, logged in.", example=examples.SESSION)},
            problems=(
                _BAD_PASSWORD,
                _NOT_INVITED,
                ServiceError(
                    Code.ALREADY_EXISTS,
                    "There is an account with this e-mail address.",
                    (FieldError("/email", "There is an account with this e-mail address."),),
                ),
                *CALL_PROBLEMS,
            ),
            open=True,
            limit=Quota("signup-by-address", 20, 60, 0, 30),
        ),
    )
    async def signup(request: AnyRequest) -> ASGIResponse:
        no_query(request)
        command = SignupFrom(**asdict(await body(request, Signup)), address=address_of(request))
        return session_reply(await auth.signup(command), status=201)

    @post(
        "/auth/login",
        status_code=200,
        operation=Operation(
            id="login",
            summary="Log in",
            description=(
                "The example is an account of the demo data. "
                "Give the `accessToken` of the answer to **Authorize**. Who belongs to several organizations may name "
                "one by `organizationId`; else it is the one last used."
            ),
            tag="Accounts",
            body=Body(example=examples.LOGIN),
            answers={200: Answer(description="Logged in.", example=examples.SESSION)},
            problems=(
                _BAD_PASSWORD,
                ServiceError(Code.INVALID_CREDENTIALS, "No account has this e-mail address and password."),
                _NO_MEMBERSHIP,
                *CALL_PROBLEMS,
            ),
            open=True,
            limit=Quota("login-by-address", 60, 60, 0, 30),
        ),
    )
    async def login(request: AnyRequest) -> ASGIResponse:
        no_query(request)
        command = LoginFrom(**asdict(await body(request, Login)), address=address_of(request))
        return session_reply(await auth.login(command))

    @get(
        "/auth/me",
        operation=Operation(
            id="getMe",
            summary="Who am I",
            description="The caller, and the organization that the access token is for.",
            tag="Accounts",
            answers={200: Answer(description="The caller.", example=examples.ME)},
            problems=(UNKNOWN_PARAMETER, *CALL_PROBLEMS),
        ),
    )
    async def me(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        return json_reply(await auth.get_me(GetMe(actor=actor)))

    @get(
        "/.well-known/jwks.json",
        operation=Operation(
            id="getKeys",
            summary="Public keys",
            description=f"What verifies access tokens. May be kept for {KEYS_MAX_AGE} seconds.",
            tag="Accounts",
            answers={
                200: Answer(
                    description="A JSON Web Key Set.", example=examples.KEYS, media_type="application/jwk-set+json"
                )
            },
            problems=CALL_PROBLEMS,
            open=True,
        ),
    )
    async def keys() -> ASGIResponse:
        published = await auth.keys(GetKeys())
        return ASGIResponse(
            body=msgspec.json.encode(published),
            media_type="application/jwk-set+json",
            headers={"cache-control": f"public, max-age={KEYS_MAX_AGE}"},
        )

    @post(
        "/auth/refresh",
        status_code=200,
        operation=Operation(
            id="refresh",
            summary="Refresh",
            description=(
                "A new pair of tokens for a session. The refresh token is spent: sent once more, it ends the session, "
                "since nobody can tell a thief from its owner."
            ),
            tag="Accounts",
            body=Body(example=examples.REFRESH),
            answers={200: Answer(description="The new pair.", example=examples.SESSION)},
            problems=(_NO_FIELD, _BAD_REFRESH, _NO_MEMBERSHIP, *CALL_PROBLEMS),
            open=True,
            limit=Quota("refresh-by-address", 600, 60, 0, 30),
        ),
    )
    async def refresh(request: AnyRequest) -> ASGIResponse:
        no_query(request)
        command = RefreshFrom(**asdict(await body(request, Refresh)), address=address_of(request))
        return session_reply(await auth.refresh(command))

    @post(
        "/auth/logout",
        status_code=200,
        operation=Operation(
            id="logout",
            summary="Log out",
            description="Ends the refresh token's session. Access tokens of it are refused within 5 seconds.",
            tag="Accounts",
            body=Body(example=examples.REFRESH),
            answers={204: Answer(description="It has ended, or had.")},
            problems=(_NO_FIELD, *CALL_PROBLEMS),
            open=True,
        ),
    )
    async def logout(request: AnyRequest) -> ASGIResponse:
        no_query(request)
        await auth.logout(await body(request, Refresh))
        return no_content()

    @post(
        "/auth/switch",
        status_code=200,
        operation=Operation(
            id="switchOrganization",
            summary="Switch organization",
            description="Logs you in to another organization that you are a member of.",
            tag="Accounts",
            body=Body(example=examples.SWITCH),
            answers={200: Answer(description="Logged in there.", example=examples.SESSION)},
            problems=(_NO_ORGANIZATION, _NO_MEMBERSHIP, *CALL_PROBLEMS),
        ),
    )
    async def switch(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        command = Switch(actor=actor, chosen=await body(request, OrganizationChosen))
        return json_reply(await auth.switch(command), secret=True)

    @post(
        "/auth/join",
        status_code=200,
        operation=Operation(
            id="joinOrganization",
            summary="Join an organization",
            description=f"Makes you a member of one more organization, and logs you in there. {_WAYS_TOLD}",
            tag="Accounts",
            body=Body(example=examples.CHOICE, rules=_ONE_WAY),
            answers={200: Answer(description="A member, and logged in there.", example=examples.SESSION)},
            problems=(
                _NO_CHOICE,
                _NOT_INVITED,
                ServiceError(Code.ALREADY_EXISTS, "You are a member of this organization, or were one."),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def join(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        command = Join(actor=actor, choice=await body(request, OrganizationChoice))
        return json_reply(await auth.join(command), secret=True)

    @post(
        "/auth/password",
        status_code=200,
        operation=Operation(
            id="changePassword",
            summary="Change the password",
            description="All your other sessions end.",
            tag="Accounts",
            body=Body(example=examples.PASSWORD_CHANGE),
            answers={204: Answer(description="The new password holds.")},
            problems=(
                ServiceError(
                    Code.INVALID_REQUEST,
                    "The request breaks a rule.",
                    (FieldError("/newPassword", "It is one of the most common passwords."),),
                ),
                ServiceError(Code.FORBIDDEN, "The current password is wrong."),
                *CALL_PROBLEMS,
            ),
        ),
    )
    async def change_password(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        await auth.change_password(ChangePassword(actor=actor, change=await body(request, PasswordChange)))
        return no_content()

    @get(
        "/auth/sessions",
        operation=Operation(
            id="listSessions",
            summary="List your sessions",
            description="Log-ins that can still be refreshed, in every organization of yours.",
            tag="Accounts",
            answers={200: Answer(description="The one used last comes first.", example=examples.OPEN_SESSIONS)},
            problems=(UNKNOWN_PARAMETER, *CALL_PROBLEMS),
        ),
    )
    async def sessions(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        return json_reply(await auth.list_sessions(ListSessions(actor=actor)))

    @delete(
        "/auth/sessions/{id:str}",
        status_code=200,
        operation=Operation(
            id="endSession",
            summary="End a session",
            description="One of your own. Its access tokens are refused within 5 seconds.",
            tag="Accounts",
            path=(_SESSION_ID,),
            answers={204: Answer(description="It has ended.")},
            problems=(UNKNOWN_PARAMETER, ServiceError(Code.NOT_FOUND, "You have no such session."), *CALL_PROBLEMS),
        ),
    )
    async def end_session(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        session_id = id_in_path(request, "You have no such session.")
        await auth.end_session(EndSession(actor=actor, session_id=session_id))
        return no_content()

    @post(
        "/auth/logout-all",
        status_code=200,
        operation=Operation(
            id="logoutEverywhere",
            summary="Log out everywhere",
            description="Ends all your sessions, in every organization of yours, this one included.",
            tag="Accounts",
            answers={204: Answer(description="They have ended.")},
            problems=(UNKNOWN_PARAMETER, *CALL_PROBLEMS),
        ),
    )
    async def logout_all(request: AnyRequest) -> ASGIResponse:
        actor = await authenticated(request)
        no_query(request)
        await auth.end_session(EndSession(actor=actor))
        return no_content()

    own = [me, sessions, end_session, logout_all, switch, join, change_password]
    return [login, signup, refresh, logout, keys, *own]
