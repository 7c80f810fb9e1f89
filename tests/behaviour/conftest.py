"""Somebody who sends what is wrong."""

from dataclasses import replace

import pytest

from tests.support.board import Board, Member


@pytest.fixture(scope="module")
def members() -> dict[str, Member]:
    return {}


@pytest.fixture
def member(board: Board, members: dict[str, Member]) -> Member:
    """One for all tests here, which leave nothing behind that another would see."""
    if board.url not in members:
        members[board.url] = board.member(board.organization().id, "ADMIN")
    member = members[board.url]
    return replace(member, board=board).with_token(member.token)
