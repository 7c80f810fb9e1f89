"""Recreates the explorers' vendored browser files from the table in their README, to the byte, or refuses."""

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

STATIC = Path(__file__).parents[1] / "src" / "eventboard" / "gateway" / "static"
ROW = re.compile(r"^\| (\S+) \| (\S+@\d\S*) \| (\S+) \| \S+ \| (\S*) \|$", re.MULTILINE)


def fetch(package: str) -> bytes:
    """The package's archive (gzipped tar) from whichever registry npm is set to use."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to fetch the packages")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([npm, "pack", "--silent", "--pack-destination", folder, package], check=True, stdout=sys.stderr)
        (archive,) = Path(folder).iterdir()
        return archive.read_bytes()


def main() -> None:
    rows = ROW.findall((STATIC / "README.md").read_text(encoding="utf-8"))
    archives = {package: fetch(package) for package in dict.fromkeys(package for _, package, _, _ in rows)}
    contents: dict[str, bytes] = {}
    differing = []
    for name, package, member, pinned in rows:
        with tarfile.open(fileobj=io.BytesIO(archives[package])) as archive:
            file = archive.extractfile(f"package/{member}")
            if file is None:
                sys.exit(f"{package} has no file {member}")
            contents[name] = file.read()
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != pinned:
            differing.append(f"{name}: {package} gives {found}, the README says {pinned}")
    if differing:
        sys.exit("\n".join(differing))

    # Only these folders: a file that has left the table leaves the folder too, and our own pages stay.
    for folder in {Path(name).parts[0] for name in contents}:
        shutil.rmtree(STATIC / folder, ignore_errors=True)
    for name, content in contents.items():
        path = STATIC / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
