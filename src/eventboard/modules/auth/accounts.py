"""Accounts: sign-up, log-in, the current user, joining and switching organizations, passwords."""

from typing import Any

import asyncpg

from eventboard.core.errors import Code, FieldError, ServiceError
from eventboard.core.ids import uuid7
from eventboard.db.database import Database
from eventboard.identity.access_tokens import Principal, Role, Verify, invalid_token
from eventboard.modules.auth import joining, repository
from eventboard.modules.auth.contract import (
    ChangePassword,
    Done,
    GetMe,
    Join,
    LoggedIn,
    LoginFrom,
    Me,
    OrganizationSummary,
    Session,
    SignupFrom,
    Switch,
    ValidateUser,
    Validity,
)
from eventboard.modules.auth.counters import Query
from eventboard.modules.auth.limits import Attempt, Limits, Origin
from eventboard.modules.auth.names import email_key_or_typed, email_spellings, prepared
from eventboard.modules.auth.passwords import Passwords, hash_owners
from eventboard.modules.auth.session_issuer import SessionIssuer, logged_in, person, session_ended
from eventboard.modules.auth.validation import email_errors, password_errors, reject


class AccountsService:
    def __init__(
        self, database: Database, passwords: Passwords, verify: Verify, limits: Limits, sessions: SessionIssuer
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._verify = verify
        self._limits = limits
        self._sessions = sessions

    async def signup(self, command: SignupFrom) -> LoggedIn:
        email = email_key_or_typed(command.email)
        with self._limits.attempt() as attempt:
            await self._limits.count_signup_address(attempt, _origin(command))
            return logged_in(await self._sign_up(attempt, command, email), attempt.quotas)

    async def _sign_up(self, attempt: Attempt, command: SignupFrom, email: str) -> Session:
        reject(
            email_errors("/email", command.email),
            joining.choice_errors(command),
            password_errors("/password", command.password, email, command.organization_name),
        )
        destination = await joining.resolve(self._database, command)
        reject(password_errors("/password", command.password, email, destination.name))
        await joining.precheck(self._database, destination, email)
        await self._limits.count_signup_account(attempt, email)
        password_hash = await self._passwords.hash(command.password, hash_owners(email, _origin(command)))
        user_id = uuid7()
        async with self._database.transaction(destination.organization_id, user_id) as connection:
            if destination.founding:
                await joining.create_organization(connection, destination)
            spellings = email_spellings(command.email)
            if len(spellings) > 1 and await connection.one(repository.FIND_USER, emails=spellings):
                raise _email_exists()
            try:
                await connection.run(
                    repository.ADD_USER,
                    id=user_id,
                    email=email,
                    password_hash=password_hash,
                    first_name=command.first_name.strip(),
                    last_name=command.last_name.strip(),
                )
            except asyncpg.UniqueViolationError:
                raise _email_exists() from None
            name = await joining.add_member(connection, destination, user_id, email)
            # An invitation's organization has its name only now, and any other may have changed it.
            reject(password_errors("/password", command.password, email, name))
            return await self._sessions.log_in(connection, user_id, destination.organization_id)

    async def login(self, command: LoginFrom) -> LoggedIn:
        """Repeated where the hash was changed while the password was verified."""
        session = None
        while session is None:
            session = await self._log_in(command, email_key_or_typed(command.email))
        return session

    async def _log_in(self, command: LoginFrom, email: str) -> LoggedIn | None:
        """None where the verified hash is no longer the user's."""
        origin = _origin(command)
        owners = hash_owners(email, origin)
        with self._limits.login(email, origin) as attempt:
            query = Query(self._database, repository.FIND_USER, {"emails": email_spellings(command.email)})
            user = await attempt.begin(query)
            verifying = self._passwords.verify(user["password_hash"] if user else None, command.password, owners)
            match = await attempt.undo_unless_judged(verifying)
            if not match or user is None:
                raise ServiceError(Code.INVALID_CREDENTIALS, "No account has this e-mail address and password.")
            checked_hash = user["password_hash"]
            new_hash = await attempt.undo_unless_judged(
                self._passwords.rehash(checked_hash, command.password, match, owners)
            )
            values, refresh_token = self._sessions.new_session(
                user["id"], command.organization_id, checked_hash=checked_hash, new_hash=new_hash
            )
            member = await attempt.succeed(Query(self._database, repository.START_SESSION, values, user["id"]))
            if member is None:
                return None
            session = self._sessions.started(member, values["session_id"], refresh_token)
            return logged_in(session, attempt.quotas)

    async def get_me(self, query: GetMe) -> Me:
        caller = await self._verify(query.actor)
        row = await self._member(caller)
        if not row["active"]:
            raise session_ended()
        return Me(
            **person(row),
            updated_at=row["updated_at"],
            organization=OrganizationSummary(id=row["organization_id"], name=row["name"], slug=row["slug"]),
        )

    async def _member(self, caller: Principal) -> Any:
        """The caller's user and membership, active or not. Raises `invalid-token` where the session has ended."""
        row = await self._database.row(
            caller.organization_id,
            caller.user_id,
            repository.MEMBER_OF_SESSION,
            user_id=caller.user_id,
            organization_id=caller.organization_id,
            session_id=caller.session_id,
        )
        if row is None:
            raise session_ended()
        return row

    async def validate_user(self, query: ValidateUser) -> Validity:
        row = await self._database.row(
            query.organization_id,
            query.user_id,
            repository.SESSION_STATUS,
            organization_id=query.organization_id,
            user_id=query.user_id,
            session_id=query.session_id,
        )
        return Validity(active=False) if row is None else Validity(active=True, role=Role(row["role"]))

    async def join(self, command: Join) -> Session:
        caller = await self._verify(command.actor)
        reject(joining.choice_errors(command.choice))
        destination = await joining.resolve(self._database, command.choice)
        async with self._database.reading(None) as connection:
            user = await connection.one(repository.USER_EMAIL, user_id=caller.user_id)
        if user is None:
            raise invalid_token("its account has ended")
        async with self._database.transaction(destination.organization_id, caller.user_id) as connection:
            family = await self._sessions.lock_family(connection, caller)
            if destination.founding:
                await joining.create_organization(connection, destination)
            await joining.add_member(connection, destination, caller.user_id, user["email"])
            return await self._sessions.log_in(connection, caller.user_id, destination.organization_id, family)

    async def switch(self, command: Switch) -> Session:
        caller = await self._verify(command.actor)
        organization_id = command.chosen.organization_id
        async with self._database.transaction(organization_id, caller.user_id) as connection:
            family = await self._sessions.lock_family(connection, caller)
            return await self._sessions.log_in(connection, caller.user_id, organization_id, family)

    async def change_password(self, command: ChangePassword) -> Done:
        """Ends all other sessions of the caller."""
        caller = await self._verify(command.actor)
        row = await self._member(caller)
        change = command.change
        same = prepared(change.new_password) == prepared(change.current_password)
        reject(
            [FieldError("/newPassword", "It must not be the current password. Choose another.")] if same else [],
            password_errors("/newPassword", change.new_password, row["email"], row["name"]),
        )
        origin = _origin(command)
        owners = hash_owners(row["email"], origin)
        with self._limits.attempt() as attempt:
            await self._limits.count_password_change(attempt, caller.user_id, origin)
            verifying = self._passwords.verify(row["password_hash"], change.current_password, owners)
            if not await attempt.undo_unless_judged(verifying):
                raise ServiceError(Code.FORBIDDEN, "The current password is wrong.")
            await attempt.undo_failures()
        password_hash = await self._passwords.hash(change.new_password, owners)
        async with self._database.transaction(None, caller.user_id) as connection:
            await connection.one(repository.LOCK_USER, user_id=caller.user_id)
            live = await connection.all(repository.LOCK_SESSIONS, user_id=caller.user_id)
            if caller.session_id not in [row["id"] for row in live]:
                raise session_ended()
            await connection.run(repository.SET_PASSWORD, user_id=caller.user_id, password_hash=password_hash)
            await connection.run(repository.END_OTHER_SESSIONS, user_id=caller.user_id, session_id=caller.session_id)
        return Done()


def _origin(command: SignupFrom | LoginFrom | ChangePassword) -> Origin:
    return Origin(command.address, command.shared)


def _email_exists() -> ServiceError:
    detail = (
        "There is an account with this e-mail address. Log in; an account joins more organizations by POST /auth/join."
    )
    return joining.already_exists("/email", detail)
