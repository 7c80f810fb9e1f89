"""Gateways and services of adjacent versions work together: what this version added is optional."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from eventboard.modules.auth.contract import (
    CursorMeta,
    Invitation,
    InvitationList,
    ListInvitations,
    ListMembers,
    ListSessions,
    MemberList,
    SessionList,
)


def received(type_: type[Any], sent: dict[str, Any]) -> Any:
    """As the other side reads it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=type_)


@pytest.mark.parametrize("query", [ListMembers, ListInvitations, ListSessions])
def test_gateway_without_pages(query: type[Any]) -> None:
    """It names none."""
    assert received(query, {"actor": "token"}).page is None


@pytest.mark.parametrize("answer", [MemberList, InvitationList, SessionList])
def test_service_without_pages(answer: type[Any]) -> None:
    """What it answers is all there is."""
    assert received(answer, {"data": []}).meta == CursorMeta(limit=100, has_next=False, next_cursor=None)


def test_service_that_names_no_inviter() -> None:
    """Its invitations are read as before."""
    now = datetime.now(UTC)
    sent = {"id": uuid4(), "email": "a@example.com", "role": "USER", "state": "pending"}
    invitation = received(Invitation, {**sent, "createdAt": now, "expiresAt": now})
    assert (invitation.invited_by_id, invitation.invited_by_name, invitation.usable) == (None, None, None)
