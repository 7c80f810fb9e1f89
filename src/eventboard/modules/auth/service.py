"""The auth module: everything of its contract, from its parts."""

from eventboard.modules.auth.accounts import Accounts
from eventboard.modules.auth.members import Membership
from eventboard.modules.auth.sessions import Sessions


class AuthService(Accounts, Sessions, Membership):
    pass
