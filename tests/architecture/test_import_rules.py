"""The import rules of pyproject.toml, seen to break: in a copy of the source, never by running it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DOWN = "Imports point down the page only"
APART = "Modules don't know each other"
CONTRACTS = "The gateway sees contracts only"
ADAPTERS = "Only the composition root chooses adapters"
DEVELOPMENT = "Development's parts are imported by the command line only"
NO_WEB = "Services know no web"

# The page of docs/architecture.md. Those on one line are side by side and don't see each other either.
PAGE = (
    ("__main__",),
    ("cli",),
    ("dev",),
    ("commands",),
    ("app",),
    ("composition",),
    ("gateway",),
    ("modules",),
    ("web",),
    ("rpc",),
    ("identity",),
    ("db",),
    ("observability",),
    ("core", "settings"),
)

# What each module of the page must not import.
FORBIDDEN = {
    name: [other for above in PAGE[:depth] for other in above] + [other for other in line if other != name]
    for depth, line in enumerate(PAGE)
    for name in line
    if depth or len(line) > 1
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of src/eventboard to plant imports in."""
    return shutil.copytree(
        ROOT / "src/eventboard", tmp_path / "eventboard", ignore=shutil.ignore_patterns("static", "__pycache__")
    )


def plant(source: Path, place: str, line: str) -> None:
    """`place` is a file, or a package that gets a new one."""
    path = source / place
    path = path / "planted.py" if path.is_dir() else path
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-logo",
            "--no-cache",
            "--config",
            ROOT / "pyproject.toml",
        ],
        cwd=source.parent,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_source_as_it_is(source: Path) -> None:
    """Every rule is kept, and every rule is one that this file breaks."""
    outcome = lint(source)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    kept = set(re.findall(r"^(.+) KEPT", outcome.stdout, re.MULTILINE))
    assert kept == {DOWN, APART, CONTRACTS, ADAPTERS, DEVELOPMENT, NO_WEB}


def broken(source: Path) -> dict[str, str]:
    """What is said of each rule that is broken: the imports by which it is."""
    outcome = lint(source)
    assert outcome.returncode == 1
    _, found, details = outcome.stdout.partition("Broken contracts")
    assert found, outcome.stdout + outcome.stderr
    _, *parts = re.split(r"^([^\n]+)\n-+\n", details.lstrip("\n-"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_import_up_the_page(source: Path) -> None:
    """No part imports one that stands above it or beside it."""
    files = {name: name if (source / name).is_dir() else f"{name}.py" for name in FORBIDDEN}
    for name, others in FORBIDDEN.items():
        for other in others:
            plant(source, files[name], f"import eventboard.{other}")
    # Of each pair of parts, the imports that lead from the one to the other.
    pairs = dict(
        re.findall(
            r"^eventboard\.(\w+ is not allowed to import eventboard\.\w+):\n(.+?)(?=^eventboard|\Z)",
            broken(source)[DOWN],
            re.MULTILINE | re.DOTALL,
        )
    )
    for name, others in FORBIDDEN.items():
        planted = f"eventboard.{name}" if files[name].endswith(".py") else f"eventboard.{name}.planted"
        for other in others:
            imports = pairs[f"{name} is not allowed to import eventboard.{other}"]
            assert re.search(rf"- {planted} -> eventboard\.{other} \(l\.", imports), (name, other, imports)


# The rule, where a line is planted, and the line.
PLANTED = [
    (APART, "modules/events", "import eventboard.modules.auth.contract"),
    (APART, "modules/auth", "import eventboard.modules.events.contract"),
    (CONTRACTS, "gateway", "import eventboard.modules.events.service"),
    (CONTRACTS, "gateway/controllers", "import eventboard.modules.auth.models"),
    (CONTRACTS, "gateway", "from eventboard.modules import auth"),
    (DOWN, "rpc", "import eventboard.modules.events.contract"),
    (DOWN, "db", "import eventboard.modules.auth.models"),
    (ADAPTERS, "gateway", "import eventboard.rpc.http"),
    (ADAPTERS, "modules/events", "import eventboard.rpc.local"),
    (DEVELOPMENT, "app.py", "import eventboard.dev"),
    (DEVELOPMENT, "commands", "from eventboard.dev import postgres"),
    (NO_WEB, "modules/events", "import eventboard.web.health"),
    (NO_WEB, "modules/events", "from litestar import Request"),
]


def test_forbidden_imports(source: Path) -> None:
    """The rule that forbids one is the one that it breaks."""
    for _, place, line in PLANTED:
        plant(source, place, line)
    rules = broken(source)
    for rule, place, line in PLANTED:
        planted = place.removesuffix(".py").replace("/", ".") + ("" if place.endswith(".py") else ".planted")
        imported = re.sub(r"^from (\S+) import ([a-z]\w*)$", r"\1.\2", line)
        imported = re.sub(r"^(?:import|from) (\S+).*", r"\1", imported)
        assert re.search(rf"eventboard\.{planted} -> {imported} \(l\.", rules[rule]), (rule, line, rules[rule])


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        pytest.param(DOWN, "stray.py", id="a part that the page doesn't show"),
        pytest.param(APART, "modules/stray/__init__.py", id="a module that no rule names"),
    ],
)
def test_part_that_no_rule_knows(source: Path, rule: str, place: str) -> None:
    """It has to be given its place."""
    plant(source, place, "")
    assert rule in broken(source)


def test_web_framework_by_way_of_another_part(source: Path) -> None:
    """A detour doesn't help."""
    plant(source, "db", "import litestar")
    plant(source, "modules/events", "import eventboard.db.planted")
    assert NO_WEB in broken(source)
