"""The auth module: each operation of its contract, by the service that does it."""

from eventboard.db.database import Database
from eventboard.db.session import SessionFactory
from eventboard.identity.access_tokens import PublicKeys, Verify
from eventboard.modules.auth.accounts import AccountsService
from eventboard.modules.auth.administration import Administration
from eventboard.modules.auth.contract import GetKeys
from eventboard.modules.auth.limits import Limits
from eventboard.modules.auth.mail import Mail
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.auth.session_issuer import Bounds, Lifetimes, SessionIssuer
from eventboard.modules.auth.sessions import SessionsService
from eventboard.modules.auth.tokens import TokenIssuer


class AuthService:
    def __init__(
        self,
        database: Database,
        orm_sessions: SessionFactory,
        passwords: Passwords,
        issuer: TokenIssuer,
        verify: Verify,
        mail: Mail,
        lifetimes: Lifetimes,
        limits: Limits,
        bounds: Bounds,
        *,
        address: str,
    ) -> None:
        """`address`: where people reach EventBoard, for mails; empty if that isn't known."""
        session_issuer = SessionIssuer(issuer, lifetimes, limits, bounds)
        accounts = AccountsService(database, passwords, verify, limits, session_issuer)
        sessions = SessionsService(database, verify, limits, lifetimes, session_issuer)
        administration = Administration(orm_sessions, verify, mail, lifetimes, limits, bounds, address=address)
        self._issuer = issuer

        self.signup = accounts.signup
        self.login = accounts.login
        self.get_me = accounts.get_me
        self.validate_user = accounts.validate_user
        self.join = accounts.join
        self.switch = accounts.switch
        self.change_password = accounts.change_password

        self.refresh = sessions.refresh
        self.logout = sessions.logout
        self.list_sessions = sessions.list_sessions
        self.end_session = sessions.end_session

        self.list_members = administration.list_members
        self.change_member = administration.change_member
        self.invite = administration.invite
        self.list_invitations = administration.list_invitations
        self.revoke_invitation = administration.revoke_invitation
        self.change_organization = administration.change_organization

        self.lease = limits.lease

    async def keys(self, query: GetKeys) -> PublicKeys:
        return self._issuer.public_keys
