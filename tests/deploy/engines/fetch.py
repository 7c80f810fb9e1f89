"""What the tests of engines need: packages of another Debian suite, and wheels in an environment of their own.

Both are kept in a cache folder, EVENTBOARD_ENGINES or ~/.cache/eventboard/engines; nothing else of the machine changes.
Where something can't be fetched, the test is skipped, and says why.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventboard" / "engines"
CACHE = Path(os.environ.get("EVENTBOARD_ENGINES") or _CACHE)
# Seconds of one command: a package index on a slow day.
PATIENCE = 400
# Why something couldn't be fetched: the other tests of this run needn't try.
_failed: dict[str, str] = {}


def debian(suite: str, *packages: str) -> Path:
    """The folder in which they are unpacked, as in `/`. Dependencies aren't fetched: name them."""

    def fill(folder: Path) -> None:
        state = folder / "apt"
        archives = state / "cache" / "archives"
        for part in (state / "lists" / "partial", archives / "partial"):
            part.mkdir(parents=True)
        (state / "status").touch()
        # An old suite is signed by keys that a new machine doesn't know any more.
        (state / "sources.list").write_text(f"deb [trusted=yes] {_mirror()} {suite} main\n")
        chosen = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Check-Valid-Until": "false",
        }
        options = [word for name, value in chosen.items() for word in ("-o", f"{name}={value}")]
        _run("apt-get", *options, "-qq", "update")
        _run("apt-get", *options, "-qq", "download", *packages, cwd=archives)
        for archive in sorted(archives.glob("*.deb")):
            _run("dpkg-deb", "-x", archive, folder)
        shutil.rmtree(state)

    return _kept(suite, "\n".join(packages), f"{', '.join(packages)} of Debian {suite}", fill)


def environment(name: str) -> Path:
    """The Python of a virtual environment with requirements/<name>.txt."""
    requirements = ROOT / "requirements" / f"{name}.txt"

    def fill(folder: Path) -> None:
        _run(sys.executable, "-m", "venv", folder)
        pip = (folder / "bin" / "python", "-m", "pip", "-qq", "--disable-pip-version-check", "install")
        _run(*pip, "--require-hashes", "-r", requirements)

    key = f"{sys.version}\n{requirements.read_text()}"
    return _kept(name, key, f"what requirements/{name}.txt lists", fill) / "bin" / "python"


def _kept(name: str, key: str, described: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache that `fill` has filled, once: other runs wait for it."""
    folder = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    complete = folder / ".complete"
    if folder.name in _failed:
        pytest.skip(_failed[folder.name])
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                complete.touch()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None)
        reason = said.strip().splitlines()[-1] if said and said.strip() else str(error)
        _failed[folder.name] = f"{described} can't be fetched: {reason}"
        pytest.skip(_failed[folder.name])
    return folder


def _mirror() -> str:
    """The one that apt is set up with."""
    listed = _run("apt-get", "update", "--print-uris")
    if not (found := re.search(r"'(\S+/debian/?)dists/", listed)):
        raise OSError("apt is set up with no Debian mirror")
    return found[1]


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    arguments: Sequence[str | Path] = command
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout
