"""The auth module by itself, on a migrated database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventboard.db.database import Database
from eventboard.db.session import SessionFactory
from eventboard.identity.access_tokens import PublicKeys, TokenVerifier
from eventboard.modules.auth.counters import DatabaseCounters
from eventboard.modules.auth.limits import Limits, Rules
from eventboard.modules.auth.mail import PrintedMail
from eventboard.modules.auth.passwords import Passwords
from eventboard.modules.auth.service import AuthService
from eventboard.modules.auth.session_issuer import Bounds, Lifetimes
from eventboard.modules.auth.tokens import TokenIssuer
from tests.support.keys import OneKey
from tests.support.limits import no_rules
from tests.support.processes import PATIENCE


@asynccontextmanager
async def auth_alone(database_url: str, *, memory_kib: int, rules: Rules | None = None) -> AsyncIterator[AuthService]:
    """`memory_kib` is a hash's: with 4,096 it takes some milliseconds, with 8 next to nothing."""
    database = Database(database_url, role="eventboard_auth", size=2, connect_timeout=PATIENCE)
    sessions = SessionFactory(database_url, role="eventboard_auth", connect_timeout=PATIENCE)
    passwords = Passwords(memory_kib=memory_kib, iterations=1, workers=1, queue=10)
    issuer = TokenIssuer(OneKey(), issuer="test", audience="test", lifetime=60)

    async def fetch_keys() -> PublicKeys:
        return issuer.public_keys

    await database.open()
    verify = TokenVerifier(fetch_keys, issuer="test", audience="test")
    lifetimes = Lifetimes(session=60, longest_session=60, invitation=60)
    limits = Limits(DatabaseCounters(database), rules or no_rules())
    yield AuthService(
        database,
        sessions,
        passwords,
        issuer,
        verify,
        PrintedMail(),
        lifetimes,
        limits,
        Bounds(sessions=100, pending_invitations=1000),
        address="",
    )
    await sessions.close()
    await database.close()
    passwords.close()
