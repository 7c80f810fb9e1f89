"""Asks whether what is installed has known flaws; where nobody can be asked, it says so and fails nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# What the program and its image are made of. Development's own packages never meet a stranger.
REQUIREMENTS = ("requirements/run.txt", "requirements/build.txt")
# Seconds for all of it.
PATIENCE = 120


def verdict(report: dict[str, Any] | None) -> tuple[int, str]:
    """The exit code and what to say; `report` is pip-audit's, None where there was none."""
    packages = report["dependencies"] if report else []
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return 0, "pip-audit: no list of known flaws can be reached from here, so none was looked for"
    found = [
        f"{package['name']} {package['version']}: {flaw['id']},"
        f" mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for package in asked
        for flaw in package["vulns"]
    ]
    if len(asked) < len(packages):
        found.append(f"{len(packages) - len(asked)} packages are unknown to the list of known flaws")
    if found:
        return 1, "\n".join(f"pip-audit: {line}" for line in found)
    return 0, f"pip-audit: no known flaw in {len(asked)} packages"


def main() -> int:
    command = [
        str(Path(sys.executable).with_name("pip-audit")),
        "--disable-pip",
        "--require-hashes",
        "--format",
        "json",
    ]
    command += ["--progress-spinner", "off", *(part for file in REQUIREMENTS for part in ("--requirement", file))]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        report = json.loads(asked.stdout) if asked.stdout else None
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        report = None
    code, text = verdict(report)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
