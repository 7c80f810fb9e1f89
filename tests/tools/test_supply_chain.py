"""What the program is made of: locked, listed, and asked about."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tools import sbom
from tools.vendor_explorers import ROW, STATIC

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "requirements").glob("*.txt")))
def test_locked(file: str) -> None:
    """Each package is one exact version with its hashes, and no file says where it comes from."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / file).read_text().strip())
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry
        assert not re.search(r"https?:|--index|--find-links|@ ", entry)


def test_bill_of_materials() -> None:
    """Every locked package with its hashes, and every browser file that isn't ours; nothing that differs next time."""
    bill = json.loads(sbom.made())
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
    found = {component["purl"]: component for component in bill["components"]}
    locked = re.findall(
        r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE
    )
    for name, version in locked:
        component = found[f"pkg:pypi/{name}@{version}"]
        assert component["externalReferences"][0]["hashes"]
    for _, package, _, _ in ROW.findall((STATIC / "README.md").read_text()):
        assert f"pkg:npm/{package.replace('@', '%40', package.count('@') - 1)}" in found
    assert len(found) == len(bill["components"]) == len(set(locked)) + len({"swagger", "scalar", "themes", "redoc"})


@pytest.mark.parametrize(
    ("output", "code", "ends_with", "said"),
    [
        pytest.param("No known vulnerabilities found", 0, 0, "No known vulnerabilities found", id="no flaw"),
        pytest.param("Found 1 known vulnerability in 1 package\nlitestar", 1, 2, "litestar", id="a flaw"),
        pytest.param(
            "Found 2 known vulnerabilities in 1 package\nfoo could not be audited",
            1,
            2,
            "Found 2",
            id="a flaw, one unknown",
        ),
        pytest.param("ERROR:pip_audit._cli:Could not connect", 1, 0, "not checked", id="no service"),
        pytest.param(
            "No known vulnerabilities found\nlitestar could not be audited: litestar", 0, 0, "not checked", id="unknown"
        ),
    ],
)
def test_audit(tmp_path: Path, output: str, code: int, ends_with: int, said: str) -> None:
    """A flaw fails the check. That nobody could be asked is the last line, and no flaw."""
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    tool.chmod(0o755)
    # Set up already: what is tried is the recipe.
    run = subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/.dev", "audit", f"AUDIT={tool}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == ends_with
    assert said in (run.stdout.splitlines()[-1] if code == 0 or ends_with == 0 else run.stdout)
