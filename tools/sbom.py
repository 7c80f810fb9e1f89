"""A bill of materials (CycloneDX 1.6, JSON) of what runs: the locked packages, and the browser files that come along.

The same sources give the same bytes: no time and no random number is in it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.vendor_explorers import ROW, STATIC

ROOT = Path(__file__).parents[1]


def made() -> str:
    """Exits where a requirement isn't one exact version with its hashes."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", "requirements/run.txt"]
    command += ["--pyproject", "pyproject.toml", "--output-reproducible", "--no-validate"]
    bill = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    components: list[dict[str, Any]] = bill["components"]
    for component in components:
        # The tool repeats the requirement's line, with its number and its hashes, which are said elsewhere.
        component.pop("description", None)
        component["bom-ref"] = component["purl"]
        if "version" not in component or not component["externalReferences"][0]["hashes"]:
            sys.exit(f"{component['name']}: no exact version with hashes")
    components += _browser_files()
    root = bill["metadata"]["component"]["bom-ref"]
    needed = sorted(component["bom-ref"] for component in components)
    bill["dependencies"] = [{"ref": root, "dependsOn": needed}, *({"ref": name} for name in needed)]
    bill["components"] = sorted(components, key=lambda component: str(component["bom-ref"]))
    return json.dumps(bill, indent=2, ensure_ascii=False) + "\n"


def _browser_files() -> list[dict[str, Any]]:
    """One for each package, with a file of it each. From the table that the files themselves are made from."""
    found: dict[str, dict[str, Any]] = {}
    for file, package, _, sha256 in ROW.findall((STATIC / "README.md").read_text(encoding="utf-8")):
        name, _, version = package.rpartition("@")
        purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
        component = found.setdefault(
            purl,
            {"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl, "components": []},
        )
        component["components"].append(
            {
                "type": "file",
                "name": file,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
                "bom-ref": f"{purl}#{file}",
            }
        )
    return list(found.values())


def main() -> None:
    # Here, because importing it takes seconds, and the tests need only `made`.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text, target = made(), Path(sys.argv[1])
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"it is no CycloneDX: {wrong}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
