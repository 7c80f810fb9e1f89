"""Accounts: sign-up, log-in, who am I, other organizations, passwords."""

from typing import Any

import asyncpg

from eventboard.modules.auth import organizations, store
from eventboard.modules.auth.contract import (
    ChangePassword,
    Done,
    GetKeys,
    GetMe,
    Join,
    Lease,
    Leased,
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
from eventboard.modules.auth.counters import Question
from eventboard.modules.auth.names import email_key
from eventboard.modules.auth.part import Part, ended, logged_in, person
from eventboard.modules.auth.rules import email_errors, password_errors, refuse
from eventboard.platform.errors import Code, ServiceError
from eventboard.platform.identity import Principal, PublicKeys, Role, refused
from eventboard.platform.ids import uuid7


class Accounts(Part):
    async def signup(self, command: SignupFrom) -> LoggedIn:
        email = email_key(command.email)
        with self._limits.tally() as tally:
            await self._limits.signup(tally, email, command.address)
            return logged_in(await self._sign_up(command, email), tally.quotas)

    async def _sign_up(self, command: SignupFrom, email: str) -> Session:
        refuse(
            email_errors("/email", email),
            organizations.choice_errors(command),
            password_errors("/password", command.password, email, command.organization_name),
        )
        chosen = await organizations.choose(self._database, command)
        refuse(password_errors("/password", command.password, email, chosen.name))
        password_hash = await self._passwords.hash(command.password)
        user_id = uuid7()
        async with self._database.transaction(chosen.organization_id, user_id) as connection:
            if chosen.founding:
                await organizations.found(connection, chosen)
            try:
                await connection.run(
                    store.ADD_USER,
                    id=user_id,
                    email=email,
                    password_hash=password_hash,
                    first_name=command.first_name.strip(),
                    last_name=command.last_name.strip(),
                )
            except asyncpg.UniqueViolationError:
                raise organizations.taken("/email", "There is an account with this e-mail address.") from None
            name = await organizations.enter(connection, chosen, user_id, email)
            # Only now is it known of an invitation's organization, and it may have changed of any other.
            refuse(password_errors("/password", command.password, email, name))
            return await self._log_in(connection, user_id, chosen.organization_id)

    async def login(self, command: LoginFrom) -> LoggedIn:
        entered = None
        # Again where the user's hash was changed while the password was tried.
        while entered is None:
            entered = await self._enter(command, email_key(command.email))
        return entered

    async def _enter(self, command: LoginFrom, email: str) -> LoggedIn | None:
        """None where the password that was right may be so no more."""
        with self._limits.login(email, command.address) as tally:
            user = await tally.begin(Question(self._database, store.FIND_USER, {"email": email}))
            trying = self._passwords.verify(user["password_hash"] if user else None, command.password)
            if not await tally.tried(trying) or user is None:
                raise ServiceError(Code.INVALID_CREDENTIALS, "No account has this e-mail address and password.")
            checked_hash = user["password_hash"]
            new_hash = await tally.tried(self._passwords.renewed(checked_hash, command.password))
            values, refresh_token = self._new_session(
                user["id"], command.organization_id, checked_hash=checked_hash, new_hash=new_hash
            )
            member = await tally.succeeded(Question(self._database, store.LOG_IN, values, user["id"]))
            if member is None:
                return None
            return logged_in(self._begun(member, values["session_id"], refresh_token), tally.quotas)

    async def get_me(self, query: GetMe) -> Me:
        caller = await self._verify(query.actor)
        row = await self._member(caller)
        if not row["active"]:
            raise refused("its membership has ended")
        return Me(
            **person(row),
            updated_at=row["updated_at"],
            organization=OrganizationSummary(id=row["organization_id"], name=row["name"], slug=row["slug"]),
        )

    async def _member(self, caller: Principal) -> Any:
        """The caller's membership, in force or not, and who they are."""
        row = await self._database.row(
            caller.organization_id,
            caller.user_id,
            store.MEMBER,
            user_id=caller.user_id,
            organization_id=caller.organization_id,
        )
        if row is None:
            raise refused("its membership has ended")
        return row

    async def validate_user(self, query: ValidateUser) -> Validity:
        row = await self._database.row(
            query.organization_id,
            query.user_id,
            store.STANDING,
            organization_id=query.organization_id,
            user_id=query.user_id,
            session_id=query.session_id,
        )
        return Validity(active=False) if row is None else Validity(active=True, role=Role(row["role"]))

    async def lease(self, query: Lease) -> Leased:
        return await self._limits.lease(query)

    async def keys(self, query: GetKeys) -> PublicKeys:
        return self._issuer.public_keys

    async def join(self, command: Join) -> Session:
        caller = await self._verify(command.actor)
        refuse(organizations.choice_errors(command.choice))
        chosen = await organizations.choose(self._database, command.choice)
        async with self._database.reading(None) as connection:
            user = await connection.one(store.USER, user_id=caller.user_id)
        if user is None:
            raise refused("its account has ended")
        async with self._database.transaction(chosen.organization_id, caller.user_id) as connection:
            await self._still_open(connection, caller)
            if chosen.founding:
                await organizations.found(connection, chosen)
            await organizations.enter(connection, chosen, caller.user_id, user["email"])
            return await self._log_in(connection, caller.user_id, chosen.organization_id)

    async def switch(self, command: Switch) -> Session:
        caller = await self._verify(command.actor)
        organization_id = command.chosen.organization_id
        async with self._database.transaction(organization_id, caller.user_id) as connection:
            await self._still_open(connection, caller)
            return await self._log_in(connection, caller.user_id, organization_id)

    async def change_password(self, command: ChangePassword) -> Done:
        """All other sessions of the caller end."""
        caller = await self._verify(command.actor)
        row = await self._member(caller)
        change = command.change
        refuse(password_errors("/newPassword", change.new_password, row["email"], row["name"]))
        with self._limits.tally() as tally:
            await self._limits.password(tally, caller.user_id)
            if not await tally.tried(self._passwords.verify(row["password_hash"], change.current_password)):
                raise ServiceError(Code.FORBIDDEN, "The current password is wrong.")
            await tally.take_back()
        password_hash = await self._passwords.hash(change.new_password)
        async with self._database.transaction(None, caller.user_id) as connection:
            still_open = await connection.all(store.LOCK_SESSIONS, user_id=caller.user_id)
            if caller.session_id not in [row["id"] for row in still_open]:
                raise ended()
            await connection.run(store.SET_PASSWORD, user_id=caller.user_id, password_hash=password_hash)
            await connection.run(store.END_OTHER_SESSIONS, user_id=caller.user_id, session_id=caller.session_id)
        return Done()
