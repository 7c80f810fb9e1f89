"""Joining an organization: by founding it, by its open sign-up, or by an invitation. Nothing else gives membership."""

from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from eventboard.core.errors import Code, FieldError, ServiceError
from eventboard.core.ids import uuid7
from eventboard.db.database import Connection, Database
from eventboard.identity.access_tokens import Role
from eventboard.modules.auth import repository
from eventboard.modules.auth.contract import OrganizationChoice, Signup
from eventboard.modules.auth.names import email_spellings, name_key, slug
from eventboard.modules.auth.opaque_tokens import fingerprint, organization_of


class Destination(Struct, frozen=True):
    """The organization to join. `name` is "" for an invitation: a stranger doesn't learn the name by its token."""

    organization_id: UUID
    name: str
    founding: bool = False
    invitation: bytes | None = None


NEEDS_A_LETTER = "It must have a letter or a digit."


def choice_errors(choice: Signup | OrganizationChoice) -> list[FieldError]:
    given = [choice.organization_name, choice.organization_id, choice.invitation_token]
    if sum(value is not None for value in given) != 1:
        one = "Give exactly one of organizationName, organizationId and invitationToken."
        return [FieldError("/organizationName", one)]
    if choice.organization_name is not None and not name_key(choice.organization_name):
        return [FieldError("/organizationName", NEEDS_A_LETTER)]
    return []


async def resolve(database: Database, choice: Signup | OrganizationChoice) -> Destination:
    """Raises `forbidden`, the same for an organization that doesn't exist as for one that isn't open."""
    if choice.organization_name is not None:
        return Destination(uuid7(), choice.organization_name.strip(), founding=True)
    if choice.organization_id is not None:
        async with database.reading(None) as connection:
            row = await connection.one(repository.ORGANIZATION, organization_id=choice.organization_id)
        return Destination(choice.organization_id, _name_where_open(row))
    organization_id = organization_of(choice.invitation_token or "")
    if organization_id is None:
        raise _invalid_invitation()
    return Destination(organization_id, "", invitation=fingerprint(choice.invitation_token or ""))


async def precheck(database: Database, destination: Destination, email: str) -> None:
    """Raises what `create_organization` and `add_member` would raise, before anything is counted or hashed."""
    if destination.founding:
        async with database.reading(None) as connection:
            if await connection.one(repository.ORGANIZATION_BY_NAME, name_key=name_key(destination.name)):
                raise _name_exists()
    elif destination.invitation is not None:
        emails = email_spellings(email)
        invited = {"organization_id": destination.organization_id, "hash": destination.invitation, "emails": emails}
        async with database.reading(destination.organization_id) as connection:
            pending = await connection.one(repository.PENDING_INVITATION, **invited)
        if pending is None:
            raise _invalid_invitation()
        if not pending["usable"]:
            raise _inviter_gone()


async def add_member(connection: Connection, destination: Destination, user_id: UUID, email: str) -> str:
    """Adds the membership, in a transaction of the organization, and returns the organization's name.

    Raises `already-exists`, `forbidden`.
    """
    organization_id = destination.organization_id
    if destination.founding:
        role, name = Role.ADMIN, destination.name
    elif destination.invitation is not None:
        # First the organization, then the invitation: the order in which inviting locks them.
        organization = await connection.one(repository.LOCK_ORGANIZATION_FOR_SHARE, organization_id=organization_id)
        emails = email_spellings(email)
        invited = {"organization_id": organization_id, "hash": destination.invitation, "emails": emails}
        inviter = await connection.one(repository.LOCK_INVITER_FOR_SHARE, **invited)
        # One of fifty that try at once gets the row; the others find it used.
        invitation = await connection.one(repository.USE_INVITATION, **invited)
        if organization is None or invitation is None:
            raise _invalid_invitation()
        if inviter is None:
            raise _inviter_gone()
        role, name = Role(invitation["role"]), organization["name"]
    else:
        # It may have been closed since it was resolved; now it stays open until the membership is added.
        organization = await connection.one(repository.LOCK_ORGANIZATION_FOR_SHARE, organization_id=organization_id)
        role, name = Role.USER, _name_where_open(organization)
    try:
        await connection.run(repository.ADD_MEMBERSHIP, organization_id=organization_id, user_id=user_id, role=role)
    except asyncpg.UniqueViolationError:
        raise ServiceError(
            Code.ALREADY_EXISTS,
            "You are a member of this organization already. Log in to it, or switch to it with POST /auth/switch; if"
            " your membership was deactivated, one of its ADMINs can reactivate it.",
        ) from None
    return name


async def create_organization(connection: Connection, destination: Destination) -> None:
    """Raises `already-exists` where the name is taken. A slug that is taken gets a distinct ending."""
    try:
        for distinct in (False, True):
            if await connection.one(
                repository.ADD_ORGANIZATION,
                id=destination.organization_id,
                name=destination.name,
                name_key=name_key(destination.name),
                slug=slug(destination.name, destination.organization_id, distinct=distinct),
            ):
                return
    except asyncpg.UniqueViolationError:
        raise _name_exists() from None


def _name_where_open(row: Any | None) -> str:
    if row is None or not row["open_signup"]:
        raise ServiceError(
            Code.FORBIDDEN, "This organization can't be joined without an invitation. Ask one of its ADMINs for one."
        )
    return str(row["name"])


def already_exists(pointer: str, detail: str) -> ServiceError:
    return ServiceError(Code.ALREADY_EXISTS, detail, (FieldError(pointer, detail),))


def _name_exists() -> ServiceError:
    detail = "There is an organization with this name. Choose another name, or ask one of its ADMINs for an invitation."
    return already_exists("/organizationName", detail)


def _invalid_invitation() -> ServiceError:
    return ServiceError(
        Code.FORBIDDEN,
        "This invitation is not valid for you: it is used, revoked, expired, or for another e-mail address. Ask whoever"
        " sent it for another.",
    )


def _inviter_gone() -> ServiceError:
    """Only for the person who is invited: to others the invitation is like any that isn't theirs."""
    why = "whoever sent it is no longer an ADMIN of the organization. Ask for another."
    return ServiceError(Code.FORBIDDEN, f"This invitation is no longer valid: {why}")
