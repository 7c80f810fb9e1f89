"""Entry point of every `eventboard` process. From here on a signal ends it with the exit code for that signal."""

import gc
import os
import signal
import sys
from types import FrameType

from eventboard.core.signals import terminating_signals

# A signal is how they end, so they exit with 0. Other commands aren't done: they exit with 128 plus its number.
SERVING = (["serve"], ["dev"])


def main() -> int:
    # Before the imports, which take a second. Commands that have something to clean up set handlers of their own.
    for number in terminating_signals():
        signal.signal(number, _end)
    try:
        from eventboard.cli import main as command

        return command()
    finally:
        # Python would collect garbage several times while it exits, half a second of work.
        gc.freeze()


def _end(number: int, _: FrameType | None) -> None:
    """At once: an exception could be swallowed, by a destructor or by a module that handles a failed import."""
    os._exit(0 if sys.argv[1:2] in SERVING else 128 + number)


if __name__ == "__main__":
    sys.exit(main())
