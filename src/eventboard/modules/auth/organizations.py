"""Who may join what: by founding, by an open organization, by an invitation. Nothing else ever gives membership."""

from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from eventboard.modules.auth import store
from eventboard.modules.auth.contract import OrganizationChoice, Signup
from eventboard.modules.auth.names import name_key, slug
from eventboard.modules.auth.opaque import fingerprint, organization_of
from eventboard.platform.database import Connection, Database
from eventboard.platform.errors import Code, FieldError, ServiceError
from eventboard.platform.identity import Role
from eventboard.platform.ids import uuid7


class Chosen(Struct, frozen=True):
    """Where somebody goes. `name` is "" where an invitation leads, whose organization a stranger isn't told."""

    organization_id: UUID
    name: str
    founding: bool = False
    invitation: bytes | None = None


def choice_errors(choice: Signup | OrganizationChoice) -> list[FieldError]:
    given = [choice.organization_name, choice.organization_id, choice.invitation_token]
    if sum(value is not None for value in given) != 1:
        one = "Give exactly one of organizationName, organizationId and invitationToken."
        return [FieldError("/organizationName", one)]
    if choice.organization_name is not None and not name_key(choice.organization_name):
        return [FieldError("/organizationName", "A name needs a letter or a digit.")]
    return []


async def choose(database: Database, choice: Signup | OrganizationChoice) -> Chosen:
    """Raises `forbidden`, the same for what doesn't exist as for what isn't open."""
    if choice.organization_name is not None:
        return Chosen(uuid7(), choice.organization_name.strip(), founding=True)
    if choice.organization_id is not None:
        async with database.reading(None) as connection:
            row = await connection.one(store.ORGANIZATION, organization_id=choice.organization_id)
        return Chosen(choice.organization_id, _name_where_open(row))
    organization_id = organization_of(choice.invitation_token or "")
    if organization_id is None:
        raise _bad_invitation()
    return Chosen(organization_id, "", invitation=fingerprint(choice.invitation_token or ""))


async def enter(connection: Connection, chosen: Chosen, user_id: UUID, email: str) -> str:
    """Makes the membership, in a transaction of the chosen organization, and returns that one's name.

    Raises `already-exists`, `forbidden`.
    """
    if chosen.founding:
        role, name = Role.ADMIN, chosen.name
    elif chosen.invitation is not None:
        # One of fifty that try at once gets the row; the others find it used.
        row = await connection.one(
            store.USE_INVITATION, organization_id=chosen.organization_id, hash=chosen.invitation, email=email
        )
        if row is None:
            raise _bad_invitation()
        (held,) = await connection.all(store.HOLD_ORGANIZATION, organization_id=chosen.organization_id)
        role, name = Role(row["role"]), held["name"]
    else:
        # It may have been closed since it was chosen; now it stays as it is until the membership is made.
        held = await connection.one(store.HOLD_ORGANIZATION, organization_id=chosen.organization_id)
        role, name = Role.USER, _name_where_open(held)
    try:
        await connection.run(store.ADD_MEMBERSHIP, organization_id=chosen.organization_id, user_id=user_id, role=role)
    except asyncpg.UniqueViolationError:
        raise ServiceError(Code.ALREADY_EXISTS, "You are a member of this organization, or were one.") from None
    return name


async def found(connection: Connection, chosen: Chosen) -> None:
    """Raises `already-exists` for a taken name."""
    try:
        await _add(connection, chosen)
    except asyncpg.UniqueViolationError:
        raise taken("/organizationName", "There is an organization of this name.") from None


async def _add(connection: Connection, chosen: Chosen) -> None:
    for distinct in (False, True):
        if await connection.one(
            store.ADD_ORGANIZATION,
            id=chosen.organization_id,
            name=chosen.name,
            name_key=name_key(chosen.name),
            slug=slug(chosen.name, chosen.organization_id, distinct=distinct),
        ):
            return


def _name_where_open(row: Any | None) -> str:
    if row is None or not row["open_signup"]:
        raise ServiceError(Code.FORBIDDEN, "This organization can't be joined without an invitation.")
    return str(row["name"])


def taken(pointer: str, detail: str) -> ServiceError:
    return ServiceError(Code.ALREADY_EXISTS, detail, (FieldError(pointer, detail),))


def _bad_invitation() -> ServiceError:
    return ServiceError(
        Code.FORBIDDEN, "This invitation is not valid for you: it is used, revoked, expired, or somebody else's."
    )
