"""The OpenAPI document, held to by a stranger: schemathesis makes requests of it, and judges the answers by it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.board import Board
from tests.support.openapi import demo_account

RULES = Path(__file__).parents[1] / "support" / "schemathesis_rules.py"

# The same requests each time (but for what earlier answers put into them), ten seconds of them. Every check is on.
SETTINGS = """
continue-on-failure = true
hooks = {rules}
[checks]
enabled = true
[auth.wfc]
path = {accounts}
peers = ["one", "two"]
[generation]
deterministic = true
database = "none"
max-examples = 8
"""


def test_nothing_to_find(board: Board, tmp_path: Path) -> None:
    """Requests by the schemas, against them, and in sequences are answered as the document says."""
    demo_account(board)  # so that the example of a log-in succeeds
    accounts, settings = tmp_path / "accounts.json", tmp_path / "schemathesis.toml"
    # Of two organizations: what one of them made, the other must not see.
    admins = {name: board.organization().admin for name in ("one", "two")}
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {admin.token}"}]}
        for name, admin in admins.items()
    ]
    accounts.write_text(json.dumps({"auth": entries}))
    settings.write_text(SETTINGS.format(rules=json.dumps(str(RULES)), accounts=json.dumps(str(accounts))))
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "--no-color"]
    # It would end the session that all the others need; tried by itself in test_sessions.py.
    left_out = ["--exclude-operation-id", "logoutEverywhere"]
    run = subprocess.run(
        [*program, "run", *left_out, f"{board.url}/schema/openapi.json"], cwd=tmp_path, capture_output=True
    )
    assert run.returncode == 0, (run.stdout + run.stderr).decode()
