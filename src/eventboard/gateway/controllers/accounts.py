"""Accounts: sign-up, log-in, tokens, and the keys that verify them."""

from litestar import Controller, Response, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT
from msgspec.structs import asdict

from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest, reject_unknown_parameters
from eventboard.gateway.request_body import StrictDTO
from eventboard.gateway.responses import private_response, secret_response, session_response
from eventboard.gateway.schemas import JsonWebKeySet
from eventboard.identity.access_tokens import KEYS_REFRESH
from eventboard.modules.auth.contract import (
    Auth,
    ChangePassword,
    GetKeys,
    GetMe,
    Join,
    Login,
    LoginFrom,
    Me,
    OrganizationChoice,
    OrganizationSwitch,
    PasswordChange,
    Refresh,
    RefreshFrom,
    Session,
    Signup,
    SignupFrom,
    Switch,
)


class PublicAccountsController(Controller):
    """For callers without an access token."""

    path = "/auth"
    before_request = staticmethod(reject_unknown_parameters)
    return_dto = None
    auth: Auth

    @post("/login", status_code=HTTP_200_OK, operation_id="login", dto=StrictDTO[Login])
    async def login(self, data: JSONBody[Login], request: GatewayRequest) -> Response[Session]:
        return session_response(await self.auth.login(LoginFrom(**asdict(data), **asdict(request.origin))))

    @post("/signup", operation_id="signup", dto=StrictDTO[Signup])
    async def signup(self, data: JSONBody[Signup], request: GatewayRequest) -> Response[Session]:
        return session_response(await self.auth.signup(SignupFrom(**asdict(data), **asdict(request.origin))))

    @post(
        "/refresh",
        status_code=HTTP_200_OK,
        operation_id="refresh",
        dto=StrictDTO[Refresh],
    )
    async def refresh(self, data: JSONBody[Refresh], request: GatewayRequest) -> Response[Session]:
        return session_response(await self.auth.refresh(RefreshFrom(**asdict(data), **asdict(request.origin))))

    @post(
        "/logout",
        status_code=HTTP_204_NO_CONTENT,
        operation_id="logout",
        dto=StrictDTO[Refresh],
    )
    async def logout(self, data: JSONBody[Refresh]) -> None:
        await self.auth.logout(data)


class KeysController(Controller):
    auth: Auth

    @get(
        "/.well-known/jwks.json",
        media_type="application/jwk-set+json",
        operation_id="getKeys",
    )
    async def keys(self) -> Response[JsonWebKeySet]:
        published = await self.auth.keys(GetKeys())
        # A new key is published for twice as long before it signs.
        headers = {"cache-control": f"public, max-age={int(KEYS_REFRESH)}"}
        return Response(JsonWebKeySet(published.keys), headers=headers, media_type="application/jwk-set+json")


class AccountController(AuthenticatedController):
    """The caller's own account."""

    path = "/auth"
    auth: Auth

    @get("/me", operation_id="getMe")
    async def me(self, request: GatewayRequest) -> Response[Me]:
        return private_response(await self.auth.get_me(GetMe(actor=request.auth)))

    @post(
        "/switch",
        status_code=HTTP_200_OK,
        operation_id="switchOrganization",
        dto=StrictDTO[OrganizationSwitch],
    )
    async def switch(self, request: GatewayRequest, data: JSONBody[OrganizationSwitch]) -> Response[Session]:
        return secret_response(await self.auth.switch(Switch(actor=request.auth, chosen=data)))

    @post(
        "/join",
        status_code=HTTP_200_OK,
        operation_id="joinOrganization",
        dto=StrictDTO[OrganizationChoice],
    )
    async def join(self, request: GatewayRequest, data: JSONBody[OrganizationChoice]) -> Response[Session]:
        return secret_response(await self.auth.join(Join(actor=request.auth, choice=data)))

    @post(
        "/password",
        status_code=HTTP_204_NO_CONTENT,
        operation_id="changePassword",
        dto=StrictDTO[PasswordChange],
    )
    async def change_password(self, request: GatewayRequest, data: JSONBody[PasswordChange]) -> None:
        command = ChangePassword(actor=request.auth, change=data, **asdict(request.origin))
        await self.auth.change_password(command)
