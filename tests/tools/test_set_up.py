"""What `make` does before it runs anything: one line where that fails, and the Python that was named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Without the machine's own index and files of packages.
NO_INDEX = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}


def environment(**values: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | values


def test_packages_that_can_not_be_installed() -> None:
    """One line of ours, with the reason, where pip has a dozen."""
    reasons = {
        "eventboard-nothing": "the package index can't be reached",
        "./no/such/folder": "Invalid requirement: './no/such/folder'",
    }
    for wanted, reason in reasons.items():
        command = [sys.executable, str(ROOT / "tools" / "install.py"), wanted]
        run = subprocess.run(command, env=environment(**NO_INDEX), capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert run.stderr.startswith(f"eventboard: the packages can't be installed: {reason}")
        assert run.stderr.count("\n") == 1


@pytest.mark.skipif(not (ROOT / ".venv" / ".run").exists(), reason="not set up by make")
def test_another_python_is_named() -> None:
    """.venv is made again for that one, and only then."""

    def plan(*variables: str) -> str:
        """What make would do."""
        command = ["make", "--dry-run", "--no-print-directory", ".venv/.run", *variables]
        clean = {name: value for name, value in environment().items() if name not in ("MAKEFLAGS", "PYTHON")}
        return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout

    same = Path(sys.executable).resolve()
    assert "-m venv" not in plan()
    assert "-m venv" not in plan(f"PYTHON={same}")
    assert '"/no/such/python" -m venv --clear' in plan("PYTHON=/no/such/python")


def test_benchmarks_without_their_packages() -> None:
    """Said at once, not after minutes of filling a database."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['fastapi'] = None; import bench.__main__ as b; b.main(['reads'])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == 'the packages of the baselines are missing: make bench PARTS="reads" installs them\n'
