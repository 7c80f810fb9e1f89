"""The auth module at its contract: what no public call shows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import jwt
import pytest
from msgspec.structs import replace

from eventboard.core import request_context
from eventboard.core.errors import Code, ServiceError
from eventboard.identity.access_tokens import Role
from eventboard.modules.auth.contract import (
    Auth,
    ListMembers,
    LoginFrom,
    RefreshFrom,
    Session,
    SignupFrom,
    ValidateUser,
    Validity,
)
from tests.support.auth import auth_alone
from tests.support.limits import rules
from tests.support.processes import PATIENCE


@pytest.fixture
async def auth(database_url: str) -> AsyncIterator[Auth]:
    async with auth_alone(database_url, memory_kib=8) as service:
        yield service


async def founded(auth: Auth) -> Session:
    name = uuid4().hex
    command = SignupFrom(
        email=f"{name}@example.com",
        password="correct horse battery",
        first_name="Nia",
        last_name="New",
        organization_name=name,
    )
    return await auth.signup(command)


async def founder(auth: Auth) -> ValidateUser:
    """What asks about a new user in the organization they founded."""
    session = await founded(auth)
    claims = jwt.decode(session.access_token, options={"verify_signature": False})
    return ValidateUser(
        user_id=session.user.id, organization_id=session.user.organization_id, session_id=UUID(claims["sid"])
    )


async def execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *arguments)
    await connection.close()


async def test_validate_user(auth: Auth, database_url: str) -> None:
    """The role in force, as soon as it has changed, and nothing once the membership has ended."""
    query = await founder(auth)
    user_id = query.user_id
    assert await auth.validate_user(query) == Validity(active=True, role=Role.ADMIN)
    await execute(database_url, "UPDATE auth.memberships SET role = 'MODERATOR' WHERE user_id = $1", user_id)
    assert await auth.validate_user(query) == Validity(active=True, role=Role.MODERATOR)
    await execute(database_url, "UPDATE auth.memberships SET active = false WHERE user_id = $1", user_id)
    assert await auth.validate_user(query) == Validity(active=False)


async def test_validate_user_whose_session_is_over(auth: Auth, database_url: str) -> None:
    """Expired or ended, it isn't valid, and no cache says otherwise: this is what others' caches are filled from."""
    for over in ("expires_at = now()", "ended_at = now()"):
        query = await founder(auth)
        await execute(database_url, f"UPDATE auth.sessions SET {over} WHERE id = $1", query.session_id)
        assert await auth.validate_user(query) == Validity(active=False)


async def test_session_that_is_refreshed_for_ever(auth: Auth, database_url: str) -> None:
    """It ends when it has lived for as long as any may; until then each refresh keeps it for a while."""
    token = await founded(auth)
    session = UUID(jwt.decode(token.access_token, options={"verify_signature": False})["sid"])
    for age in ("20 seconds", "50 seconds"):
        await execute(
            database_url, "UPDATE auth.sessions SET created_at = now() - $2::text::interval WHERE id = $1", session, age
        )
        token = await auth.refresh(RefreshFrom(refresh_token=token.refresh_token))
        connection = await asyncpg.connect(database_url)
        lives = await connection.fetchval("SELECT expires_at - created_at FROM auth.sessions WHERE id = $1", session)
        await connection.close()
        assert lives == timedelta(seconds=60)
    await execute(database_url, "UPDATE auth.sessions SET expires_at = now() WHERE id = $1", session)
    with pytest.raises(ServiceError) as refusal:
        await auth.refresh(RefreshFrom(refresh_token=token.refresh_token))
    assert refusal.value.code is Code.INVALID_TOKEN


async def test_validate_user_of_another_organization(auth: Auth) -> None:
    """A membership is of one person in one organization; whatever else is asked about is inactive, not an error."""
    nia, other = await founder(auth), await founder(auth)
    for query in (
        replace(nia, organization_id=other.organization_id),
        replace(nia, organization_id=uuid4()),
        replace(nia, user_id=uuid4()),
        replace(nia, session_id=other.session_id),
        replace(nia, session_id=uuid4()),
    ):
        assert await auth.validate_user(query) == Validity(active=False)
    assert (await auth.validate_user(nia)).active


async def test_list_for_an_older_gateway(auth: Auth, database_url: str) -> None:
    """It asks for no page, and its clients couldn't ask for a second: it gets more than a page has."""
    session = await founded(auth)
    await execute(
        database_url,
        "WITH person AS (INSERT INTO auth.users (id, email, password_hash, first_name, last_name)"
        " SELECT gen_random_uuid(), gen_random_uuid() || '@example.com', '', 'A', 'B' FROM generate_series(1, 150)"
        " RETURNING id)"
        " INSERT INTO auth.memberships (organization_id, user_id, role) SELECT $1, id, 'USER' FROM person",
        session.user.organization_id,
    )
    members = await auth.list_members(ListMembers(actor=session.access_token))
    assert len(members.data) == 151
    assert not members.meta.has_next


async def test_deadline_while_a_password_is_hashed(database_url: str) -> None:
    """A password that was never judged isn't a wrong one: the owner may log in again at once."""
    # A hash of 128 MiB takes far longer than the budget of the first log-in here.
    async with auth_alone(database_url, memory_kib=131_072, rules=rules(login_failures=(1, 60))) as service:
        session = await founded(service)
        login = LoginFrom(email=session.user.email, password="correct horse battery")
        busy = asyncio.create_task(service.login(replace(login, email="nobody@example.com")))
        with request_context.budget(0.05), pytest.raises((TimeoutError, ServiceError)) as raised:
            async with asyncio.timeout(0.05):
                await service.login(login)
        # On a busy machine it may be a statement that takes so long.
        assert getattr(raised.value, "code", Code.DEADLINE_EXCEEDED) is Code.DEADLINE_EXCEEDED
        with pytest.raises(ServiceError):
            await busy
        # The failure is undone soon after: until then the log-in is one too many.
        async with asyncio.timeout(PATIENCE):
            while not await is_logged_in(service, login):  # noqa: ASYNC110 - what is waited for is in the database
                await asyncio.sleep(0.05)


async def is_logged_in(auth: Auth, login: LoginFrom) -> bool:
    with suppress(ServiceError):
        return bool(await auth.login(login))
    return False
