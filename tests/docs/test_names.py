"""What documents name is there: settings, metrics, problems, operations, options, targets, files and tests."""

import ast
import re
from pathlib import Path

import pytest
from tools.documents import settings

from eventboard.core.errors import HTTP
from eventboard.observability.metrics import Metrics
from eventboard.settings import Settings
from eventboard.settings.service_links import is_service_link
from eventboard.settings.sources import CHOOSERS, PREFIX, fields
from tests.support import documents
from tests.support.board import Board
from tests.support.commands import ran
from tests.support.documents import PAGES, ROOT
from tests.support.openapi import document_of

DOCS = ROOT / "docs"
SECURITY = (DOCS / "security.md").read_text()
TEXT = "\n".join(path.read_text() for path in PAGES)
CODE = [text for path in PAGES for text in documents.code(path)]
# In documents as examples of what is none.
MISTYPED = {"EVENTBOARD_SERVER_PROT"}
LINK = {"EVENTBOARD_SERVICE_HOST": "10.0.0.1", "EVENTBOARD_PORT": "tcp://10.0.0.1:3000"}


def named(pattern: str) -> set[str]:
    return set(re.findall(pattern, TEXT))


# ---------------------------------------------------------------------------------------------------------------------
# Settings


def keys() -> set[tuple[str, str]]:
    return {(section, key) for section, struct in fields(Settings).items() for key in fields(struct)}


def test_variables() -> None:
    """Each variable sets something."""
    known = {f"{PREFIX}{section}_{key}".upper() for section, key in keys()} | CHOOSERS
    known |= {f"{name}_FILE" for name in known}
    links = {name for name in LINK if is_service_link(name, LINK)}
    assert links == set(LINK)
    assert named(r"\bEVENTBOARD_[A-Z0-9_]*[A-Z0-9]\b") - known - links == MISTYPED


def test_keys() -> None:
    """`server.port` and its like are keys of a section."""
    sections = "|".join(fields(Settings))
    found = {tuple(text.split(".")) for text in CODE if re.fullmatch(rf"({sections})\.[a-z_]+", text)}
    # Operations of a contract look the same: events.create.
    assert {pair for pair in found if pair[0] not in ("auth", "events")} - keys() == set()


def test_every_setting_is_in_the_table() -> None:
    assert {(setting.section, setting.key) for setting in settings()} == keys()


# ---------------------------------------------------------------------------------------------------------------------
# Metrics


def metrics() -> set[str]:
    registry = Metrics().registry
    return {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in registry.collect()
        if not family.name.startswith(("process_", "python_"))
    }


def test_metrics() -> None:
    """Each that is named exists, and each that exists is explained."""
    known = metrics() | {f"eventboard_{name}_backlog" for name in ("idempotency", "sessions", "invitations")}
    watch = (DOCS / "operations" / "watch.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \|", watch, re.MULTILINE))
    explained = {name for name in explained if re.match(r"eventboard_|http_|rpc_|db_", name)}
    assert explained == known
    # Roles and databases.
    others = "\n".join([*(path.read_text() for path in ROOT.glob("alembic/**/*.py")), strings()])
    found = {name.removesuffix("_login") for name in named(r"\b(?:eventboard|http_server|rpc_client|db_client)_\w+\b")}
    assert [name for name in found - known - {"eventboard_migration"} if name not in others] == []


# ---------------------------------------------------------------------------------------------------------------------
# The API


def test_problems() -> None:
    """The table of the API reference is the list, and a status stands beside its own codes only."""
    api = (DOCS / "api.md").read_text()
    rows = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", api, re.MULTILINE)}
    known = {(status, code.value) for code, (status, _) in HTTP.items()}
    assert rows == known
    beside = re.findall(r"\b([45]\d\d) `([a-z]+(?:-[a-z]+)*)`", TEXT)
    assert {(int(status), code) for status, code in beside} - known == set()
    assert named(r"/problems/([a-z-]+)") - {code for _, code in known} == set()


def test_operations(board: Board) -> None:
    """Each that is named exists, and each that exists is in the API reference."""
    known = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, operations in document_of(board)["paths"].items()
        for method in operations
    }

    def operations(text: str) -> set[str]:
        found = re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`?\s]*)", text)
        return {f"{method} {re.sub(r'{[^}]*}', '{}', path)}" for method, path in found}

    example = {"GET /events/upcoming"}
    internal = {"POST /rpc/…", "POST /rpc/<operation>"}
    assert operations(TEXT) - known - example - internal == set()
    assert known - operations((DOCS / "api.md").read_text()) == set()


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def test_options() -> None:
    """Each command and option that is named exists, and each that exists is named where commands are explained."""
    _, usage = ran("--help")
    commands = re.search(r"\{([\w,]+)\}", usage)
    assert commands
    known = {command: set(re.findall(r"(--[a-z]+)", ran(command, "--help")[1])) for command in commands[1].split(",")}
    shown = [re.findall(r"eventboard ([a-z]+)([^|;&\n]*)", text) for text in CODE]
    used = {(command, option) for pairs in shown for command, rest in pairs for option in re.findall(r"--[a-z]+", rest)}
    assert {command for pairs in shown for command, _ in pairs} == set(known)
    assert {(command, option) for command, option in used if option not in known[command]} == set()
    pages = "\n".join((DOCS / "operations" / f"{page}.md").read_text() for page in ("run", "upgrade"))
    options = {option for found in known.values() for option in found} - {"--help"}
    assert [option for option in options if option not in pages] == []


def test_targets() -> None:
    """Each target that is named exists, and each that exists is listed for contributors."""
    known = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    used = {target for text in CODE for target in re.findall(r"\bmake ([a-z-]+)", text)}
    assert used - known == set()
    listed = (DOCS / "development.md").read_text()
    assert [target for target in known if f"`make {target}`" not in listed] == []


# ---------------------------------------------------------------------------------------------------------------------
# Messages


def strings() -> str:
    """Of the program: what it prints, with a blank for each value."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages() -> None:
    """Those of the page on trouble are the program's: parts without a value of them, but for other programs' words."""
    page = (DOCS / "operations" / "trouble.md").read_text()
    ours = "".join(re.split(r"^## ", page, flags=re.MULTILINE)[2:7])
    said = re.findall(r"^- `([^`]+)`", ours, re.MULTILINE)
    assert len(said) > 20
    program = strings()
    values = r"…|'[^']*'|\b[A-Z_]{8,}\b:?|\S*[/\d]\S*|[a-z]+_[a-z_]+|[:;] |\(.*\)"
    for message in said:
        parts = [part.strip(" :,;.") for part in re.split(values, " ".join(message.split()))]
        assert any(len(part) > 6 and part in program for part in parts), message


# ---------------------------------------------------------------------------------------------------------------------
# Files and tests


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files(path: Path) -> None:
    """Paths in code are those of the repository, of the package, or of the folder that the page is about."""
    spans = [text for text in documents.code(path) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", text)]
    roots = (ROOT, ROOT / "src" / "eventboard", path.parent)
    # What a run makes.
    made = ("var/", "build/", "secrets/", "dist/", "application/")
    files = [
        text for text in spans if re.search(r"/$|\.(py|md|toml|yaml|sh|cfg|txt)$", text) and not text.startswith(made)
    ]
    assert [text for text in files if not any((root / text).exists() for root in roots)] == []


def defined() -> set[str]:
    """The names of all tests."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}


def test_tests_that_show_what_is_secured() -> None:
    """Each test that a document names exists, by name or by file."""
    tests = named(r"`(test_\w+)`")
    assert len(tests) > 50
    assert tests - defined() == set()
    assert [path for path in named(r"`(tests/[\w/]+\.py)`") if not (ROOT / path).is_file()] == []


def test_each_item_once() -> None:
    """An item of the standard is met, or not met, or doesn't apply."""
    met, _, rest = SECURITY.partition("## What is not met")
    rows = [line.split("|")[1] for line in (met + rest.partition("## Keys and secrets")[0]).splitlines() if "|" in line]
    items = [item for row in rows for item in re.findall(r"\b\d+\.\d+\.\d+\b", row)]
    assert len(items) > 120
    assert sorted(items) == sorted(set(items))
