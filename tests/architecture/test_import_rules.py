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


@pytest.mark.parametrize("name", FORBIDDEN)
def test_import_up_the_page(source: Path, name: str) -> None:
    """No part imports one that stands above it or beside it."""
    place = name if (source / name).is_dir() else f"{name}.py"
    for other in FORBIDDEN[name]:
        plant(source, place, f"import eventboard.{other}")
    outcome = lint(source)
    assert f"{DOWN} BROKEN" in outcome.stdout, outcome.stdout + outcome.stderr
    for other in FORBIDDEN[name]:
        assert f"eventboard.{name} is not allowed to import eventboard.{other}:" in outcome.stdout


@pytest.mark.parametrize(
    ("rule", "place", "line"),
    [
        pytest.param(DOWN, "stray.py", "", id="a part that the page doesn't show"),
        pytest.param(APART, "modules/stray/__init__.py", "", id="a module that no rule names"),
        pytest.param(APART, "modules/events", "import eventboard.modules.auth.contract", id="events to auth"),
        pytest.param(APART, "modules/auth", "import eventboard.modules.events.contract", id="auth to events"),
        pytest.param(CONTRACTS, "gateway", "import eventboard.modules.events.service", id="gateway to a service"),
        pytest.param(
            CONTRACTS, "gateway/controllers", "import eventboard.modules.auth.models", id="controller to a model"
        ),
        pytest.param(CONTRACTS, "gateway", "from eventboard.modules import auth", id="gateway to a module as a whole"),
        pytest.param(DOWN, "rpc", "import eventboard.modules.events.contract", id="transport to a contract"),
        pytest.param(DOWN, "db", "import eventboard.modules.auth.models", id="database to a model"),
        pytest.param(ADAPTERS, "gateway", "import eventboard.rpc.http", id="gateway to an adapter"),
        pytest.param(ADAPTERS, "modules/events", "import eventboard.rpc.local", id="service to an adapter"),
        pytest.param(DEVELOPMENT, "app.py", "import eventboard.dev", id="app to the launcher"),
        pytest.param(DEVELOPMENT, "commands", "from eventboard.dev import postgres", id="commands to the launcher"),
        pytest.param(NO_WEB, "modules/events", "import eventboard.web.health", id="service to our own web"),
        pytest.param(NO_WEB, "modules/events", "from litestar import Request", id="service to the web framework"),
    ],
)
def test_forbidden_import(source: Path, rule: str, place: str, line: str) -> None:
    """The rule that forbids it is the one that breaks."""
    plant(source, place, line)
    outcome = lint(source)
    assert outcome.returncode == 1
    assert f"{rule} BROKEN" in outcome.stdout, outcome.stdout + outcome.stderr


def test_web_framework_by_way_of_another_part(source: Path) -> None:
    """A detour doesn't help."""
    plant(source, "db", "import litestar")
    plant(source, "modules/events", "import eventboard.db.planted")
    assert f"{NO_WEB} BROKEN" in lint(source).stdout
