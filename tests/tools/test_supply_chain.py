"""What the program is made of: locked, listed, and asked about."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tools import sbom
from tools.audit import verdict
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


def package(*flaws: dict[str, Any]) -> dict[str, Any]:
    return {"name": "litestar", "version": "2.25.0", "vulns": list(flaws)}


UNKNOWN = {"name": "litestar", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("report", "code", "text"),
    [
        pytest.param(None, 0, "none was looked for", id="no service"),
        pytest.param({"dependencies": [UNKNOWN, UNKNOWN]}, 0, "none was looked for", id="a service that knows nothing"),
        pytest.param({"dependencies": [package()]}, 0, "no known flaw in 1 packages", id="no flaw"),
        pytest.param(
            {"dependencies": [package({"id": "PYSEC-1", "fix_versions": ["2.26"]}), package()]},
            1,
            "litestar 2.25.0: PYSEC-1, mended in 2.26",
            id="a flaw",
        ),
        pytest.param(
            {"dependencies": [package({"id": "PYSEC-1", "fix_versions": []})]}, 1, "mended in no version", id="for good"
        ),
        pytest.param({"dependencies": [package(), UNKNOWN]}, 1, "1 packages are unknown", id="one is unknown"),
    ],
)
def test_verdict(report: dict[str, Any] | None, code: int, text: str) -> None:
    """A flaw fails the check. That nobody could be asked is said, and is no flaw; that somebody knew half of it is."""
    assert verdict(report)[0] == code
    assert text in verdict(report)[1]
