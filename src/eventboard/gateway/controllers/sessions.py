"""The caller's own sessions."""

from litestar import Response, delete, get, post
from litestar.status_codes import HTTP_204_NO_CONTENT

from eventboard.gateway.controllers.base import AuthenticatedController
from eventboard.gateway.request import GatewayRequest, IdInPath
from eventboard.gateway.request_parameters import parse_id
from eventboard.gateway.responses import private_response
from eventboard.modules.auth.contract import Auth, EndSession, ListSessions, PageQuery, SessionList


class SessionsController(AuthenticatedController):
    path = "/auth"
    auth: Auth

    @get(
        "/sessions",
        operation_id="listSessions",
        takes_query=True,
    )
    async def sessions(self, request: GatewayRequest) -> Response[SessionList]:
        query = ListSessions(actor=request.auth, page=request.filters(PageQuery))
        return private_response(await self.auth.list_sessions(query))

    @delete("/sessions/{id:str}", operation_id="endSession")
    async def end_session(self, request: GatewayRequest, id_: IdInPath) -> None:
        session_id = parse_id(id_, "You have no such session.")
        await self.auth.end_session(EndSession(actor=request.auth, session_id=session_id))

    @post(
        "/logout-all",
        status_code=HTTP_204_NO_CONTENT,
        operation_id="logoutEverywhere",
    )
    async def logout_all(self, request: GatewayRequest) -> None:
        await self.auth.end_session(EndSession(actor=request.auth))
