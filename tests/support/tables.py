"""The two tables of docs/api.md, cell by cell, as a client sees them: the status of the answer.

Written out, not derived: what the program holds is compared with this.
"""

from itertools import product

from tests.support.board import Board, Member, Organization

STATES = ("DRAFT", "SUBMITTED", "APPROVED", "REJECTED", "CANCELLED")

# The event's author, and who calls.
CALLERS = {
    "author": ("user", "user"),
    "other USER": ("user", "other"),
    "MODERATOR": ("user", "moderator"),
    "ADMIN": ("user", "admin"),
    "MODERATOR, author": ("moderator", "moderator"),
    "ADMIN, author": ("admin", "admin"),
    "stranger": ("user", "stranger"),
}

# What a command leads to. `reject` comes with its reason.
TARGETS = {
    "submit": "SUBMITTED",
    "approve": "APPROVED",
    "reject": "REJECTED",
    "withdraw": "DRAFT",
    "cancel": "CANCELLED",
}

Cells = dict[tuple[str, str], int]


def _cells(table: str) -> Cells:
    """(caller, state) -> status."""
    cells: Cells = {}
    for line in table.strip().splitlines():
        caller, statuses = line.rsplit("|", 1)
        for state, status in zip(STATES, statuses.split(), strict=True):
            cells[caller.strip(), state] = int(status)
    assert {caller for caller, _ in cells} == CALLERS.keys()
    return cells


#                         DRAFT  SUBMITTED  APPROVED  REJECTED  CANCELLED
COMMANDS = {
    "submit": _cells("""
        author            | 200     409        409       200       409
        other USER        | 404     404        403       404       403
        MODERATOR         | 403     403        403       403       403
        ADMIN             | 403     403        403       403       403
        MODERATOR, author | 200     409        409       200       409
        ADMIN, author     | 200     409        409       200       409
        stranger          | 404     404        404       404       404
    """),
    "approve": _cells("""
        author            | 403     403        403       403       403
        other USER        | 404     404        403       404       403
        MODERATOR         | 409     200        409       409       409
        ADMIN             | 409     200        409       409       409
        MODERATOR, author | 409     200        409       409       409
        ADMIN, author     | 409     200        409       409       409
        stranger          | 404     404        404       404       404
    """),
    "reject": _cells("""
        author            | 403     403        403       403       403
        other USER        | 404     404        403       404       403
        MODERATOR         | 409     200        409       409       409
        ADMIN             | 409     200        409       409       409
        MODERATOR, author | 409     200        409       409       409
        ADMIN, author     | 409     200        409       409       409
        stranger          | 404     404        404       404       404
    """),
    "withdraw": _cells("""
        author            | 409     200        409       409       409
        other USER        | 404     404        403       404       403
        MODERATOR         | 403     403        403       403       403
        ADMIN             | 403     403        403       403       403
        MODERATOR, author | 409     200        409       409       409
        ADMIN, author     | 409     200        409       409       409
        stranger          | 404     404        404       404       404
    """),
    "cancel": _cells("""
        author            | 409     409        200       409       409
        other USER        | 404     404        403       404       403
        MODERATOR         | 403     403        403       403       403
        ADMIN             | 409     409        200       409       409
        MODERATOR, author | 409     409        200       409       409
        ADMIN, author     | 409     409        200       409       409
        stranger          | 404     404        404       404       404
    """),
}

RIGHTS = {
    "sees": _cells("""
        author            | 200     200        200       200       200
        other USER        | 404     404        200       404       200
        MODERATOR         | 200     200        200       200       200
        ADMIN             | 200     200        200       200       200
        MODERATOR, author | 200     200        200       200       200
        ADMIN, author     | 200     200        200       200       200
        stranger          | 404     404        404       404       404
    """),
    "edits": _cells("""
        author            | 200     403        403       200       403
        other USER        | 404     404        403       404       403
        MODERATOR         | 403     200        200       403       403
        ADMIN             | 200     200        200       200       200
        MODERATOR, author | 200     403        403       200       403
        ADMIN, author     | 200     200        200       200       200
        stranger          | 404     404        404       404       404
    """),
    "deletes": _cells("""
        author            | 204     403        403       403       403
        other USER        | 404     404        403       404       403
        MODERATOR         | 403     403        403       403       403
        ADMIN             | 204     204        204       204       204
        MODERATOR, author | 204     403        403       403       403
        ADMIN, author     | 204     204        204       204       204
        stranger          | 404     404        404       404       404
    """),
    "reads the history of": _cells("""
        author            | 200     200        200       200       200
        other USER        | 404     404        403       404       403
        MODERATOR         | 200     200        200       200       200
        ADMIN             | 200     200        200       200       200
        MODERATOR, author | 200     200        200       200       200
        ADMIN, author     | 200     200        200       200       200
        stranger          | 404     404        404       404       404
    """),
}


def put_every_cell(board: Board, organization: Organization) -> dict[tuple[str, str], tuple[Member, str]]:
    """Who calls, and the id of an event of that author in that state, for each (caller, state)."""
    members = {name: getattr(organization, name) for name in ("user", "other", "moderator", "admin")}
    members["stranger"] = board.organization().admin
    cells = list(product(CALLERS, STATES))
    ids = board.put([{"author": members[CALLERS[caller][0]], "status": state} for caller, state in cells])
    return {
        (caller, state): (members[CALLERS[caller][1]], id_) for (caller, state), id_ in zip(cells, ids, strict=True)
    }
