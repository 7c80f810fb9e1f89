"""The whole matrix of rights: role, ownership, organization, state, operation."""

from typing import Any

from tests.support import account_matrix, matrix
from tests.support.board import Board

# On events: three roles with events of their own and others', here and elsewhere, and nobody with others' alone; in
# five states; nine operations on one, and two lists.
EVENT_CELLS = (3 * 2 * 2 + 2) * 5 * (9 + 2)
# The same four callers, and as many operations, each with the things of everybody whose they could be.
ACCOUNT_CELLS = 4 * 27


def test_events(board: Board) -> None:
    """Every cell is as the small oracle says; what may not be seen is the same 404 as what never was."""
    assert matrix.walk(board) == EVENT_CELLS


def test_accounts_and_organizations(board: Board) -> None:
    """Every cell is as the table says."""
    assert account_matrix.walk(board) == ACCOUNT_CELLS


def test_every_operation_is_in_it(board: Board) -> None:
    """An operation that is new has to be given its cells."""
    paths: dict[str, dict[str, Any]] = board.client().get("/schema/openapi.json").json()["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "parameters"}
    on_one = {(method, f"/events/{{id}}{rest}") for method, rest, _ in matrix.ON_ONE.values()}
    on_others = {(method, path) for method, path, *_ in account_matrix.ON_OTHERS}
    # A stranger may call these: what lets them in is what they send.
    open_to_all = {
        ("POST", "/auth/signup"),
        ("POST", "/auth/login"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("GET", "/.well-known/jwks.json"),
    }
    health = {operation for operation in known if operation[1].startswith("/health")}
    # What they do is to the caller alone, and would end the other cells' sessions.
    to_oneself = {("POST", "/auth/password"), ("POST", "/auth/logout-all")}
    assert known - health == on_one | {("GET", "/events")} | on_others | open_to_all | to_oneself
