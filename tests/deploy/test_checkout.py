"""A checkout by Git for Windows, whose default is to write CRLF."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def git(*arguments: str | Path) -> str:
    ran = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"no repository here: {ran.stderr.strip()}")
    return ran.stdout


def test_line_ends() -> None:
    """LF, whatever git's settings: scripts run by a shebang or in a container, the Makefile, what tests compare."""
    files = [line.split("\t") for line in git("ls-files", "--eol").splitlines()]
    wrong = [
        name for attributes, name in files if "i/lf" in attributes.split() and "attr/text=auto eol=lf" not in attributes
    ]
    assert files
    assert wrong == []


def test_checkout_with_crlf_by_default(tmp_path: Path) -> None:
    """Every script runs as it is checked out."""
    git("clone", "--quiet", "--no-hardlinks", "--config", "core.autocrlf=true", ROOT, tmp_path / "clone")
    scripts = [
        path for path in (tmp_path / "clone").rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")
    ]
    assert {path.name for path in scripts} >= {"secrets.sh", "roles.sh", "run"}
    assert [path for path in scripts if b"\r" in path.read_bytes()] == []
