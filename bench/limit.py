"""The third baseline, the limit: one event by its key in Fastify with postgres.js, and in Bun, by the same SQL.

What they are made of is locked in baselines/limit and installed here, into a folder under var/.
"""

import filecmp
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bench.data import ROOT

FASTIFY, BUN = "Fastify", "Bun"

SOURCE = Path(__file__).parent / "baselines" / "limit"
FOLDER = ROOT / "var" / "bench-limit"
# Where requirements/bench.txt puts it.
BUN_PROGRAM = ROOT / ".venv" / "bin" / "bun"
LEAST_NODE = 20
LOCK = "package-lock.json"


@cache
def limits() -> dict[str, Sequence[str]]:
    """The command of each that can be run on this machine, in `FOLDER`; says what the others lack."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: dict[str, Sequence[str]] = {}
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        print(f"{FASTIFY} is left out: node and npm are missing", flush=True)
    elif lacking := _too_old(node) or _install(npm):
        print(f"{FASTIFY} is left out: {lacking}", flush=True)
    else:
        found[FASTIFY] = [node, "fastify.js"]
    if BUN_PROGRAM.exists():
        found[BUN] = [str(BUN_PROGRAM), "bun.js"]
    else:
        print(f"{BUN} is left out: there is no {BUN_PROGRAM}; make .venv/.bench", flush=True)
    for script in SOURCE.glob("*.js"):
        shutil.copy(script, FOLDER)
    return found


def _too_old(node: str) -> str:
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return "" if int(version.lstrip("v").split(".")[0]) >= LEAST_NODE else f"node is {version}, before {LEAST_NODE}"


def _install(npm: str) -> str:
    """From the lock file, whose hashes have to fit; why it failed."""
    installed = FOLDER / LOCK
    if (FOLDER / "node_modules").is_dir() and installed.exists() and filecmp.cmp(SOURCE / LOCK, installed, False):
        return ""
    for name in ("package.json", LOCK):
        shutil.copy(SOURCE / name, FOLDER)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        installed.unlink()
        return f"npm can't install it: {done.stderr.strip()}"
    return ""
