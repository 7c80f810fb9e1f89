"""Runs pip for the Makefile: shows how far it is, and ends with one line where it fails."""

import re
import subprocess
import sys
import time
from pathlib import Path

LOG = Path(sys.prefix, "pip.log")
# Seconds between two lines where the output isn't a terminal.
EVERY = 10.0


def main(arguments: list[str]) -> int:
    begun = shown = time.monotonic()
    terminal = sys.stdout.isatty()
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", *arguments]
    with LOG.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as pip:
        while pip.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            if terminal or now - shown > EVERY:
                shown = now
                start, end = ("\r", "\x1b[K") if terminal else ("", "\n")
                print(f"{start}  {_progress()}, {now - begun:.0f} s", end=end, flush=True)
    if terminal:
        print("\r\x1b[K", end="")
    if pip.returncode == 0:
        return 0
    print(f"eventboard: the packages can't be installed: {_reason()} (more in {LOG})", file=sys.stderr)
    return 1


def _progress() -> str:
    log = _log()
    if "\nInstalling collected packages" in log:
        return "installing them"
    return f"{len(re.findall('^(?:Collecting|Requirement already)', log, re.MULTILINE))} packages found"


def _reason() -> str:
    log = _log()
    if re.search("^WARNING: Retrying .*(?:onnect|resol|ime)", log, re.MULTILINE):
        return "the package index can't be reached; is this machine online?"
    lines = log.strip().splitlines() or ["pip printed nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:])[0]


def _log() -> str:
    return LOG.read_text(errors="replace")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
