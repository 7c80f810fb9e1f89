"""docs/extending.md: the operation that it adds works, in one process and in three."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.board import Board
from tests.support.documents import ROOT
from tests.support.openapi import document_of
from tests.support.shapes import ALL, deployed

PACKAGE = Path("src", "eventboard")
STEP = re.compile(r"^\*\*\d\. [^`]+, `([\w/]+\.py)`.*?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What Python runs: a copy of the program, to which the document's code was added."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("src", "config", "alembic"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    section = (ROOT / "docs" / "extending.md").read_text().partition("\n## an operation\n")[2].partition("\n## ")[0]
    steps = STEP.findall(section)
    assert len(steps) == 5
    for file, code in steps:
        path = copy / PACKAGE / file
        path.write_text(added(path.read_text(), code))
    for file, _ in steps:
        path = copy / PACKAGE / file
        path.write_text(with_imports(copy, path))
    start = (
        f"import sys; sys.path.insert(0, {str(copy / 'src')!r}); from eventboard.__main__ import main; sys.exit(main())"
    )
    return ("-c", start)


def added(text: str, code: str) -> str:
    """What the code has for a class or a dictionary that is there already, at its end; the rest before it, or last."""
    lines, block = text.splitlines(), code.splitlines()
    there = {_name(node): node for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.Assign)}
    members, rest, target = [], [], None
    for node in ast.parse(code).body:
        begin = _begin(node)
        if _name(node) in there:
            target = there[_name(node)]
            if isinstance(node, ast.ClassDef):
                # After its `...`.
                members += ["", *block[node.body[0].end_lineno or 0 : node.end_lineno]]
            else:
                members += block[begin : (node.end_lineno or 0) - 1]
        elif isinstance(node, ast.AsyncFunctionDef) and node.args.args[0].arg == "self":
            target = [node for node in there.values() if isinstance(node, ast.ClassDef)][-1]
            members += ["", *(f"    {line}" for line in block[begin - 1 : node.end_lineno])]
        else:
            rest += ["", "", *block[begin - 1 : node.end_lineno]]
    if target is None:
        return "\n".join([*lines, *rest, ""])
    begin, end = _begin(target) - 1, (target.end_lineno or 0) - isinstance(target, ast.Assign)
    return "\n".join([*lines[:begin], *rest, "", "", *lines[begin:end], *members, *lines[end:], ""])


def _name(node: ast.stmt) -> str:
    match node:
        case ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return ""


def _begin(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def with_imports(copy: Path, path: Path) -> str:
    """As a developer does: what `make check` calls undefined is imported from where others import it."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "F821",
        "--output-format",
        "json",
        str(path),
    ]
    found = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    missing = {re.findall("`(.+)`", each["message"])[0] for each in found}
    # The same name may be elsewhere, too: what is in core/ is for everybody.
    known = dict(sorted(_imports(copy), key=lambda each: ".core." in each[1]))
    assert missing <= set(known), missing - set(known)
    return "\n".join(["\n".join(known[name] for name in sorted(missing)), path.read_text()])


def _imports(copy: Path) -> Iterator[tuple[str, str]]:
    for path in (copy / PACKAGE).rglob("*.py"):
        module = ".".join(path.relative_to(copy / "src").with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from ((name.asname or name.name, f"from {node.module} import {name.name}") for name in node.names)
            elif isinstance(node, ast.ClassDef) and path.name == "contract.py":
                yield node.name, f"from {module} import {node.name}"


@pytest.mark.parametrize("shape_of_copy", [ALL, "gateway+auth+events"])
def test_operation_that_the_document_adds(
    database_url: str, tmp_path: Path, program: tuple[str, ...], shape_of_copy: str
) -> None:
    """Its guard, its query and its document work, and so does the way between processes."""
    with deployed(shape_of_copy, database_url, tmp_path, program=program) as deployment:
        board = Board(deployment.public.url, database_url)
        organization = board.organization()
        soon = organization.event_in("APPROVED")
        board.sql(
            "UPDATE events.events SET start_date = now() + interval '3 days', end_date = now() + interval '4 days'"
        )
        http = organization.user.http
        partner = {"x-partner": "yes"}
        assert http.get("/events/upcoming").status_code == 403
        answer = http.get("/events/upcoming?days=5", headers=partner)
        assert answer.status_code == 200, answer.text
        assert [event["id"] for event in answer.json()["data"]] == [soon["id"]]
        assert http.get("/events/upcoming?days=2", headers=partner).json()["data"] == []
        wrong = http.get("/events/upcoming?days=91", headers=partner)
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/days")
        assert document_of(board)["paths"]["/events/upcoming"]["get"]["operationId"] == "listUpcomingEvents"
        board.close()
